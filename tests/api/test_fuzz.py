"""Bodies, headers, paths and queries that nobody would send on purpose: never a 500, and nothing half made."""

import json
import re
from typing import Any, Final

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.api.asking import PAGED, Api
from tests.api.test_access import routes
from tidemill.api import app as app_module
from tidemill.store import schema

JOBS: Final = "/v0/jobs?upload=true"
RUNS: Final = "/v0/jobs/sweep/executions"
FUZZ: Final = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

odd_text = st.one_of(
    st.sampled_from(
        ["", "\0", "a\0b", "\ud800", "x\udfff", "****", "a=b", "../..", "é" * 70, "x" * 300, "💣", "__proto__"]
    ),
    st.text(alphabet=st.characters(), max_size=8),
)
odd_number = st.one_of(
    st.sampled_from([-1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 1e308, -0.0, 1.5]),
    st.integers(),
    st.floats(),
)
odd = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_number, odd_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=6,
)


def like(good: Any, *, wrong: int = 6) -> st.SearchStrategy[Any]:
    """A good value, one whose parts went odd, or something else altogether."""
    if isinstance(good, dict):
        members = {name: like(value) for name, value in good.items()}
        shaped: st.SearchStrategy[Any] = st.builds(
            lambda known, more: {**known, **more},
            st.fixed_dictionaries({}, optional=members),
            st.one_of(st.just({}), st.dictionaries(odd_text, odd, max_size=1)),
        )
    elif isinstance(good, list):
        shaped = st.lists(like(good[0]), max_size=2)
    else:
        shaped = st.just(good)
    return st.integers(0, wrong).flatmap(lambda dice: odd if dice == 0 else shaped)


JOB: Final = {
    "metadata": {"name": "made", "displayName": "Made", "externalId": "id-1", "labels": {"team": "blue"}},
    "spec": {
        "enabled": True,
        "policies": ["eu"],
        "githubRunner": {"repositories": ["a/b"]},
        "volumes": [{"name": "v", "mountPath": "/v", "type": "ephemeral", "sizeMb": 1, "readOnly": False}],
        "runtime": {
            "memory": 64,
            "timeout": 5,
            "maxRetries": 1,
            "maxConcurrentTasks": 2,
            "generation": "mk3",
            "network": "none",
            "diskPercent": 50,
            "envs": [{"name": "A", "value": "b", "secret": True}],
            "ports": [{"target": 80, "name": "web", "protocol": "HTTP"}],
            "retryPolicy": {"initialSeconds": 1, "factor": 2.0, "maxSeconds": 9, "neverOn": [3, "Timeout"]},
        },
    },
}
EXECUTION: Final = {
    "tasks": [{"n": 1, "text": "x"}],
    "env": {"A": "b"},
    "memory": 64,
    "executionId": "nightly-01",
    "id": "request-1",
    "allowQueue": True,
}
RERUN: Final = {
    "select": {"status": ["cancelled"], "exitCode": [1], "reason": ["ExitCode"], "indices": [0, "0-1"]},
    "memory": 64,
    "timeout": 5,
    "env": {"A": "b"},
    "revision": "same",
    "executionId": "nightly-02",
    "allowQueue": True,
}


def assert_refused(answer: httpx2.Response) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json().keys() == {"code", "error", "error_code", "message"}
    assert len(answer.content) < 8_000


def rows(api: Api) -> list[int]:
    """How many rows each table has that a request could leave something in."""
    tables = [schema.job, schema.revision, schema.build, schema.execution, schema.input_set, schema.task_range]
    return api.parts.database.read(
        lambda connection: [connection.execute(select(func.count()).select_from(each)).scalar_one() for each in tables]
    )


def spelled(body: Any) -> bytes:
    """JSON as a careless program writes it: NaN, Infinity and lone surrogates included."""
    return json.dumps(body).encode()


@FUZZ
@given(body=like(JOB))
def test_a_job_of_any_shape_is_refused_or_can_be_read_back(api: Api, body: Any) -> None:
    before = rows(api)
    answer = api.post(JOBS, spelled(body))
    if answer.status_code != 200:
        assert_refused(answer)
        assert rows(api) == before
        return
    name = answer.json()["metadata"]["name"]
    assert api.get(f"/v0/jobs/{name}").status_code == 200
    assert api.get("/v0/jobs?q=zz").status_code == 200
    assert api.get("/v0/jobs").status_code == 200
    again = api.put(f"/v0/jobs/{name}?upload=true", spelled(body))
    assert again.status_code == 200 or "the mask" in again.text, again.text
    assert api.delete(f"/v0/jobs/{name}").status_code == 200


