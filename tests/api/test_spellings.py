"""One value has several spellings in JSON and in queries; a spelling that is none is refused, never taken for no."""

from typing import Any, Final

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem

JOB: Final = "/v0/jobs/sweep"
RUNS: Final = f"{JOB}/executions"


def put(api: Api, **spec: Any) -> dict[str, Any]:
    answer = api.put(JOB, {"spec": spec})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["spec"]
    return found


def test_a_whole_number_may_be_written_with_a_point(api: Api) -> None:
    api.deployed()
    runtime = put(api, runtime={"memory": 64.0, "timeout": 9e1, "maxRetries": 1.0, "ports": [{"target": 80.0}]})[
        "runtime"
    ]
    assert (runtime["memory"], runtime["timeout"], runtime["maxRetries"]) == (64, 90, 1)
    assert runtime["ports"] == [{"target": 80}]
    trigger = {"type": "http", "configuration": {"retry": 2.0, "timeout": 60.0}}
    assert put(api, triggers=[trigger])["triggers"][0]["configuration"] == {"retry": 2, "timeout": 60}
    assert put(api, revision={"canaryPercent": 10.0})["revision"]["canaryPercent"] == 10
    assert put(api, runtime={"retryPolicy": {"neverOn": [3.0]}})["runtime"]["retryPolicy"]["neverOn"] == [3]
    assert "64.5" in assert_problem(api.put(JOB, {"spec": {"runtime": {"memory": 64.5}}}), 400, "INVALID")


def test_a_request_is_the_same_with_and_without_a_point(api: Api) -> None:
    api.deployed(memory=64)
    first = api.post(RUNS, b'{"executionId": "with-point", "memory": 32.0}')
    again = api.post(RUNS, b'{"executionId": "with-point", "memory": 32}')
    assert (first.status_code, again.status_code) == (200, 200)
    assert api.get(f"{RUNS}/with-point").json()["spec"]["memoryOverride"] == 32


@pytest.mark.parametrize(("word", "strict"), [("1", True), ("True", True), ("yes", True), ("0", False), ("no", False)])
def test_strict_is_spelled_like_every_other_flag(api: Api, word: str, strict: bool) -> None:
    api.deployed()
    answer = api.post(f"{RUNS}?strict={word}", {"mood": "good"})
    assert (answer.status_code == 400) is strict, answer.text


@pytest.mark.parametrize("word", ["", "maybe", "2", "null"])
def test_a_strict_that_is_no_flag_is_400_and_lets_nothing_in(api: Api, word: str) -> None:
    api.deployed()
    for answer in (
        api.post(f"{RUNS}?strict={word}", {"mood": "good"}),
        api.put(f"{JOB}?strict={word}", {"spec": {}}),
        api.post(f"/v0/jobs?upload=true&strict={word}", {"metadata": {"name": "new"}}),
    ):
        assert "strict is" in assert_problem(answer, 400, "INVALID")
    assert api.get(RUNS).json()["meta"]["total"] == 0
