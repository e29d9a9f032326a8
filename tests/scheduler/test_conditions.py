"""What a task's user is told: a reason and a message for every way to end, and to wait."""

import pytest
from sqlalchemy import Connection

from tidemill.engine.fake import Play
from tidemill.model.execution import Reason, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import ExecutionState, TaskState
from tidemill.store import executions, tasks
from tidemill.testing.sim import NODE, Given, Sim

FOR_EVER = Play(seconds=800.0)


def told(sim: Sim, key: ExecutionKey, index: int = 0) -> tuple[TaskState, Reason | None, str]:
    def work(connection: Connection) -> Task:
        return tasks.find(connection, executions.find_by_key(connection, key), index)

    task = sim.database.read(work)
    return task.state, task.reason, task.message


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OutcomeKind.EXIT_CODE, Reason.EXIT_CODE),
        (OutcomeKind.SIGNAL, Reason.SIGNAL),
        (OutcomeKind.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY),
        (OutcomeKind.TIMED_OUT, Reason.TIMEOUT),
        (OutcomeKind.LAUNCH_ERROR, Reason.LAUNCH_ERROR),
    ],
)
def test_a_task_that_failed_says_why_in_its_nodes_words(sim: Sim, kind: OutcomeKind, reason: Reason) -> None:
    sim.scripts.default = Play(seconds=1.0, kind=kind, message="what the node saw: 12 of 10")
    key = sim.submit(Given())
    sim.run()
    assert told(sim, key) == (TaskState.FAILED, reason, "what the node saw: 12 of 10")


def test_a_task_that_waits_for_a_retry_says_what_its_last_attempt_ended_by(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3, message="exit code 3")
    key = sim.submit(Given(max_retries=1))
    sim.tick()
    sim.move(1.0)
    sim.hear()
    assert told(sim, key) == (TaskState.PENDING, Reason.RETRYING, "exit code 3")


def test_a_task_that_runs_or_waits_for_its_first_claim_has_nothing_to_say(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(tasks=2, parallelism=1))
    sim.tick()
    assert told(sim, key) == (TaskState.RUNNING, None, "")
    assert told(sim, key, 1) == (TaskState.PENDING, None, "")


def test_a_task_that_was_cancelled_says_where_it_was_then(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    sim.scripts.plays[1, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3, message="exit code 3")
    key = sim.submit(Given(tasks=3, parallelism=2, max_retries=1))
    sim.tick()
    sim.move(1.0)
    sim.hear()
    sim.cancel(key, force=True)
    sim.run()
    state, reason, message = told(sim, key)
    assert (state, reason) == (TaskState.CANCELLED, Reason.CANCELLED)
    assert "cancelled" in message
    waiting = "the execution was cancelled before this task was tried again, after: exit code 3"
    assert told(sim, key, 1) == (TaskState.CANCELLED, Reason.CANCELLED, waiting)
    unborn = "the execution was cancelled before this task began"
    assert told(sim, key, 2) == (TaskState.CANCELLED, Reason.CANCELLED, unborn)


def test_a_task_that_was_lost_too_often_says_how_often_and_how(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given())
    for _ in range(5):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        sim.move(60.0)
    state, reason, message = told(sim, key)
    assert (state, reason) == (TaskState.FAILED, Reason.NODE_LOST)
    assert message.startswith("lost 5 times in a row: ")
    assert len(message) > len("lost 5 times in a row: ")


def test_every_attempt_has_the_whole_timeout_and_says_what_it_was(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(timeout_s=10, max_retries=1))
    sim.tick()
    for state in (TaskState.PENDING, TaskState.FAILED):
        sim.move(9.9)
        sim.tick()
        assert told(sim, key)[0] is TaskState.RUNNING
        sim.move(0.2)
        sim.hear()
        assert told(sim, key)[0] is state
        sim.move(1.0)
        sim.tick()
    assert told(sim, key) == (TaskState.FAILED, Reason.TIMEOUT, "over 10 s")


@pytest.mark.parametrize(
    ("bad", "state"),
    [((), ExecutionState.SUCCEEDED), ((1,), ExecutionState.FAILED), ((0, 1, 2), ExecutionState.FAILED)],
)
def test_an_execution_succeeds_only_when_every_task_has(sim: Sim, bad: tuple[int, ...], state: ExecutionState) -> None:
    for index in bad:
        sim.scripts.plays[index, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1)
    key = sim.submit(Given(tasks=3))
    sim.run()
    assert sim.state(key) is state


@pytest.mark.parametrize("kind", [OutcomeKind.SUCCEEDED, OutcomeKind.EXIT_CODE])
def test_a_cancelled_execution_is_cancelled_whatever_its_tasks_are(sim: Sim, kind: OutcomeKind) -> None:
    sim.scripts.default = Play(seconds=1.0, kind=kind)
    key = sim.submit(Given(tasks=2))
    sim.tick()
    sim.cancel(key)
    sim.run()
    assert sim.state(key) is ExecutionState.CANCELLED