@FUZZ
@given(body=like(JOB))
def test_a_change_of_any_shape_is_refused_or_can_be_read_back(api: Api, body: Any) -> None:
    if not rows(api)[0]:
        api.deployed("made")
    before = rows(api), api.get("/v0/jobs/made").content
    answer = api.put("/v0/jobs/made", spelled(body))
    if answer.status_code != 200:
        assert_refused(answer)
        assert (rows(api), api.get("/v0/jobs/made").content) == before
    assert api.get("/v0/jobs/made?show_secrets=true").status_code == 200
    assert api.get("/v0/jobs").status_code == 200


@FUZZ
@given(body=like(EXECUTION), key=odd_text)
def test_an_execution_of_any_shape_is_refused_or_can_be_read_back(api: Api, body: Any, key: str) -> None:
    if not rows(api)[0]:
        api.deployed()
    before = rows(api)
    headers = {"Idempotency-Key": key.encode("latin-1", "replace")}
    answer = api.post(RUNS, spelled(body), headers=headers)
    if answer.status_code != 200:
        assert_refused(answer)
        assert rows(api) == before
        return
    path = f"{RUNS}/{answer.json()['executionId']}"
    for suffix in ("", "/tasks", "/tasks/0", "/explain"):
        assert api.get(f"{path}{suffix}").status_code == 200
    assert api.get(RUNS).status_code == 200
    assert api.delete(path).status_code == 200


@FUZZ
@given(body=like(RERUN))
def test_a_rerun_of_any_shape_is_refused_or_can_be_read_back(api: Api, body: Any) -> None:
    if not rows(api)[0]:
        api.deployed()
        api.node()
        api.post(RUNS, {"executionId": "the-origin", "tasks": [{}, {}]})
        api.delete(f"{RUNS}/the-origin")
    before = rows(api)
    answer = api.post(f"{RUNS}/the-origin/rerun", spelled(body))
    if answer.status_code != 200:
        assert_refused(answer)
        assert rows(api) == before
        return
    assert api.get(f"{RUNS}/{answer.json()['executionId']}").status_code == 200
    assert api.get(f"{RUNS}/the-origin").status_code == 200
    assert api.get(RUNS).status_code == 200


BAD_BODIES: Final = [
    b"",
    b"\xff\xfe",
    b'{"metadata": {"name": "\xff"}}',
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e400}',
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"a": "\\ud800"}',
    b'{"\\udfff": 1}',
    b'{"a": "\\udc00\\ud800"}',
    b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    b"[" * 100_000,
    b'{"metadata": {"name": "\\u0000"}}',
    b"null",
    b'"text"',
    b"7",
    b"a=b&c=d",
]


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "é", ""]
)
@pytest.mark.parametrize("body", BAD_BODIES)
def test_bytes_that_are_no_request_are_refused_by_every_route_that_reads_them(
    kept: Api, body: bytes, content_type: str
) -> None:
    before = rows(kept)
    headers: dict[str, Any] = {"Content-Type": content_type.encode("latin-1")}
    assert_refused(kept.post(JOBS, body, headers=headers))
    if body:
        assert_refused(kept.post(f"{RUNS}/00000000/rerun", body, headers=headers))
    if body and b'"a"' not in body:
        assert_refused(kept.post(RUNS, body, headers=headers)) if b"metadata" not in body else None
    if b"metadata" not in body:
        assert_refused(kept.put("/v0/jobs/sweep", body, headers=headers))
    assert rows(kept)[:3] == before[:3]


def test_of_a_member_given_twice_the_last_one_counts(kept: Api) -> None:
    body = b'{"metadata": {"name": "Bad Name"}, "metadata": {"name": "good"}, "spec": {}}'
    assert kept.post(JOBS, body).json()["metadata"]["name"] == "good"


ODD_PARTS: Final = [
    "%00",
    "%ff",
    "%ff%fe%00",
    "..%2f..",
    "%2e%2e",
    "x" * 5_000,
    "%F0%9F%92%A3",
    "%0a%0d",
    "'%22;--",
    "task-%00",
]


