"""Why something waits, or how it ended: GET .../explain."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from tests.api.asking import NODE, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import NodeId, OwnerKind
from tidemill.model.lease import NodeInfo, OutcomeKind
from tidemill.model.outlook import Waiter
from tidemill.store.schema import attempt as attempt_table
from tidemill.store.schema import execution as execution_table
from tidemill.store.schema import task as task_table
from tidemill.store.schema import workspace as workspace_table

PATH = "/v0/jobs/sweep/executions"
INFO = NodeInfo(id=NODE, region="local", memory_mb=4_000, slots=64, incarnation="i")


def started(api: Api, count: int, job: str = "sweep", **runtime: object) -> str:
    if api.get(f"/v0/jobs/{job}").status_code == 404:
        api.deployed(job, **{"maxConcurrentTasks": 1000, "memory": 100, **runtime})
    answer = api.post(f"/v0/jobs/{job}/executions", {"tasks": [{"n": number} for number in range(count)]})
    found: str = answer.json()["executionId"]
    return found


def why(api: Api, execution: str, task: object = None) -> dict[str, Any]:
    options = {} if task is None else {"params": {"task": str(task)}}
    answer = api.get(f"/v0/executions/{execution}/explain", **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["summary"].endswith(".")
    assert "unknown" not in found["summary"]
    return found


def limit(api: Api, **quota: int) -> None:
    """Give the workspace other quotas."""
    api.parts.database.write(
        lambda connection: connection.execute(
            update(workspace_table).where(workspace_table.c.name == "main").values(**quota)
        )
    )


def waits(api: Api, execution: str, task: object = None) -> str:
    return str(why(api, execution, task)["reason"])


# what keeps everything


def test_without_a_scheduler_nothing_is_started(api: Api) -> None:
    execution = started(api, 1)
    assert waits(api, execution) == waits(api, execution, 0) == "scheduler_silent"
    api.looks(INFO)
    api.later(61)
    found = why(api, execution)
    assert found["reason"] == "scheduler_silent"
    assert "2026-11-23T12:00:00Z" in found["summary"]


def test_what_stops_all_claims_is_told(api: Api) -> None:
    execution = started(api, 1)
    api.looks(INFO, stopped="the database cannot be written: the disk is full")
    found = why(api, execution)
    assert (found["reason"], found["message"]) == ("claims_stopped", "the database cannot be written: the disk is full")
    assert "the disk is full" in found["summary"]


@pytest.mark.parametrize(
    ("infos", "facts", "reason", "word"),
    [
        ((), {}, "no_node", "no node"),
        ((), {"engine": "node 7 speaks protocol 2"}, "no_node", "speaks protocol 2"),
        ((replace(INFO, memory_mb=0, slots=0),), {}, "node_drains", "drains"),
        ((INFO,), {"local": "it did not answer 'launch'"}, "node_unavailable", "did not answer"),
    ],
)
def test_a_platform_without_a_node_that_takes_work_says_so(
    api: Api, infos: tuple[NodeInfo, ...], facts: dict[str, Any], reason: str, word: str
) -> None:
    execution = started(api, 2)
    api.looks(*infos, **facts)
    for found in (why(api, execution), why(api, execution, 1)):
        assert found["reason"] == reason
        assert word in found["summary"]


def test_a_task_bigger_than_every_node_is_told_so(api: Api) -> None:
    execution = started(api, 1, memory=3_000)
    api.looks(replace(INFO, memory_mb=2_000), replace(INFO, id=NodeId("n2"), memory_mb=2_500))
    found = why(api, execution)
    assert (found["reason"], found["limit"], found["used"], found["node"]) == ("too_big", 2_500, 3_000, "n2")


# caps


def test_a_queued_execution_names_who_has_the_places_and_how_many_come_before(api: Api) -> None:
    api.looks(INFO)
    limit(api, max_parallel_executions=2)
    first, second = started(api, 1), started(api, 1)
    third, fourth = started(api, 1), started(api, 1)
    api.later(1)
    fifth = started(api, 1)
    found = why(api, fifth)
    assert found["reason"] == "workspace_executions"
    assert (found["cap"], found["limit"], found["used"]) == ("maxParallelExecutions", 2, 2)
    assert set(found["holders"]) == {first, second}
    assert "2 queued executions of this job come before it" in found["summary"]
    assert waits(api, fifth, 0) == "workspace_executions"
    limit(api, max_parallel_executions=3)
    assert waits(api, fifth) == "its_turn"
    assert {waits(api, third), waits(api, fourth)} == {"its_turn"}


def test_an_executions_own_limit_names_its_running_tasks_and_when_one_has_ended(api: Api) -> None:
    execution = started(api, 10, maxConcurrentTasks=2, timeout=300)
    api.looks(INFO)
    api.run_task(execution, 1)
    for found in (why(api, execution), why(api, execution, 5)):
        assert found["reason"] == "execution_tasks"
        assert (found["cap"], found["limit"], found["used"]) == ("maxConcurrentTasks", 2, 2)
        assert found["holders"] == [f"{execution}/0", f"{execution}/1"]
        assert found["until"] == "2026-11-23T12:05:10.000000Z"  # its time and the grace
    assert why(api, execution)["summary"].startswith("8 tasks wait because 2 tasks")


def test_a_workspaces_limit_names_the_executions_that_hold_it(api: Api) -> None:
    busy, execution = started(api, 2), started(api, 1)
    api.looks(INFO)
    limit(api, max_concurrent_tasks=2)
    api.run_task(busy, 1)
    found = why(api, execution)
    assert (found["reason"], found["holders"], found["limit"]) == ("workspace_tasks", [busy], 2)


def test_a_full_node_names_the_biggest_holder_first(api: Api) -> None:
    small, big = started(api, 1), started(api, 2, job="big", memory=1_000)
    execution = started(api, 1, job="more", memory=3_000)
    api.looks(INFO)
    api.run_task(small, 0)
    api.run_task(big, 1)
    found = why(api, execution, 0)
    assert (found["reason"], found["cap"], found["node"]) == ("node_memory", "node.memory", NODE)
    assert (found["limit"], found["used"]) == (4_000, 2_100)
    assert found["holders"] == [big, small]
    assert found["until"] == "2026-11-23T12:15:10.000000Z"
    assert "1900 of 4000 MB" in found["summary"]


def test_slots_that_are_all_taken_are_told(api: Api) -> None:
    busy, execution = started(api, 2), started(api, 1)
    api.looks(replace(INFO, slots=2))
    api.run_task(busy, 1)
    found = why(api, execution)
    assert (found["reason"], found["limit"], found["holders"]) == ("node_slots", 2, [busy])


def test_things_of_another_workspace_are_never_named(api: Api) -> None:
    busy, execution = started(api, 2), started(api, 1)
    api.looks(replace(INFO, slots=2))
    api.run_task(busy, 1)
    api.parts.database.write(lambda connection: connection.execute(update(attempt_table).values(workspace="other")))
    found = why(api, execution)
    assert "holders" not in found
    assert busy not in str(found)
    assert "held by tasks of other workspaces" in found["summary"]


def waiter(api: Api, execution: str, index: int | None = None) -> Waiter:
    return Waiter(kind=OwnerKind.TASK, owner=api.key(execution), index=index)


def test_a_node_that_is_kept_clear_says_for_whom(api: Api) -> None:
    big, execution = started(api, 2, memory=3_000), started(api, 1, job="small", memory=100)
    api.looks(INFO, cleared_for=waiter(api, big))
    found = why(api, execution)
    assert (found["reason"], found["node"], found["holders"]) == ("node_cleared", NODE, [big])
    assert f"kept clear for {big}," in found["summary"]
    assert waits(api, big) == waits(api, big, 0) == "its_turn"
    api.looks(INFO, replace(INFO, id=NodeId("n2"), memory_mb=200), cleared_for=waiter(api, big))
    assert waits(api, execution) == "its_turn"


def test_a_node_that_is_kept_clear_for_another_workspace_does_not_say_for_whom(api: Api) -> None:
    big, execution = started(api, 1), started(api, 1)
    cleared_for = waiter(api, big)
    api.parts.database.write(
        lambda connection: connection.execute(
            update(execution_table).where(execution_table.c.id == big).values(workspace="other")
        )
    )
    api.looks(INFO, cleared_for=cleared_for)
    found = why(api, execution)
    assert found["reason"] == "node_cleared"
    assert "something of another workspace" in found["summary"]
    assert big not in str(found)


def test_a_node_that_is_kept_clear_for_a_build_names_its_job(api: Api) -> None:
    execution = started(api, 1)
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "built"}, "spec": {}})
    assert api.upload(answer).status_code == 200
    api.looks(INFO, cleared_for=Waiter(kind=OwnerKind.BUILD, owner=api.build_key()))
    assert why(api, execution)["holders"] == ["build/built"]


def test_whoever_a_node_is_kept_clear_for_keeps_its_place_under_the_caps(api: Api) -> None:
    execution = started(api, 3, maxConcurrentTasks=1)
    api.looks(INFO, replace(INFO, id=NodeId("n2")), cleared_for=waiter(api, execution, 2))
    found = why(api, execution)
    assert (found["reason"], found["used"], found["limit"]) == ("execution_tasks", 1, 1)
    assert "0 tasks of the execution run" in found["summary"]
    assert "1 place of that kept" in found["summary"]
    other = started(api, 1)
    limit(api, max_concurrent_tasks=1)
    assert waits(api, other) == "workspace_tasks"


def test_when_there_is_room_its_turn_comes(api: Api) -> None:
    execution = started(api, 9)
    api.looks(INFO)
    assert waits(api, execution) == "its_turn"
    found = why(api, execution, 7)
    assert found["reason"] == "its_turn"
    assert "7 tasks of its execution come" in found["summary"]
    started(api, 1)
    assert "1 other execution" in why(api, execution)["summary"]


# retries


def failed_once(api: Api, kind: OutcomeKind = OutcomeKind.EXIT_CODE, **facts: Any) -> str:
    execution = started(api, 1, maxRetries=3)
    api.looks(INFO)
    api.run_task(execution, 0)
    api.end_task(execution, 0, kind, **facts)
    return execution


def test_a_retry_is_told_with_its_time_and_what_went_before(api: Api) -> None:
    execution = failed_once(api, exit_code=3, message="exit code 3")
    for found in (why(api, execution), why(api, execution, 0)):
        assert (found["reason"], found["exitCode"]) == ("retry", 3)
        assert found["until"] == "2026-11-23T12:00:01.000000Z"
        assert "attempt 1 of task 0 failed (exit code 3)" in found["summary"]
    api.later(2)
    assert waits(api, execution) == waits(api, execution, 0) == "its_turn"


def test_a_loss_waits_and_is_not_called_a_failure(api: Api) -> None:
    execution = failed_once(api, OutcomeKind.LOST, message="its node died")
    found = why(api, execution, 0)
    assert found["reason"] == "lost"
    assert "attempt 1 of task 0 was lost (its node died)" in found["summary"]


def test_a_task_that_was_lost_twice_waits_until_a_node_is_empty(api: Api) -> None:
    execution = failed_once(api, OutcomeKind.LOST)
    api.parts.database.write(lambda connection: connection.execute(update(task_table).values(lost_in_row=2)))
    busy = started(api, 1)
    api.run_task(busy, 0)
    api.later(2)
    found = why(api, execution, 0)
    assert (found["reason"], found["holders"], found["used"]) == ("runs_alone", [busy], 1)
    api.parts.database.write(
        lambda connection: connection.execute(
            update(attempt_table).where(attempt_table.c.ended_at.is_(None)).values(alone=1)
        )
    )
    other = started(api, 1)
    assert waits(api, other) == "node_taken_alone"


# what runs


def test_what_runs_says_since_when_and_until_when_at_most(api: Api) -> None:
    execution = started(api, 2, timeout=60)
    api.looks(INFO)
    api.run_task(execution, 1)
    api.later(5)
    api.end_task(execution, 1)
    whole, one = why(api, execution), why(api, execution, 0)
    assert (whole["reason"], whole["used"]) == ("running", 1)
    assert "1 of 2 have ended" in whole["summary"]
    for found in (whole, one):
        assert found["reason"] == "running"
        assert found["since"] == "2026-11-23T12:00:00.000000Z"
        assert found["until"] == "2026-11-23T12:01:10.000000Z"
    assert one["node"] == NODE


def test_a_time_that_is_up_is_no_promise(api: Api) -> None:
    execution = started(api, 2, maxConcurrentTasks=1, timeout=60)
    api.run_task(execution, 0)
    api.later(71)
    api.looks(INFO)
    blocked, one = why(api, execution), why(api, execution, 0)
    assert (blocked["reason"], one["reason"]) == ("execution_tasks", "running")
    assert "until" not in blocked
    assert "at the latest" not in blocked["summary"] + one["summary"]
    assert "its time was up at 2026-11-23T12:01:10Z" in one["summary"]
    api.delete(f"{PATH}/{execution}")
    assert "until" not in why(api, execution)


def test_what_has_been_given_away_and_not_begun_waits_for_its_image(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    api.parts.database.write(lambda connection: connection.execute(update(attempt_table).values(started_at=None)))
    api.looks(INFO)
    assert waits(api, execution) == waits(api, execution, 0) == "image"
    digest = f"{1:064x}"
    api.looks(replace(INFO, images=frozenset({digest})))
    assert waits(api, execution) == waits(api, execution, 0) == "starting"


def test_what_runs_on_a_node_that_does_not_answer_says_so(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    api.looks(engine="the node did not answer")
    for found in (why(api, execution), why(api, execution, 0)):
        assert found["reason"] == "node_unavailable"
        assert "the node did not answer" in found["summary"]


def test_a_cancel_says_what_still_runs(api: Api) -> None:
    execution = started(api, 3, maxConcurrentTasks=2)
    api.looks(INFO)
    api.run_task(execution, 1)
    api.delete(f"{PATH}/{execution}")
    found = why(api, execution)
    assert (found["reason"], found["holders"]) == ("cancelling", [f"{execution}/0", f"{execution}/1"])
    assert "may finish" in found["summary"]
    assert waits(api, execution, 0) == "running"
    assert waits(api, execution, 2) == "cancelled"
    api.delete(f"{PATH}/{execution}?force=true")
    assert "by force" in why(api, execution)["summary"]


# ends


def test_a_failed_execution_counts_its_failures_by_reason(api: Api) -> None:
    execution = started(api, 6)
    api.run_task(execution, 5)
    ends: dict[int, tuple[OutcomeKind, dict[str, Any]]] = {
        1: (OutcomeKind.TIMED_OUT, {"message": "ran longer than 900 s"}),
        2: (OutcomeKind.EXIT_CODE, {"exit_code": 3, "message": "exit code 3"}),
        3: (OutcomeKind.EXIT_CODE, {"exit_code": 4, "message": "exit code 4"}),
        4: (OutcomeKind.SIGNAL, {"signal": 11, "message": "signal 11"}),
        5: (OutcomeKind.OUT_OF_MEMORY, {"message": "used 200 MB"}),
    }
    api.end_task(execution, 0)
    for index, (kind, facts) in ends.items():
        api.end_task(execution, index, kind, **facts)
    found = why(api, execution)
    assert (found["reason"], found["condition"], found["exitCode"]) == ("failed", "ExitCode", 3)
    assert found["failures"] == [
        {"reason": "ExitCode", "count": 2, "firstIndex": 2, "message": "exit code 3", "exitCode": 3},
        {"reason": "Timeout", "count": 1, "firstIndex": 1, "message": "ran longer than 900 s"},
        {"reason": "Signal", "count": 1, "firstIndex": 4, "message": "signal 11", "signal": 11},
        {"reason": "OutOfMemory", "count": 1, "firstIndex": 5, "message": "used 200 MB"},
    ]
    assert "5 of 6 tasks failed: 2 with ExitCode, first task 2 (exit code 3)" in found["summary"]
    assert found["summary"].endswith("; 1 with OutOfMemory, first task 5 (used 200 MB).")
    one = why(api, execution, 1)
    assert (one["reason"], one["condition"], one["message"]) == ("failed", "Timeout", "ran longer than 900 s")
    assert "after 1 attempt: Timeout, ran longer than 900 s" in one["summary"]
    assert waits(api, execution, 0) == "succeeded"


def test_what_succeeded_or_was_cancelled_says_when(api: Api) -> None:
    execution, other = started(api, 1), started(api, 2)
    api.run_task(execution, 0)
    api.end_task(execution, 0)
    api.later(3)
    api.delete(f"{PATH}/{other}")
    found, cancelled = why(api, execution), why(api, other)
    assert (found["reason"], found["since"]) == ("succeeded", "2026-11-23T12:00:00.000000Z")
    assert (cancelled["reason"], cancelled["since"]) == ("cancelled", "2026-11-23T12:00:03.000000Z")
    assert cancelled["summary"].endswith("of 2 tasks 0 succeeded, 2 cancelled, 0 failed.")
    assert waits(api, other, 1) == "cancelled"


# how it is asked


def test_an_execution_is_named_by_a_prefix_and_a_task_by_index_or_name(api: Api) -> None:
    execution = started(api, 12)
    api.looks(INFO)
    assert api.get(f"{PATH}/{execution[:8]}/explain").json() == why(api, execution)
    assert why(api, execution[:8], "task-11") == why(api, execution, 11)


@pytest.mark.parametrize("task", ["12", "-1", "task-", "frog", "1" * 40, "1.5", ""])
def test_a_task_that_does_not_exist_is_404(api: Api, task: str) -> None:
    execution = started(api, 12)
    assert_problem(api.get(f"{PATH}/{execution}/explain", params={"task": task}), 404, "NOT_FOUND")


def test_what_does_not_exist_in_this_workspace_is_404(api: Api) -> None:
    execution = started(api, 1)
    assert_problem(api.get(f"{PATH}/ffffffff-nobody/explain"), 404, "NOT_FOUND")
    assert_problem(api.get(f"/v0/jobs/nobody/executions/{execution}/explain"), 404, "NOT_FOUND")
    stranger = {"Authorization": f"Bearer {STRANGER}"}
    assert_problem(api.get(f"{PATH}/{execution}/explain", headers=stranger), 404, "NOT_FOUND")
    assert_problem(api.get(f"/v0/executions/{execution}/explain", headers=stranger), 404, "NOT_FOUND")


def test_a_rerun_explains_its_tasks_by_their_index(api: Api) -> None:
    execution = started(api, 4)
    api.run_task(execution, 3)
    for index in range(4):
        api.end_task(execution, index, OutcomeKind.EXIT_CODE if index > 1 else OutcomeKind.SUCCEEDED)
    again = api.post(f"{PATH}/{execution}/rerun", b"").json()["executionId"]
    api.looks(INFO)
    assert "1 task of its execution comes" in why(api, again, 3)["summary"]
    assert_problem(api.get(f"{PATH}/{again}/explain", params={"task": "0"}), 404, "NOT_FOUND")


def test_the_cost_does_not_grow_with_the_tasks(api: Api) -> None:
    small, big = started(api, 1), started(api, 5_000)
    api.looks(INFO)
    api.run_task(big, 20)
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    def cost(execution: str, task: object) -> int:
        seen.clear()
        why(api, execution, task)
        return len(seen)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        # one of them is for the credential, and one begins
        costs = {(name, task): cost(name, task) for name in (small, big) for task in (None, 0, 1)[: 2 + (name == big)]}
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert 5 < max(costs.values()) <= 16
