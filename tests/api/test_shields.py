"""What every answer tells a browser, and which pages of other sites may ask at all."""

from typing import Any

import httpx2
import pytest

from tests.api.asking import Api
from tests.api.test_access import NONE
from tidemill.api import shields
from tidemill.api.app import Edge

PAGE = "https://console.example.com"
PREFLIGHT = {
    **NONE,
    "Blaxel-Version": None,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-blaxel-authorization, x-blaxel-workspace, content-type",
}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v0/jobs", {}, 200),
        ("GET", "/v0/jobs", NONE, 401),
        ("GET", "/nowhere", {}, 404),
        ("PATCH", "/v0/jobs", {}, 405),
        ("GET", "/healthz", NONE, 200),
        ("GET", "/v0/openapi.json", NONE, 200),
        ("PUT", "/uploads/nothing", NONE, 404),
    ],
)
def test_every_answer_shields_browsers(api: Api, method: str, path: str, headers: dict[str, Any], status: int) -> None:
    answer = api.request(method, path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_a_failure_of_ours_shields_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    object.__setattr__(api.context, "problem", broken)
    answer = api.get("/readyz")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_a_page_with_its_own_policy_keeps_it_once(api: Api) -> None:
    answer = api.get("/docs", headers=NONE)
    for name in shields.HEADERS:
        assert len(answer.headers.get_list(name)) == 1, name
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"


def opened_for(api: Api, *origins: str) -> None:
    api.edge, api.served = Edge(rates=api.edge.rates, origins=origins), None


def test_no_page_of_another_site_may_ask_by_default(api: Api) -> None:
    assert api.request("OPTIONS", "/v0/jobs", headers={**PREFLIGHT, "Origin": PAGE}).status_code == 405
    assert "access-control-allow-origin" not in api.get("/v0/jobs", headers={"Origin": PAGE}).headers


def test_a_listed_page_may_ask_and_its_preflight_needs_no_credential(api: Api) -> None:
    opened_for(api, PAGE)
    asked = api.request("OPTIONS", "/v0/jobs", headers={**PREFLIGHT, "Origin": PAGE})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "x-blaxel-authorization" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers  # a key of its own, never the browser's cookies

    answers = [api.get("/v0/jobs", headers={"Origin": PAGE}), api.get("/v0/jobs", headers={**NONE, "Origin": PAGE})]
    assert [answer.status_code for answer in answers] == [200, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"
        assert "X-Blaxel-Upload-Url" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", f"{PAGE}.evil.com", "http://console.example.com"]
)
def test_a_page_that_is_not_listed_may_not(api: Api, origin: str) -> None:
    opened_for(api, PAGE)
    asked: httpx2.Response = api.request("OPTIONS", "/v0/jobs", headers={**PREFLIGHT, "Origin": origin})
    assert asked.status_code == 400
    for answer in (asked, api.get("/v0/jobs", headers={"Origin": origin})):
        assert "access-control-allow-origin" not in answer.headers
