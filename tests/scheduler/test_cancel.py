"""A wish to cancel, in every state that an execution and its tasks can be in."""

import pytest

from tidemill.engine.fake import Fault, Play
from tidemill.model.execution import Stats
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import ExecutionState, TaskState
from tidemill.testing.sim import NODE, Given, Sim

FOR_EVER = Play(seconds=800.0)
FAILS = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1)


def stats(total: int, **counts: int) -> Stats:
    none = dict.fromkeys(("pending", "running", "succeeded", "failed", "cancelled", "retried"), 0)
    return Stats(total=total, **{**none, **counts})


def test_a_pending_execution_ends_at_once_and_touches_no_task(sim: Sim) -> None:
    key = sim.submit(Given(tasks=1_000_000 // 100))
    assert sim.cancel(key) is ExecutionState.CANCELLED
    assert sim.stats(key) == stats(10_000, cancelled=10_000)
    assert sim.task(key) is None
    assert sim.violations(at_rest=True) == []
    sim.tick()
    assert sim.live() == []


def test_a_queued_execution_ends_at_once(sim: Sim) -> None:
    sim.workspace(executions_at_once=1)
    first, second = sim.submit(Given()), sim.submit(Given())
    assert sim.state(second) is ExecutionState.QUEUED
    assert sim.cancel(second) is ExecutionState.CANCELLED
    sim.run()
    assert (sim.state(first), sim.state(second)) == (ExecutionState.SUCCEEDED, ExecutionState.CANCELLED)


def test_gracefully_no_new_task_starts_and_running_ones_finish(sim: Sim) -> None:
    key = sim.submit(Given(tasks=10, parallelism=3))
    sim.tick()
    assert sim.cancel(key) is ExecutionState.CANCELLING
    assert sim.stats(key) == stats(10, running=3, cancelled=7)
    sim.run()
    assert sim.state(key) is ExecutionState.CANCELLED
    assert sim.stats(key) == stats(10, succeeded=3, cancelled=7)
    assert len(sim.engine.starts()) == 3


def test_by_force_running_tasks_are_ended(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(tasks=10, parallelism=3))
    sim.tick()
    assert sim.cancel(key, force=True) is ExecutionState.CANCELLING
    sim.tick()
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLED
    assert sim.stats(key) == stats(10, cancelled=10)
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.reason, row.charged) == (TaskState.CANCELLED, "Cancelled", 0)
    assert sim.violations(at_rest=True) == []


def test_force_sharpens_an_earlier_cancel(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(tasks=2))
    sim.tick()
    sim.cancel(key)
    sim.tick()
    assert len(sim.engine.running(NODE.id)) == 2
    assert sim.cancel(key, force=True) is ExecutionState.CANCELLING
    assert sim.cancel(key, force=True) is ExecutionState.CANCELLING
    sim.tick()
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLED


def test_a_cancel_without_force_does_not_blunt_an_earlier_one(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given())
    sim.tick()
    sim.cancel(key, force=True)
    sim.cancel(key)
    sim.tick()
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLED


def test_a_task_that_waits_for_a_retry_reads_as_cancelled_and_its_row_stays(sim: Sim) -> None:
    sim.scripts.default = FAILS
    key = sim.submit(Given(tasks=2, parallelism=1, max_retries=5))
    sim.tick()
    sim.move(1.0)
    sim.hear()
    before = sim.task(key)
    assert before is not None
    assert before.state is TaskState.PENDING
    assert sim.cancel(key) is ExecutionState.CANCELLED
    assert sim.task(key) == before
    assert sim.stats(key) == stats(2, cancelled=2)
    sim.move(100.0)
    sim.tick()
    assert sim.live() == []
    assert sim.violations(at_rest=True) == []


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_retried_while_cancelling(sim: Sim, force: bool) -> None:
    sim.scripts.default = FAILS
    key = sim.submit(Given(tasks=1, max_retries=5))
    sim.tick()
    sim.move(1.0)  # it has failed, nobody knows
    sim.cancel(key, force=force)
    sim.tick()
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.reason, row.charged) == (TaskState.FAILED, "ExitCode", 1)
    assert sim.state(key) is ExecutionState.CANCELLED
    assert sim.stats(key) == stats(1, failed=1)


def test_a_loss_while_cancelling_ends_the_task_as_cancelled(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given())
    sim.tick()
    sim.cancel(key)
    sim.engine.crash(NODE.id)
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLED
    assert sim.stats(key) == stats(1, cancelled=1)


def test_a_cancel_that_was_told_to_nobody_is_told_again(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given())
    sim.tick()
    sim.cancel(key, force=True)
    sim.engine.fail("cancel", Fault.LOST)
    sim.tick()
    assert len(sim.engine.running(NODE.id)) == 1
    sim.move(1.0)
    sim.run()
    assert sim.state(key) is ExecutionState.CANCELLED


def test_a_node_is_told_once(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=800.0, dies_after=9.0)
    key = sim.submit(Given())
    sim.tick()
    sim.cancel(key, force=True)
    sim.tick()
    sim.engine.fail("cancel", Fault.LOST)  # another call would stumble over it
    for _ in range(5):
        sim.move(1.0)
        sim.tick()
        assert sim.parts.problems.current() is None
    sim.run()
    assert sim.state(key) is ExecutionState.CANCELLED


def test_cancelling_one_that_has_ended_changes_nothing(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.run()
    before = sim.stats(key)
    assert sim.cancel(key, force=True) is ExecutionState.SUCCEEDED
    assert sim.stats(key) == before


def test_an_attempt_that_somebody_else_killed_runs_again(sim: Sim) -> None:
    """A death nobody wished is the platform's, and costs no retry."""
    key = sim.submit(Given())
    sim.scripts.plays[0, 1] = FOR_EVER
    sim.tick()
    sim.engine.cancel(NODE.id, sim.live(), 1.0, sim.ticker.term)
    sim.run()
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.attempt, row.charged) == (TaskState.SUCCEEDED, 2, 0)


def test_claims_that_were_planned_before_a_cancel_do_no_harm(sim: Sim) -> None:
    key = sim.submit(Given(tasks=4))
    stale = sim.planned()
    sim.cancel(key)
    assert stale
    assert sim.claim(stale) == []
    assert sim.live() == []


def test_a_retry_that_was_planned_before_a_cancel_does_not_start(sim: Sim) -> None:
    sim.scripts.default = FAILS
    key = sim.submit(Given(tasks=2, parallelism=1, max_retries=5))
    sim.tick()
    sim.move(1.0)
    sim.hear()
    sim.move(1.0)
    stale = sim.planned()
    assert [type(claim).__name__ for claim in stale] == ["RetryClaim"]
    sim.cancel(key)
    assert sim.claim(stale) == []
    assert sim.violations(at_rest=True) == []