def every_route(kept: Api) -> list[tuple[str, str]]:
    app = app_module.build(kept.context)
    return sorted((method, route.path_format) for route in routes(app) for method in route.methods or ())


@pytest.mark.parametrize("part", ODD_PARTS)
def test_odd_parts_of_paths_name_nothing(kept: Api, part: str) -> None:
    for method, path in every_route(kept):
        if "{" not in path:
            continue
        asked = re.sub(r"\{[^}]*\}", lambda _: part, path)
        content = b'{"metadata":{},"spec":{}}' if method in {"POST", "PUT"} else b""
        answer = kept.request(method, asked, content=content)
        assert_refused(answer)
        nearly = re.sub(r"\{[^}]*\}", lambda _: part, path.replace("{name}", "sweep"))
        if nearly != asked and "{" in path.replace("{name}", ""):
            assert_refused(kept.request(method, nearly, content=content))


QUERIES: Final = [
    "limit=-1",
    "limit=0",
    "limit=1e9",
    "limit=99999999999999999999",
    "limit=%00",
    "limit=%D9%A3",
    "limit=5&limit=x",
    "offset=-1",
    "offset=99999999999999999999",
    "sort=size:asc",
    "sort=name",
    "sort=%ff",
    "sort=name:asc&sort=;--",
    "cursor=%00",
    "cursor=AAAA",
    "cursor=%ff%fe",
    "cursor=" + "A" * 10_000,
    "cursor=eyJhIjoxfQ",
    "anchor=start",
    "anchor=end&sort=name:asc",
    "status=%00",
    "status=happy",
    "status=,,,",
    "q=" + "x" * 201,
    "q=%00%00",
    "q=%ff%ff",
    "q=%25%25",
    "q=%27%22%3B--",
    "force=maybe",
    "show_secrets=7",
    "upload=%00",
    "upload=true&upload=no",
    "strict=%ff",
    "workspace=%00",
    "since=%00",
    "start=x&end=y",
    "follow=x",
    "tail=-1",
    "chain=x",
    "task=x",
]


@pytest.mark.parametrize("version", [None, PAGED])
@pytest.mark.parametrize("query", QUERIES)
def test_odd_queries_never_break_a_reading_route(kept: Api, query: str, version: str | None) -> None:
    run = kept.post(RUNS, {"executionId": "for-queries"}).json()["executionId"]
    kept.delete(f"{RUNS}/{run}")
    for method, path in every_route(kept):
        if method != "GET":
            continue
        asked = path.replace("{name}", "sweep").replace("{execution}", run).replace("{index}", "0")
        answer = kept.get(f"{asked}?{query}", headers={"Blaxel-Version": version})
        assert answer.status_code < 500 or path == "/readyz", (asked, answer.text)
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert path.startswith(("/login", "/device", "/docs")), path
        elif answer.status_code != 200:
            assert_refused(answer)


@pytest.mark.parametrize("version", ["x" * 10_000, "2026-04-28.beta", "\xff", "2026-04-28, 2026-04-16", "9999-99-99"])
def test_a_version_that_is_none_is_400(kept: Api, version: str) -> None:
    answer = kept.get("/v0/jobs", headers={"Blaxel-Version": version.encode("latin-1")})
    assert_refused(answer)
    assert answer.json()["error"] == "invalid_api_version"


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "9" * 5_000, "\xb2"])
def test_a_length_that_lies_breaks_nothing(kept: Api, length: str) -> None:
    for method, path in (("POST", JOBS), ("POST", RUNS), ("PUT", "/v0/jobs/sweep")):
        answer = kept.request(method, path, content=b"[]", headers={"Content-Length": length.encode("latin-1")})
        assert_refused(answer)


def test_a_name_with_a_nul_is_refused_each_time(kept: Api) -> None:
    for _ in range(2):
        assert_refused(kept.post(RUNS, {"id": "a\0b"}))
        assert_refused(kept.post(RUNS, {}, headers={"Idempotency-Key": b"a\0b"}))


def test_a_long_key_is_refused_and_one_of_odd_letters_is_a_key(kept: Api) -> None:
    assert_refused(kept.post(RUNS, {}, headers={"Idempotency-Key": "k" * 10_000}))
    odd_key: dict[str, Any] = {"Idempotency-Key": b"\xe9\xff"}
    first, second = (kept.post(RUNS, {}, headers=odd_key).json() for _ in range(2))
    assert first == second
