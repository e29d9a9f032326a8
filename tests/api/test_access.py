"""Who may ask, in which version, and what every refusal looks like."""

import re
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from structlog.testing import capture_logs

from tests.api.asking import ADMIN, MEMBER, PAGED, STRANGER, Api
from tests.costs import cost
from tidemill.api import app as app_module
from tidemill.api import problems
from tidemill.api.scopes import ANYWHERE, SCOPES
from tidemill.model import errors, principal
from tidemill.model.principal import Role

NONE: dict[str, Any] = {"Authorization": None}


def assert_problem(answer: httpx2.Response, status: int, error_code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"code", "error", "error_code", "message"}
    assert (body["code"], body["error_code"]) == (status, error_code)
    assert isinstance(body["error"], str)
    assert body["message"]
    message: str = body["message"]
    return message


def routes(router: Any) -> list[APIRoute]:
    found = []
    for route in router.routes:
        if isinstance(route, APIRoute):
            found.append(route)
        elif hasattr(route, "original_router"):
            prefix = getattr(route, "prefix", "")
            assert not prefix
            found += routes(route.original_router)
        elif hasattr(route, "routes"):
            found += routes(route)
    return found


def test_every_route_but_the_named_ones_asks_for_a_credential(api: Api) -> None:
    app = app_module.build(api.context)
    paths = {(method, route.path_format) for route in routes(app) for method in route.methods or ()}
    assert len(paths) >= 19
    assert {path for _, path in paths} >= set(app_module.PUBLIC)
    for method, path in paths:
        answer = api.request(method, re.sub(r"\{[^}]*\}", "nothing", path), headers=NONE)
        if path in app_module.PUBLIC:
            assert answer.status_code != 401, path
        else:
            assert_problem(answer, 401, "UNAUTHORIZED")


def test_every_guarded_route_asks_one_scope_that_admins_have(api: Api) -> None:
    app = app_module.build(api.context)
    guarded = {(method, each.path_format) for each in routes(app) for method in each.methods or ()}
    guarded = {route for route in guarded if route[1] not in app_module.PUBLIC}
    assert set(SCOPES) == guarded
    assert set(SCOPES.values()) <= principal.SCOPES[Role.ADMIN]
    assert guarded >= ANYWHERE


def test_no_guarded_route_is_reached_from_another_workspace(api: Api) -> None:
    for method, path in SCOPES:
        named = "/{workspace_in_path}/" in path or "/{workspace_name}" in path
        asked = re.sub(
            r"\{[^}]*\}", "nothing", path.replace("{workspace_in_path}", "other").replace("{workspace_name}", "other")
        )
        headers = {} if named else {"X-Blaxel-Workspace": "other"}
        answer = api.request(method, asked, headers=headers, content=b"{}")
        assert answer.status_code == (404 if "{workspace_name}" in path else 403), (method, path)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "Bearer tm_wrong", f"Token {ADMIN}"])
def test_a_bad_credential_is_401(api: Api, value: str) -> None:
    assert_problem(api.get("/v0/jobs", headers={"Authorization": value}), 401, "UNAUTHORIZED")


def test_the_key_may_come_in_either_header_and_the_official_one_wins(api: Api) -> None:
    good, bad = f"Bearer {ADMIN}", "Bearer tm_wrong"
    assert api.get("/v0/jobs", headers={"Authorization": None, "X-Blaxel-Authorization": good}).status_code == 200
    assert api.get("/v0/jobs", headers={"Authorization": bad, "X-Blaxel-Authorization": good}).status_code == 200
    assert api.get("/v0/jobs", headers={"Authorization": good, "X-Blaxel-Authorization": bad}).status_code == 401


def test_the_workspace_comes_from_header_query_or_the_credential(api: Api) -> None:
    assert api.get("/v0/workspaces").json()[0]["name"] == "main"
    assert api.get("/v0/jobs", headers={"X-Blaxel-Workspace": "main"}).status_code == 200
    assert api.get("/v0/jobs?workspace=main").status_code == 200
    # the official command line may send another workspace in the query of log calls
    assert api.get("/v0/jobs?workspace=other", headers={"X-Blaxel-Workspace": "main"}).status_code == 200


