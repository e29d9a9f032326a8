"""What holds for an execution from its POST on, whatever happens to its job meanwhile."""

import random
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import TaskLease
from tidemill.model.region import HOSTED
from tidemill.scheduler.leases import LeaseMaker
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.store.schema import attempt, execution, job, workspace

PATH = "/v0/jobs/sweep/executions"


def started(api: Api, body: object = None) -> str:
    answer = api.post(PATH, b"" if body is None else body)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["executionId"]
    return found


def lease_of(api: Api, name: str) -> TaskLease:
    """What a node would be given for the first task now."""
    policy = SchedulerPolicy(task_url="http://t/v0", run_url="http://t")
    maker = LeaseMaker(database=api.parts.database, keyring=api.parts.keyring, policy=policy)
    made = maker.make([AttemptId(OwnerKind.TASK, api.key(name), 0, 1)])
    (lease,) = made.leases
    assert isinstance(lease, TaskLease)
    return lease


@pytest.mark.parametrize("spec", [{"enabled": False}, {"revision": {"traffic": 0}}])
def test_what_was_accepted_runs_on_when_its_job_is_disabled_or_paused(api: Api, spec: dict[str, Any]) -> None:
    api.deployed(maxConcurrentTasks=1)
    name = started(api, {"tasks": [{}, {}]})
    api.run_task(name, 0)
    assert api.put("/v0/jobs/sweep", {"spec": spec}).status_code == 200
    assert_problem(api.post(PATH, b""), 409, "NOT_RUNNABLE")
    api.end_task(name, 0)
    api.claim(name, 1)
    api.end_task(name, 1)
    assert api.get(f"{PATH}/{name}").json()["status"] == "succeeded"


def test_an_execution_runs_what_it_was_made_with_through_a_deploy_in_its_middle(api: Api) -> None:
    api.deployed(memory=512, timeout=90, maxRetries=1, envs=[{"name": "CITY", "value": "Lyon"}])
    old = started(api)
    before = lease_of(api, old)
    runtime = {"memory": 256, "timeout": 5, "maxRetries": 0, "envs": [{"name": "CITY", "value": "Oslo"}]}
    answer = api.put("/v0/jobs/sweep?upload=true", {"spec": {"runtime": runtime}})
    assert api.upload(answer).status_code == 200
    api.finish_build()
    new = started(api)
    assert lease_of(api, old) == before
    after = lease_of(api, new)
    assert (before.memory_mb, before.timeout_s, before.environment["CITY"]) == (512, 90, "Lyon")
    assert (after.memory_mb, after.timeout_s, after.environment["CITY"]) == (256, 5, "Oslo")
    assert after.image.digest != before.image.digest
    rows = api.parts.database.read(
        lambda connection: connection.execute(select(execution.c.revision, execution.c.max_retries)).all()
    )
    active = api.parts.database.read(lambda connection: connection.scalar(select(job.c.active_revision)))
    assert sorted(row.max_retries for row in rows) == [0, 1]
    assert [row.revision for row in rows if row.max_retries == 0] == [active]
    assert len({row.revision for row in rows}) == 2


def test_memory_and_environment_of_an_execution_lie_over_those_of_its_job(api: Api) -> None:
    envs = [{"name": "CITY", "value": "Lyon"}, {"name": "RIVER", "value": "Saone"}]
    api.deployed(memory=512, envs=envs)
    name = started(api, {"memory": 64, "env": {"CITY": "Oslo", "BL_NAME": "mine"}})
    lease = lease_of(api, name)
    found = {each: lease.environment[each] for each in ("CITY", "RIVER", "BL_NAME")}
    assert (lease.memory_mb, found) == (64, {"CITY": "Oslo", "RIVER": "Saone", "BL_NAME": "sweep"})
    api.run_task(name, 0)
    held = api.parts.database.read(lambda connection: connection.scalar(select(attempt.c.memory_mb)))
    assert held == 64


def test_what_no_node_can_hold_is_400_for_who_will_not_wait(api: Api) -> None:
    api.deployed(memory=4_000)
    api.node(memory_mb=1_000)
    message = assert_problem(api.post(PATH, {"allowQueue": False}), 400, "INVALID")
    assert "4000" in message
    assert "1000" in message
    assert api.post(PATH, {"allowQueue": False, "memory": 1_000}).status_code == 200
    # who waits may get a bigger node
    assert api.post(PATH, b"").status_code == 200


def test_a_success_whose_result_was_dropped_says_so_and_stays_one(api: Api) -> None:
    api.deployed()
    name = started(api)
    api.run_task(name, 0)
    api.end_task(name, 0, result_error="the result has 2 MB; it may have 1")
    task = api.get(f"{PATH}/{name}/tasks/0").json()
    (condition,) = task["conditions"]
    assert (task["status"], condition["reason"]) == ("succeeded", "ResultRejected")
    assert condition["message"] == "the result has 2 MB; it may have 1"
    assert api.get(f"{PATH}/{name}").json()["status"] == "succeeded"


def test_the_hosted_services_regions_mean_this_servers_nodes_and_others_are_400_listing_them(api: Api) -> None:
    assert api.deployed()["spec"]["region"] == "local"
    for region in HOSTED:
        assert api.put("/v0/jobs/sweep", {"spec": {"region": region}}).json()["spec"]["region"] == region
    message = assert_problem(api.put("/v0/jobs/sweep", {"spec": {"region": "mars-1"}}), 400, "INVALID")
    assert all(region in message for region in HOSTED)


def test_a_workspace_runs_100_executions_at_once_and_any_number_of_tasks(api: Api) -> None:
    rows = api.parts.database.read(lambda connection: connection.execute(workspace.select()).all())
    assert {(row.max_parallel_executions, row.max_concurrent_tasks) for row in rows} == {(100, None)}


def test_a_delete_of_a_job_ends_what_runs_by_force(api: Api) -> None:
    api.deployed(maxConcurrentTasks=1)
    name = started(api, {"tasks": [{}, {}]})
    api.run_task(name, 0)
    api.delete("/v0/jobs/sweep")
    row = api.parts.database.read(lambda connection: connection.execute(execution.select()).one())
    assert (row.state, row.force) == ("cancelling", 1)


def test_a_write_without_room_on_the_disk_is_503_to_be_sent_again_and_works_when_there_is_room(api: Api) -> None:
    api.deployed()

    def bound(pages: str) -> None:
        api.parts.database.write(
            lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one()
        )

    body = {"tasks": [{"x": random.Random(number).randbytes(500_000).hex()} for number in range(2)]}
    bound("1")  # which SQLite takes for "no bigger than it is"
    answer = api.post(PATH, body)
    assert_problem(answer, 503, "OUT_OF_SPACE")
    assert answer.headers["x-should-retry"] == "true"
    assert api.get("/v0/jobs/sweep").status_code == 200
    bound("1000000")
    assert api.post(PATH, body).status_code == 200
