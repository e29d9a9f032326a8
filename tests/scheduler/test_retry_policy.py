"""What a retry policy makes of a task, under a clock that only moves when told."""

from datetime import timedelta

import pytest

from tidemill.engine.fake import Play
from tidemill.model.execution import Reason
from tidemill.model.ids import ExecutionKey
from tidemill.model.lease import OutcomeKind
from tidemill.model.retry import RetryPolicy
from tidemill.model.states import ExecutionState, TaskState
from tidemill.testing.sim import Given, Sim, TaskRow

FAILS = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1)
POLICY = RetryPolicy(initial_s=100, factor=3, max_s=400, never_on=(2, Reason.TIMEOUT))


def task_of(sim: Sim, key: ExecutionKey) -> TaskRow:
    found = sim.task(key)
    assert found is not None
    return found


def waits(sim: Sim, given: Given) -> list[float]:
    """How long each retry of a task that always fails waited, as shares of the longest it might have."""
    sim.scripts.default = FAILS
    key = sim.submit(given)
    found = []
    for _ in range(given.max_retries):
        sim.tick()
        sim.move(1.0)
        failed_at = sim.clock.now
        sim.tick()
        not_before = task_of(sim, key).not_before
        assert not_before is not None
        found.append((not_before - failed_at).total_seconds())
        sim.clock.now = not_before
    return found


def test_waits_follow_the_policy_with_full_jitter(sim: Sim) -> None:
    found = waits(sim, Given(max_retries=60, retry=POLICY))
    for wait, longest in zip(found, [100, 300, *[400] * 58], strict=True):
        assert 0 <= wait <= longest
    late = found[2:]
    assert min(late) < 100  # full: from nothing on
    assert max(late) > 300  # to all of it


def test_without_a_policy_waits_are_those_of_the_default(sim: Sim) -> None:
    found = waits(sim, Given(max_retries=40))
    assert max(found[7:]) <= 60
    assert max(found[7:]) > 40


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=2), Reason.EXIT_CODE),
        (Play(seconds=1.0, kind=OutcomeKind.TIMED_OUT), Reason.TIMEOUT),
    ],
)
def test_never_on_ends_the_task_at_once(sim: Sim, play: Play, reason: Reason) -> None:
    key = sim.submit(Given(max_retries=3, retry=POLICY))
    sim.scripts.default = play
    sim.run()
    task, stats = task_of(sim, key), sim.stats(key)
    assert (task.state, task.reason, task.attempt) == (TaskState.FAILED, reason, 1)
    assert (sim.state(key), stats.failed, stats.retried) == (ExecutionState.FAILED, 1, 0)
    assert sim.violations(at_rest=True) == []


def test_what_never_on_does_not_name_is_tried_again(sim: Sim) -> None:
    key = sim.submit(Given(max_retries=3, retry=POLICY))
    sim.scripts.default = FAILS
    sim.run()
    assert task_of(sim, key).attempt == 4
    assert sim.stats(key).retried == 3


def test_a_policy_neither_charges_nor_slows_down_what_was_lost(sim: Sim) -> None:
    every = tuple(Reason(word) for word in ("ExitCode", "Signal", "OutOfMemory", "Timeout", "LaunchError"))
    key = sim.submit(Given(max_retries=0, retry=RetryPolicy(initial_s=500, max_s=500, never_on=every)))
    sim.scripts.plays[0, 1] = Play(seconds=1.0, kind=OutcomeKind.LOST)
    sim.tick()
    sim.move(1.0)
    sim.tick()
    task = task_of(sim, key)
    assert (task.state, task.charged, task.lost_in_row) == (TaskState.PENDING, 0, 1)
    assert task.not_before is not None
    assert task.not_before - sim.clock.now <= timedelta(seconds=1)
    sim.run()
    assert sim.state(key) is ExecutionState.SUCCEEDED


def test_a_rerun_keeps_the_policy(sim: Sim) -> None:
    origin = sim.submit(Given(max_retries=3, retry=POLICY))
    sim.scripts.default = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=2)
    sim.run()
    again = sim.rerun(origin)
    sim.run()
    assert task_of(sim, again).attempt == 1
    assert sim.state(again) is ExecutionState.FAILED