@pytest.mark.parametrize("name", ["other", "nowhere"])
def test_another_workspace_is_403_whether_it_exists_or_not(api: Api, name: str) -> None:
    assert_problem(api.get("/v0/jobs", headers={"X-Blaxel-Workspace": name}), 403, "FORBIDDEN")
    assert_problem(api.get(f"/v0/jobs?workspace={name}"), 403, "FORBIDDEN")
    assert_problem(api.post(f"/{name}/jobs/sweep/executions", b""), 403, "FORBIDDEN")


def test_things_of_another_workspace_do_not_exist(api: Api) -> None:
    api.deployed()
    execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
    stranger = {"Authorization": f"Bearer {STRANGER}"}
    for path in (
        "/v0/jobs/sweep",
        "/v0/workspaces/main",
        f"/v0/jobs/sweep/executions/{execution}",
        f"/v0/executions/{execution}",
        f"/v0/jobs/sweep/executions/{execution}/tasks",
        f"/v0/jobs/sweep/executions/{execution}/results",
        "/v0/observability/logs?workloadIds=sweep",
    ):
        assert_problem(api.get(path, headers=stranger), 404, "NOT_FOUND")
    assert_problem(api.delete(f"/v0/jobs/sweep/executions/{execution}", headers=stranger), 404, "NOT_FOUND")
    image = api.get("/v0/jobs/sweep").json()["spec"]["runtime"]["image"]
    taken = api.post(
        "/v0/jobs", {"metadata": {"name": "thief"}, "spec": {"runtime": {"image": image}}}, headers=stranger
    )
    assert_problem(taken, 400, "INVALID")


def test_what_is_anothers_is_refused_by_the_same_work_as_what_is_not_there(api: Api) -> None:
    api.deployed()
    execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
    stranger = {"Authorization": f"Bearer {STRANGER}"}
    missing = {"sweep": "swoop", execution: "0" * 8 + execution[8:], "main": "mane"}
    api.get("/v0/jobs", headers=stranger)  # the first use of the key is written down
    for path in (
        "/v0/jobs/sweep",
        "/v0/workspaces/main",
        f"/v0/jobs/sweep/executions/{execution}",
        f"/v0/executions/{execution}",
        "/v0/observability/logs?workloadIds=sweep",
        f"/v0/events?execution={execution}",
    ):
        nowhere = re.sub("|".join(missing), lambda found: missing[found[0]], path)
        theirs, none = (cost(partial(api.get, asked, headers=stranger)) for asked in (path, nowhere))
        assert theirs.statements == none.statements, path
        assert abs(theirs.steps - none.steps) <= 50, path  # a thousand of them take some ten microseconds
        answers = [api.get(asked, headers=stranger).json() for asked in (path, nowhere)]
        assert answers[0].keys() == answers[1].keys()
        assert [each["code"] for each in answers] == [404, 404]


def test_secrets_are_shown_to_admins_only(api: Api) -> None:
    api.deployed(envs=[{"name": "TOKEN", "value": "s3cret", "secret": True}])
    member = {"Authorization": f"Bearer {MEMBER}"}
    assert api.get("/v0/jobs/sweep", headers=member).json()["spec"]["runtime"]["envs"][0]["value"] == "****"
    assert_problem(api.get("/v0/jobs/sweep?show_secrets=true", headers=member), 403, "FORBIDDEN")
    shown = api.get("/v0/jobs/sweep?show_secrets=true").json()["spec"]["runtime"]["envs"]
    assert shown == [{"name": "TOKEN", "value": "s3cret", "secret": True}]


def test_an_unknown_version_is_named(api: Api) -> None:
    answer = api.get("/v0/jobs", headers={"Blaxel-Version": "2031-01-01"})
    assert "2031-01-01" in assert_problem(answer, 400, "INVALID_API_VERSION")
    assert answer.json()["error"] == "invalid_api_version"


@pytest.mark.parametrize("version", [None, "2026-04-16", "2026-04-20", "2026-04-16.preview"])
def test_old_versions_get_bare_lists(api: Api, version: str | None) -> None:
    api.deployed()
    jobs = api.get("/v0/jobs", headers={"Blaxel-Version": version}).json()
    assert [job["metadata"]["name"] for job in jobs] == ["sweep"]
    assert api.get("/v0/jobs/sweep/executions", headers={"Blaxel-Version": version}).json() == []


@pytest.mark.parametrize("version", [PAGED, f"{PAGED}.preview"])
def test_new_versions_get_pages(api: Api, version: str) -> None:
    page = api.get("/v0/jobs", headers={"Blaxel-Version": version}).json()
    assert page == {"data": [], "meta": {"hasMore": False, "nextCursor": "", "total": 0}}


