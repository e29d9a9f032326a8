"""GET /v0/jobs/NAME/triggers and POST …/triggers/ID/fire."""

from typing import Any

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.api.wire import timestamp
from tidemill.scheduler.fire import TriggerClock
from tidemill.store import check, nodes

JOB = "/v0/jobs/sweep"
MINUTELY = {"id": "often", "type": "cron", "enabled": True, "configuration": {"schedule": "* * * * *"}}
YEARLY = {
    "id": "seldom",
    "type": "cron",
    "enabled": False,
    "configuration": {"schedule": "0 3 1 1 *", "timezone": "Europe/Paris", "tasks": [{"a": 1}, {"a": 2}]},
}
HOOK = {"id": "hook", "type": "http", "enabled": True, "configuration": {"path": "/in"}}


@pytest.fixture
def triggered(api: Api) -> Api:
    api.deployed()
    assert api.put(JOB, {"spec": {"triggers": [MINUTELY, YEARLY, HOOK]}}).status_code == 200
    return api


def look(api: Api) -> None:
    """The trigger clock looks, as the server's does."""
    clock = TriggerClock(database=api.parts.database, steady=lambda: 0.0, regions=api.parts.regions)
    term = api.parts.database.write(lambda one: nodes.take_term(one, "scheduler", holder="test", now=api.now[0]))
    clock.tick(term, api.now[0])


def listed(api: Api) -> dict[str, Any]:
    answer = api.get(f"{JOB}/triggers")
    assert answer.status_code == 200, answer.text
    return {one["id"]: one for one in answer.json()}


def fired(api: Api, name: str, **options: Any) -> str:
    answer = api.post(f"{JOB}/triggers/{name}/fire", b"", **options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["jobId"] == "sweep"
    return str(answer.json()["executionId"])


def sound(api: Api) -> bool:
    return api.parts.database.read(check.violations) == []


def test_they_are_listed_with_their_next_five_runs(triggered: Api) -> None:
    found = listed(triggered)
    assert list(found) == ["often", "seldom", "hook"]
    runs = found["often"].pop("nextRuns")
    assert found["often"] == MINUTELY
    assert len(runs) == 5
    assert runs == sorted(runs)
    assert timestamp(triggered.now[0]) < runs[0]
    assert all(run.endswith(":00.000000Z") for run in runs), runs
    # what is disabled, and what a request fires, has none
    assert (found["seldom"]["nextRuns"], found["hook"]["nextRuns"]) == ([], [])
    assert "lastRun" not in found["hook"]


def test_the_last_run_says_what_became_of_it(triggered: Api) -> None:
    look(triggered)
    due = listed(triggered)["often"]["nextRuns"][0]
    triggered.later(60)
    look(triggered)
    last = listed(triggered)["often"]["lastRun"]
    execution = triggered.get(f"{JOB}/executions").json()["data"][0]["metadata"]["id"]
    assert last == {"dueAt": due, "outcome": "fired", "executionId": execution, "status": "pending"}
    triggered.put(JOB, {"spec": {"enabled": False}})
    triggered.later(60)
    look(triggered)
    last = listed(triggered)["often"]["lastRun"]
    assert last == {"dueAt": last["dueAt"], "outcome": "skipped", "reason": "JobDisabled"}


def test_one_is_fired_by_hand_whatever_its_type_and_enabled_or_not(triggered: Api) -> None:
    ids = [fired(triggered, name) for name in ("seldom", "hook", "seldom")]
    assert len(set(ids)) == 3
    shown = triggered.get(f"{JOB}/executions/{ids[0]}").json()
    assert shown["stats"]["total"] == 2
    assert shown["metadata"]["trigger"] == "seldom"
    assert "dueAt" not in shown["metadata"]
    assert listed(triggered)["seldom"]["lastRun"]["executionId"] == ids[2]
    assert sound(triggered)


def test_the_same_key_fires_once_and_another_trigger_with_it_is_409(triggered: Api) -> None:
    key = {"Idempotency-Key": "tonight"}
    first = fired(triggered, "often", headers=key)
    assert fired(triggered, "often", headers=key) == first
    assert_problem(triggered.post(f"{JOB}/triggers/hook/fire", b"", headers=key), 409, "CONFLICT")
    assert len(triggered.get(f"{JOB}/executions").json()["data"]) == 1
    assert sound(triggered)


def test_what_is_not_there_is_404_and_a_job_that_takes_nothing_refuses(triggered: Api) -> None:
    for path in (f"{JOB}/triggers/none/fire", "/v0/jobs/none/triggers/often/fire"):
        assert_problem(triggered.post(path, b""), 404, "NOT_FOUND")
    assert_problem(triggered.get("/v0/jobs/none/triggers"), 404, "NOT_FOUND")
    triggered.put(JOB, {"spec": {"enabled": False}})
    answer = triggered.post(f"{JOB}/triggers/often/fire", b"")
    assert answer.status_code == triggered.post(f"{JOB}/executions", b"").status_code
    assert "disabled" in answer.text
    assert triggered.get(f"{JOB}/executions").json()["data"] == []
    assert sound(triggered)
