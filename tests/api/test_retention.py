"""What a user sees of an execution, and of a job, that is kept no longer: nothing, at once."""

import itertools
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.lease import OutcomeKind
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.retain import Retention
from tidemill.store import schema

PATH = "/v0/jobs/sweep/executions"
DAY_S = 86_400


@pytest.fixture
def retention(api: Api) -> Retention:
    policy = SchedulerPolicy(task_url="http://t/v0", run_url="http://t", retention_days=30)
    parts = api.parts
    return Retention(database=parts.database, blobs=parts.blobs, logfiles=parts.logfiles, policy=policy)


def ended(api: Api, **body: Any) -> str:
    """An execution whose only task has succeeded."""
    execution: str = api.post(PATH, {"tasks": [{}], **body}).json()["executionId"]
    api.run_task(execution, 0)
    api.end_task(execution, 0, OutcomeKind.SUCCEEDED, result="1")
    assert api.get(f"{PATH}/{execution}").json()["status"] == "succeeded"
    return execution


def sweep(api: Api, retention: Retention) -> None:
    for _ in itertools.chain(retention.units(api.now[0]), retention.files(api.now[0])):
        pass


def paths(execution: str) -> list[str]:
    inside = ["", "/tasks", "/tasks/0", "/results", "/results?chain=true"]
    return [*(f"{PATH}/{execution}{end}" for end in inside), f"{PATH}/{execution[:8]}", f"/v0/executions/{execution}"]


def test_an_execution_that_is_forgotten_is_404_from_the_first_unit_on(api: Api, retention: Retention) -> None:
    api.deployed()
    old = ended(api)
    api.later(20 * DAY_S)
    new = ended(api)
    api.later(11 * DAY_S)
    for _ in retention.units(api.now[0]):
        left = api.parts.database.read(lambda connection: connection.execute(select(schema.forgotten.c.key)).all())
        if left:
            break
    for path in paths(old):
        assert_problem(api.get(path), 404, "NOT_FOUND")
    assert_problem(api.post(f"{PATH}/{old}/rerun", b""), 404, "NOT_FOUND")
    assert_problem(api.delete(f"{PATH}/{old}"), 404, "NOT_FOUND")
    assert_problem(api.get(f"/v0/observability/logs?workloadIds=sweep&executionId={old}"), 404, "NOT_FOUND")
    listed = api.get(PATH).json()
    assert [one["metadata"]["id"] for one in listed["data"]] == [new]
    assert listed["meta"]["total"] == 1
    for path in paths(new):
        assert api.get(path).status_code == 200


def test_a_key_is_free_when_its_execution_is_forgotten(api: Api, retention: Retention) -> None:
    api.deployed()
    headers = {"Idempotency-Key": "once"}
    body = {"tasks": [{"a": 1}], "executionId": "nightly-run"}
    assert api.post(PATH, body, headers=headers).status_code == 200
    api.run_task("nightly-run", 0)
    api.end_task("nightly-run", 0)
    api.later(29 * DAY_S)
    sweep(api, retention)
    assert_problem(api.post(PATH, {"tasks": [{"a": 2}]}, headers=headers), 409, "CONFLICT")
    api.later(2 * DAY_S)
    sweep(api, retention)
    other = {"tasks": [{"a": 2}], "executionId": "nightly-run"}
    assert api.post(PATH, other, headers=headers).status_code == 200
    assert api.get(f"{PATH}/nightly-run").json()["stats"]["total"] == 1


def test_a_revision_that_only_a_forgotten_execution_was_pinned_to_goes(api: Api, retention: Retention) -> None:
    api.deployed()
    first = api.revisions("sweep")[0]
    ended(api)
    for timeout in range(10, 17):
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": timeout}}})
    assert len(api.revisions("sweep")) == 6
    assert api.revisions("sweep")[0] == first
    api.later(31 * DAY_S)
    sweep(api, retention)
    assert len(api.revisions("sweep")) == 5
    assert first not in api.revisions("sweep")
    assert api.get("/v0/jobs/sweep").json()["status"] == "DEPLOYED"


def test_deploys_that_fail_drive_no_revision_out_that_served(api: Api) -> None:
    api.deployed()
    for timeout in range(10, 14):
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": timeout}}})
    served = api.revisions("sweep")
    for _ in range(5):
        api.upload(api.put("/v0/jobs/sweep?upload=true", {"spec": {}}))
        api.fail_build("no")
    api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 20}}})
    assert api.revisions("sweep")[:4] == served[1:]
    assert len(api.revisions("sweep")) == 5


def test_a_deleted_job_is_listed_and_its_executions_answer_until_their_time_is_up(
    api: Api, retention: Retention
) -> None:
    api.deployed()
    old = ended(api)
    built = schema.build.update().values(state="succeeded", ended_at=api.now[0])  # what no engine has reported here
    api.parts.database.write(lambda connection: connection.execute(built))
    api.later(60)
    api.delete("/v0/jobs/sweep")
    api.later(29 * DAY_S)
    sweep(api, retention)
    assert api.get(f"{PATH}/{old}").status_code == 200
    assert len(api.get("/v0/jobs?status=TERMINATED").json()["data"]) == 1
    api.later(2 * DAY_S)
    sweep(api, retention)
    assert api.get("/v0/jobs?status=TERMINATED").json()["data"] == []
    assert_problem(api.get(f"{PATH}/{old}"), 404, "NOT_FOUND")
    assert_problem(api.get(PATH), 404, "NOT_FOUND")
    for table in (schema.job, schema.revision, schema.job_event, schema.build, schema.upload):
        assert api.parts.database.read(lambda connection: connection.execute(select(table)).all()) == []  # noqa: B023


def test_the_image_of_the_active_revision_stays_and_an_older_one_can_be_rolled_back_to(
    api: Api, retention: Retention
) -> None:
    api.deployed()
    api.upload(api.put("/v0/jobs/sweep?upload=true", {"spec": {}}))
    api.finish_build()
    api.later(365 * DAY_S)
    sweep(api, retention)
    image = schema.image.c.digest
    assert len(api.parts.database.read(lambda connection: connection.scalars(select(image)).all())) == 2
    assert api.post(PATH, b"").status_code == 200
