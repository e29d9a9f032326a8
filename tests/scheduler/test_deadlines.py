"""An execution with a deadline is ended then, in every state that it and its tasks can be in; it has failed."""

from dataclasses import asdict
from datetime import timedelta

from tidemill.engine.fake import Fault, Play
from tidemill.model.execution import Execution, Reason, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.lease import OutcomeKind
from tidemill.model.rerun import NOT_SUCCEEDED, Selection
from tidemill.model.states import ExecutionState, TaskState
from tidemill.store import executions, ledger, tasks
from tidemill.testing.sim import Given, Sim

FOR_EVER = Play(seconds=800.0)


def counts(sim: Sim, key: ExecutionKey) -> dict[str, int]:
    return {name: value for name, value in asdict(sim.stats(key)).items() if value and name != "total"}


def found(sim: Sim, key: ExecutionKey) -> Execution:
    return sim.database.read(lambda connection: executions.find_by_key(connection, key))


def task(sim: Sim, key: ExecutionKey, index: int) -> Task:
    (one,) = sim.database.read(lambda connection: tasks.tasks_at(connection, found(sim, key), index, index + 1))
    return one


def test_what_runs_is_ended_and_what_has_not_begun_never_does(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    sim.scripts.plays[0, 1] = Play(seconds=1.0)
    key = sim.submit(Given(tasks=10, parallelism=3, deadline_s=30))
    sim.tick()
    sim.move(1.0)
    sim.tick()
    sim.move(28.9)
    sim.tick()
    assert sim.state(key) is ExecutionState.RUNNING
    sim.move(0.1)
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLING
    sim.tick()
    sim.tick()
    assert sim.state(key) is ExecutionState.FAILED
    assert counts(sim, key) == {"succeeded": 1, "cancelled": 9}
    assert len(sim.engine.starts()) == 4
    for index in (1, 9):  # one that ran, one that never did
        ended = task(sim, key, index)
        assert (ended.state, ended.reason) == (TaskState.CANCELLED, Reason.TIMEOUT), ended
    assert "30 s" in task(sim, key, 9).message
    assert sim.violations(at_rest=True) == []


def test_the_scheduler_wakes_at_a_deadline(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    sim.submit(Given(deadline_s=0.5))
    due = sim.ticker.tick(sim.clock.now)
    assert due == sim.clock.now + timedelta(seconds=0.5)
    sim.move(0.5)
    assert sim.ticker.tick(sim.clock.now) == sim.clock.now, "a node is told in the next pass, which comes at once"


def test_one_that_is_queued_or_has_no_node_ends_at_once(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    sim.workspace(executions_at_once=2)
    sim.submit(Given())
    homeless = sim.submit(Given(job="far", region="moon", deadline_s=5))
    queued = sim.submit(Given(job="late", deadline_s=5))
    sim.tick()
    assert (sim.state(homeless), sim.state(queued)) == (ExecutionState.PENDING, ExecutionState.QUEUED)
    sim.move(5)
    sim.tick()
    assert (sim.state(homeless), sim.state(queued)) == (ExecutionState.FAILED, ExecutionState.FAILED)
    assert counts(sim, queued) == {"cancelled": 1}


def test_one_that_ended_in_time_is_left_alone(sim: Sim) -> None:
    key = sim.submit(Given(deadline_s=5))
    sim.run()
    sim.move(60)
    sim.tick()
    assert sim.state(key) is ExecutionState.SUCCEEDED
    assert not found(sim, key).timed_out


def test_a_cancel_that_came_first_counts_and_is_by_force_from_then_on(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(deadline_s=5))
    sim.tick()
    assert sim.cancel(key) is ExecutionState.CANCELLING
    sim.move(5)
    for _ in range(3):
        sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLED
    assert task(sim, key, 0).reason is Reason.CANCELLED


def test_a_cancel_that_comes_later_changes_nothing(sim: Sim) -> None:
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(deadline_s=5))
    sim.tick()
    sim.move(5)
    sim.tick()
    assert sim.cancel(key, force=True) is ExecutionState.CANCELLING
    for _ in range(3):
        sim.tick()
    assert sim.state(key) is ExecutionState.FAILED
    assert sim.cancel(key) is ExecutionState.FAILED


def test_a_task_that_waits_for_another_try_reads_as_timed_out_and_is_run_again_by_that_name(sim: Sim) -> None:
    sim.scripts.plays[0, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=7, message="exit code 7")
    sim.scripts.plays[1, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=8, message="exit code 8")
    key = sim.submit(Given(tasks=3, parallelism=1, max_retries=3, deadline_s=1.2))
    sim.tick()
    sim.move(1.0)
    sim.tick()
    sim.move(0.2)
    for _ in range(3):
        sim.tick()
    assert sim.state(key) is ExecutionState.FAILED
    waiting = task(sim, key, 0)
    assert (waiting.state, waiting.reason) == (TaskState.CANCELLED, Reason.TIMEOUT)
    assert waiting.message == "the execution ran out of its 1.2 s before this task was tried again, after: exit code 7"
    again = sim.rerun(key, Selection(reasons=frozenset({Reason.TIMEOUT})))
    assert sim.stats(again).total == 3
    assert found(sim, again).deadline_at is None
    sim.run()
    assert sim.state(again) is ExecutionState.SUCCEEDED
    assert sim.stats(sim.rerun(key, NOT_SUCCEEDED)).total == 3


def test_it_waits_for_no_node_that_has_gone(sim: Sim) -> None:
    """A lost node's attempts are given up as ever; until then it is being ended."""
    sim.scripts.default = FOR_EVER
    key = sim.submit(Given(deadline_s=5))
    sim.tick()
    sim.engine.fail("cancel", Fault.LOST)
    sim.move(5)
    sim.tick()
    sim.tick()
    assert sim.state(key) is ExecutionState.CANCELLING
    sim.move(1)
    for _ in range(4):
        sim.tick()
    assert sim.state(key) is ExecutionState.FAILED


def test_an_early_or_a_second_wish_does_nothing(sim: Sim) -> None:
    key = sim.submit(Given(deadline_s=5))
    none = sim.submit(Given())

    def end(*keys: ExecutionKey) -> list[ledger.Finished]:
        return sim.database.write(lambda connection: ledger.time_out_executions(connection, keys, now=sim.clock.now))

    assert end(key, none) == []
    assert sim.state(key) is ExecutionState.PENDING
    sim.move(5)
    assert [one.state for one in end(key, none)] == [ExecutionState.FAILED]
    assert end(key, none) == []
    assert sim.state(none) is ExecutionState.PENDING
