"""``spec.runtime.retryPolicy`` on its way from a request to an execution."""

from typing import Any

import pytest
from sqlalchemy import select

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.lease import OutcomeKind
from tidemill.store.schema import execution as execution_table

POLICY = {"initialSeconds": 0.5, "factor": 3, "maxSeconds": 10, "neverOn": [2, "OutOfMemory"]}
KEPT = {"initial_s": 0.5, "factor": 3, "max_s": 10, "never_on": [2, "OutOfMemory"], "extra": {}}
PATH = "/v0/jobs/sweep/executions"


def put(api: Api, policy: object, query: str = "") -> Any:
    return api.put(f"/v0/jobs/sweep{query}", {"spec": {"runtime": {"retryPolicy": policy}}})


def shown(api: Api) -> Any:
    return api.get("/v0/jobs/sweep").json()["spec"]["runtime"].get("retryPolicy")


def stored(api: Api, execution: str) -> Any:
    query = select(execution_table.c.retry_policy).where(execution_table.c.id == execution)
    return api.parts.database.read(lambda connection: connection.execute(query).scalar_one())


def started(api: Api) -> str:
    execution: str = api.post(PATH, b"").json()["executionId"]
    return execution


def test_a_policy_is_kept_in_the_revision_and_goes_with_the_execution(api: Api) -> None:
    api.deployed(maxRetries=2, retryPolicy=POLICY)
    assert shown(api) == POLICY
    first = started(api)
    assert stored(api, first) == KEPT
    put(api, {"factor": 1})
    assert len(api.revisions("sweep")) == 2
    assert stored(api, first) == KEPT
    assert stored(api, started(api))["factor"] == 1


def test_a_policy_is_replaced_as_a_whole_and_null_goes_back_to_the_default(api: Api) -> None:
    api.deployed(retryPolicy=POLICY)
    api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 7}}})
    assert shown(api) == POLICY
    put(api, {"factor": 4, "neverOn": ["timeout", 1, 1], "maxSeconds": None})
    assert shown(api) == {"initialSeconds": 1, "factor": 4, "maxSeconds": 60, "neverOn": ["Timeout", 1]}
    put(api, None)
    assert shown(api) is None
    assert stored(api, started(api)) == {}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"initialSeconds": -1}, "initialSeconds is -1; it must be 0 to 86400"),
        ({"initialSeconds": 61}, "maxSeconds is 60; it must be initialSeconds, 61, or more"),
        ({"maxSeconds": 86_401}, "maxSeconds is 86401; it must be 0 to 86400"),
        ({"factor": 0.5}, "factor is 0.5; it must be 1 to 100"),
        ({"factor": 101}, "factor is 101"),
        ({"factor": "2"}, "factor"),
        ({"factor": True}, "factor"),
        ({"neverOn": [0]}, "neverOn[0] is 0; it must be an exit code, 1 to 255, or one of ExitCode, Signal"),
        ({"neverOn": [256]}, "neverOn[0] is 256"),
        ({"neverOn": ["NodeLost"]}, 'neverOn[0] is "NodeLost"'),
        ({"neverOn": ["Sad"]}, 'neverOn[0] is "Sad"'),
        ({"neverOn": [True]}, "neverOn"),
        ({"neverOn": 3}, "neverOn"),
        ([], "spec.runtime.retryPolicy"),
    ],
)
def test_a_policy_that_cannot_be_right_is_400_naming_the_member(api: Api, policy: object, said: str) -> None:
    api.deployed()
    message = assert_problem(put(api, policy), 400, "INVALID")
    assert "spec.runtime.retryPolicy" in message
    assert said in message
    assert shown(api) is None


def test_unknown_members_of_a_policy_are_kept_and_refused_only_when_asked(api: Api) -> None:
    api.deployed()
    message = assert_problem(put(api, {"mood": 1}, "?strict=true"), 400, "INVALID")
    assert "spec.runtime.retryPolicy.mood" in message
    put(api, {"mood": 1})
    assert shown(api)["mood"] == 1


def test_a_rerun_keeps_the_policy_of_its_origin_or_takes_that_of_the_latest_revision(api: Api) -> None:
    api.deployed(retryPolicy=POLICY)
    origin = started(api)
    api.run_task(origin, 0)
    api.end_task(origin, 0, OutcomeKind.EXIT_CODE, exit_code=1)
    put(api, None)
    for revision, policy in (("same", KEPT), ("latest", {})):
        again = api.post(f"{PATH}/{origin}/rerun", {"revision": revision}).json()["executionId"]
        assert stored(api, again) == policy


def test_the_condition_says_which_word_forbade_a_retry(api: Api) -> None:
    api.deployed(maxRetries=2, retryPolicy=POLICY)
    execution = started(api)
    api.run_task(execution, 0)
    api.end_task(execution, 0, OutcomeKind.EXIT_CODE, exit_code=2, message="exit code 2")
    task = api.get(f"{PATH}/{execution}").json()["tasks"][0]
    (condition,) = task["conditions"]
    assert (task["status"], condition["reason"]) == ("failed", "ExitCode")
    assert condition["message"] == "not tried again, for retryPolicy.neverOn has 2: exit code 2"
