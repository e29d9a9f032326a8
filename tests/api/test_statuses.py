"""Every status of a job is reached by requests, and each change is told by an event."""

from typing import Any

import pytest

from tests.api.asking import Api
from tidemill.model.states import JobState

JOB = "/v0/jobs/sweep"


def put(api: Api, **spec: Any) -> str:
    answer = api.put(JOB, {"spec": spec})
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["status"]
    return found


def status(api: Api) -> str:
    found: str = api.get(JOB).json()["status"]
    return found


def events(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(JOB).json()["events"]
    return found


def told(api: Api, since: int = 0) -> list[str]:
    return [event["status"] for event in events(api)][since:]


def running(api: Api) -> str:
    found: str = api.post(f"{JOB}/executions", b"").json()["executionId"]
    api.run_task(found, 0)
    return found


def test_a_life_goes_through_every_status(api: Api) -> None:
    seen = []

    def look() -> None:
        seen.append(status(api))

    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": {}})
    look()
    api.upload(answer)
    look()
    api.fail_build("no such package")
    look()
    api.upload(api.put(f"{JOB}?upload=true", {"spec": {}}))
    api.finish_build()
    look()
    first = running(api)
    put(api, enabled=False)
    look()
    api.end_task(first, 0)
    look()
    put(api, enabled=True)
    look()
    walked = told(api)
    api.post(f"{JOB}/executions", {"executionId": "exec-last", "tasks": [{}]})
    api.run_task("exec-last", 0)
    assert api.delete(JOB).json()["status"] == "DELETING"
    look()
    assert api.get(JOB).status_code == 200
    api.end_task("exec-last", 0)
    assert api.get(JOB).status_code == 404
    (gone,) = api.get("/v0/jobs?status=TERMINATED").json()["data"]
    seen.append(gone["status"])
    assert seen == [
        "UPLOADING",
        "BUILDING",
        "FAILED",
        "DEPLOYED",
        "DEACTIVATING",
        "DEACTIVATED",
        "DEPLOYED",
        "DELETING",
        "TERMINATED",
    ]
    # DEPLOYING lasts no longer than a unit: only events tell of it
    assert walked == [
        *("UPLOADING", "BUILDING", "FAILED"),
        *("UPLOADING", "BUILDING", "DEPLOYING", "DEPLOYED"),
        *("DEACTIVATING", "DEACTIVATED"),
        *("DEPLOYING", "DEPLOYED"),
    ]
    statuses = [event["status"] for event in gone["events"]]
    assert statuses == [*walked, "DELETING", "TERMINATED"]
    assert set(statuses) == {state.value for state in JobState}


def test_each_event_says_what_happened_to_which_revision_and_when(api: Api) -> None:
    revision = api.deployed()["spec"]["revision"]["active"]
    api.later(5)
    put(api, enabled=False)
    *_, last = events(api)
    assert last.keys() == {"time", "type", "status", "message", "revision"}
    assert (last["type"], last["status"], last["revision"]) == ("deployment", "DEACTIVATED", revision)
    times = [event["time"] for event in events(api)]
    assert times == sorted(times)
    assert times[-1] > times[-2]
    assert last["message"]


def test_disabled_with_executions_it_is_deactivated_when_the_last_has_ended(api: Api) -> None:
    api.deployed()
    first, second = running(api), running(api)
    assert put(api, enabled=False) == "DEACTIVATING"
    api.end_task(first, 0)
    assert status(api) == "DEACTIVATING"
    api.delete(f"{JOB}/executions/{second}?force=true")
    api.end_task(second, 0)
    assert status(api) == "DEACTIVATED"
    assert "last execution" in events(api)[-1]["message"]


def test_enabled_again_while_executions_run_it_is_deployed_at_once(api: Api) -> None:
    api.deployed()
    name = running(api)
    put(api, enabled=False)
    begun = len(events(api))
    assert put(api, enabled=True) == "DEPLOYED"
    assert told(api, begun) == ["DEPLOYING", "DEPLOYED"]
    api.end_task(name, 0)
    assert status(api) == "DEPLOYED"
    assert told(api, begun) == ["DEPLOYING", "DEPLOYED"]


def test_an_image_that_is_there_already_takes_its_place_without_a_build(api: Api) -> None:
    image = api.deployed("other")["spec"]["runtime"]["image"]
    body = {"metadata": {"name": "sweep"}, "spec": {"runtime": {"image": image}}}
    assert api.post("/v0/jobs", body).json()["status"] == "DEPLOYED"
    assert told(api) == ["DEPLOYING", "DEPLOYED"]
    put(api, runtime={"timeout": 5})
    assert told(api) == ["DEPLOYING", "DEPLOYED", "DEPLOYING", "DEPLOYED"]
    put(api, policies=["eu"])
    assert told(api)[4:] == ["DEPLOYED"]


def test_a_job_that_was_made_disabled_is_deactivated_from_the_first(api: Api) -> None:
    image = api.deployed("other")["spec"]["runtime"]["image"]
    body = {"metadata": {"name": "sweep"}, "spec": {"enabled": False, "runtime": {"image": image}}}
    assert api.post("/v0/jobs", body).json()["status"] == "DEACTIVATED"


def test_the_newest_100_events_are_kept_and_shown_and_20_in_lists(api: Api) -> None:
    api.deployed()
    for number in range(60):
        api.later(1)
        put(api, enabled=bool(number % 2))
    found = events(api)
    assert len(found) == 94  # 4 of the deploy, 30 times DEACTIVATED, 30 times two of being enabled
    for number in range(60, 80):
        api.later(1)
        put(api, enabled=bool(number % 2))
    found = events(api)
    assert len(found) == 100
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    assert "UPLOADING" not in told(api)
    (listed,) = api.get("/v0/jobs").json()["data"]
    assert listed["events"] == found[-20:]
    assert put(api, enabled=True) == "DEPLOYED"


@pytest.mark.parametrize("state", ["DEPLOYED", "DEACTIVATED"])
def test_jobs_are_listed_by_status(api: Api, state: str) -> None:
    api.deployed()
    api.deployed("other")
    put(api, enabled=False)
    (found,) = api.get(f"/v0/jobs?status={state}").json()["data"]
    assert found["metadata"]["name"] == ("other" if state == "DEPLOYED" else "sweep")
