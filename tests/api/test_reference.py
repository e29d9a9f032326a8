"""The page at /docs: what it is made of, and that it cannot ask any other site for anything."""

import re

import pytest

from tests.api.asking import Api
from tests.api.test_access import NONE, assert_problem


def test_everything_that_the_page_names_is_this_servers_and_is_there(api: Api) -> None:
    page = api.get("/docs", headers=NONE)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert {"/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js", "/v0/openapi.json"} == set(named)
    for path in named:
        answer = api.get(path, headers=NONE)
        assert answer.status_code == 200, path
        assert answer.content, path


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css"])
def test_a_strict_policy_comes_with_all_of_it(api: Api, path: str) -> None:
    headers = api.get(path, headers=NONE).headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("file", ["redoc.standalone.js", "..%2fcore.py", "%2e%2e", "core.py", "favicon.png"])
def test_no_other_file_is_given(api: Api, file: str) -> None:
    assert_problem(api.get(f"/docs/{file}", headers=NONE), 404, "NOT_FOUND")