def test_workspaces_are_a_bare_list_in_every_version(api: Api) -> None:
    for version in (None, PAGED):
        (workspace,) = api.get("/v0/workspaces", headers={"Blaxel-Version": version}).json()
        assert (workspace["name"], workspace["status"]) == ("main", "ready")
    assert api.get("/v0/workspaces/main").json()["name"] == "main"
    assert_problem(api.get("/v0/workspaces/nowhere"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/", "/v0", "/v0/nothing", "/v0/jobs/", "/v0/jobs/sweep/", "/v1/jobs"])
def test_no_path_is_ever_redirected(api: Api, path: str) -> None:
    assert_problem(api.get(path), 404, "NOT_FOUND")


def test_a_wrong_method_is_405_in_the_same_shape(api: Api) -> None:
    assert_problem(api.request("PATCH", "/v0/jobs"), 405, "METHOD_NOT_ALLOWED")
    assert_problem(api.request("POST", "/healthz"), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/healthz", "GET"),
        ("/v0/jobs", "GET, POST"),
        ("/v0/jobs/sweep", "DELETE, GET, PUT"),
        ("/v0/jobs/sweep/executions", "GET, POST"),
        ("/v0/jobs/sweep/executions/none", "DELETE, GET"),
        ("/main/jobs/sweep/executions", "POST"),
    ],
)
def test_a_405_names_every_method_of_its_path(api: Api, path: str, methods: str) -> None:
    for method in ("PATCH", "OPTIONS", "TRACE"):
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"a":NaN}', b"[" * 5000, b'{"a":1e999}']
)
def test_a_body_that_is_no_json_object_is_400(api: Api, body: bytes) -> None:
    assert_problem(api.post("/v0/jobs", body), 400, "INVALID")
    assert_problem(api.put("/v0/jobs/sweep", body), 400, "INVALID")


def test_a_body_that_nests_without_end_is_400(api: Api) -> None:
    body = b'{"metadata":{"name":"x"},"spec":{"deep":' + b"[" * 300 + b"]" * 300 + b"}}"
    assert "deep" in assert_problem(api.post("/v0/jobs?upload=true", body), 400, "INVALID")


def test_a_body_over_the_limit_is_413_before_it_is_parsed(api: Api) -> None:
    api.limit(body_bytes=1000)
    assert_problem(api.post("/v0/jobs", b"x" * 1001), 413, "TOO_LARGE")

    async def chunked(client: httpx2.AsyncClient) -> httpx2.Response:
        async def pieces() -> Any:
            for _ in range(11):
                yield b"x" * 100

        return await client.post("/v0/jobs", content=pieces(), headers=api.headers)

    assert_problem(api.session(chunked), 413, "TOO_LARGE")


def test_a_parameter_of_the_wrong_type_is_400(api: Api) -> None:
    assert "show_secrets" in assert_problem(api.get("/v0/jobs/sweep?show_secrets=perhaps"), 400, "INVALID")


def test_health_needs_no_credential(api: Api) -> None:
    assert api.get("/healthz", headers=NONE).json() == {"status": "alive"}
    assert api.get("/readyz", headers=NONE).json() == {"status": "ready"}


def test_readyz_says_why_no_work_is_accepted(api: Api) -> None:
    api.context = replace(api.context, problem=lambda: "the node does not answer")
    answer = api.get("/readyz")
    assert assert_problem(answer, 503, "OVERLOADED") == "the node does not answer"
    assert api.get("/healthz").status_code == 200


def test_a_bug_is_a_500_with_an_id_that_the_log_repeats_and_without_its_text(api: Api) -> None:
    def broken() -> datetime:
        raise ZeroDivisionError("what nobody should read")

    api.context = replace(api.context, clock=broken)
    with capture_logs() as logged:
        answer = api.get("/v0/jobs")
    message = assert_problem(answer, 500, "INTERNAL")
    assert "what nobody should read" not in answer.text
    (entry,) = logged
    assert entry["error_id"] in message


def test_every_error_has_a_status() -> None:
    def tree(kind: type[errors.TidemillError]) -> set[type[errors.TidemillError]]:
        return {kind}.union(*(tree(each) for each in kind.__subclasses__()))

    assert tree(errors.TidemillError) - {errors.TidemillError} == set(problems.STATUS)
