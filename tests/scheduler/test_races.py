"""Each race that has a name, as a short story."""

from dataclasses import replace

import pytest

from tidemill.engine.fake import Fault, Play
from tidemill.model.errors import EngineUnavailable
from tidemill.model.execution import Stats
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import Event, EventBatch, EventKind, Outcome, OutcomeKind
from tidemill.model.states import ExecutionState, TaskState
from tidemill.testing.sim import NODE, Given, Sim

FAILS = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1)
FOR_EVER = Play(seconds=800.0)


def ended(sim: Sim, attempt: AttemptId, kind: OutcomeKind, result: str | None = None) -> EventBatch:
    outcome = Outcome(kind=kind, ended_at=sim.clock.seconds(), result=result)
    event = Event(number=999, attempt=attempt, kind=EventKind.ENDED, at=sim.clock.seconds(), outcome=outcome)
    return EventBatch(incarnation=NODE.incarnation, events=(event,))


def succeeded(total: int, retried: int = 0) -> Stats:
    return Stats(total=total, pending=0, running=0, succeeded=total, failed=0, cancelled=0, retried=retried)


def test_a_late_report_of_an_old_attempt_changes_nothing(sim: Sim) -> None:
    key = sim.submit(Given(max_retries=1))
    sim.scripts.plays[0, 1] = FAILS
    sim.scripts.plays[0, 2] = FOR_EVER
    sim.tick()
    (first,) = sim.live()
    sim.move(1.0)
    sim.tick()  # it has failed
    sim.move(1.0)
    sim.tick()  # it runs again
    assert sim.live() == [replace(first, number=2)]
    before, stats = sim.task(key), sim.stats(key)
    sim.ticker.settle(NODE.id, ended(sim, first, OutcomeKind.SUCCEEDED, "1"), sim.clock.now)
    assert sim.task(key) == before
    assert sim.stats(key) == stats
    assert sim.live() == [replace(first, number=2)]
    assert sim.violations() == []
    assert sim.superseded() == [first]


def test_a_report_of_an_attempt_that_is_yet_to_come_changes_nothing(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    (live,) = sim.live()
    before = sim.task(key)
    sim.ticker.settle(NODE.id, ended(sim, replace(live, number=2), OutcomeKind.SUCCEEDED), sim.clock.now)
    assert sim.task(key) == before
    assert sim.live() == [live]


def test_a_crash_between_claim_and_launch_launches_again_under_the_same_id(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.engine.fail("launch", Fault.LOST)
    sim.tick()
    claimed = sim.live()
    assert claimed == [AttemptId(OwnerKind.TASK, key, 0, 1)]
    assert sim.engine.running(NODE.id) == frozenset()
    sim.restart()
    sim.tick()
    assert sim.engine.running(NODE.id) == set(claimed)
    sim.run()
    assert sim.stats(key) == succeeded(1)
    assert sim.engine.starts() == {claimed[0]: 1}


def test_a_launch_whose_answer_is_lost_starts_once(sim: Sim) -> None:
    key = sim.submit(Given(tasks=3))
    sim.engine.fail("launch", Fault.ANSWER_LOST)
    sim.run()
    assert sim.stats(key) == succeeded(3)
    assert set(sim.engine.starts().values()) == {1}


def test_a_node_whose_launch_failed_gets_nothing_new_until_it_is_reconciled(sim: Sim) -> None:
    sim.tick()  # the node is known and clear
    sim.submit(Given(tasks=8, parallelism=1))
    sim.submit(Given(tasks=8, parallelism=1, job="other"))
    sim.engine.fail("launch", Fault.LOST)
    sim.engine.fail("inventory", Fault.LOST)
    sim.tick()
    sim.submit(Given(job="third"))
    sim.move(1.0)
    sim.tick()
    assert len(sim.live()) == 2
    assert sim.engine.running(NODE.id) == frozenset()
    assert "n1" in (sim.parts.problems.current() or "")
    sim.move(1.0)
    sim.tick()
    assert len(sim.engine.running(NODE.id)) == 3
    assert sim.parts.problems.current() is None


def test_a_crash_before_the_outcome_is_committed_counts_it_once(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    sim.move(1.0)
    batch = sim.engine.events(NODE.id, sim.position(), 0)
    assert [event.kind for event in batch.events] == [EventKind.STARTED, EventKind.ENDED]
    sim.restart()  # nothing of it was committed
    sim.run()
    assert sim.stats(key) == succeeded(1)
    assert sim.state(key) is ExecutionState.SUCCEEDED


def test_a_crash_after_the_commit_and_before_the_acknowledgement_counts_it_once(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2, parallelism=1))
    sim.tick()
    sim.move(1.0)
    batch = sim.engine.events(NODE.id, sim.position(), 0)
    sim.ticker.settle(NODE.id, batch, sim.clock.now)
    stats = sim.stats(key)
    sim.engine.crash(NODE.id)  # it shows the same outcome again, under another number
    sim.restart()
    sim.hear()
    assert sim.stats(key) == stats
    assert sim.superseded() == []
    sim.run()
    assert sim.stats(key) == succeeded(2)


def test_the_same_batch_twice_counts_once(sim: Sim) -> None:
    key = sim.submit(Given(tasks=4))
    sim.tick()
    sim.move(1.0)
    sim.tick()
    sim.engine.repeat(NODE.id)
    sim.tick()
    assert sim.stats(key) == succeeded(4)


def test_a_start_that_is_told_after_the_end_changes_nothing(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    (attempt,) = sim.live()
    sim.ticker.settle(NODE.id, ended(sim, attempt, OutcomeKind.SUCCEEDED), sim.clock.now)
    before = sim.task(key)
    start = Event(number=1_000, attempt=attempt, kind=EventKind.STARTED, at=sim.clock.seconds())
    sim.ticker.settle(NODE.id, EventBatch(incarnation=NODE.incarnation, events=(start,)), sim.clock.now)
    assert sim.task(key) == before
    assert sim.violations(at_rest=True) == []


def test_a_death_of_the_node_costs_no_retry(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2, max_retries=0))
    sim.tick()
    sim.engine.crash(NODE.id)
    sim.tick()
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.charged, row.lost_in_row, row.reason) == (TaskState.PENDING, 0, 1, "NodeLost")
    assert row.not_before is not None
    assert (row.not_before - sim.clock.now).total_seconds() == 1.0
    sim.run()
    assert sim.stats(key) == succeeded(2)


def test_outcomes_that_the_node_had_journaled_count_after_its_death(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2))
    sim.scripts.plays[1, 1] = FOR_EVER
    sim.tick()
    sim.move(1.0)
    sim.engine.crash(NODE.id)
    sim.tick()
    done, lost = sim.task(key, 0), sim.task(key, 1)
    assert done is not None
    assert lost is not None
    assert (done.state, lost.state, lost.lost_in_row) == (TaskState.SUCCEEDED, TaskState.PENDING, 1)


def test_a_task_lost_five_times_in_a_row_fails(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.scripts.default = FOR_EVER
    waits: list[float | None] = []
    row = None
    for _ in range(5):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        row = sim.task(key)
        assert row is not None
        waits.append(None if row.not_before is None else (row.not_before - sim.clock.now).total_seconds())
        sim.move(waits[-1] or 0)
    assert waits == [1.0, 2.0, 4.0, 8.0, None]
    assert row is not None
    assert (row.state, row.reason, row.attempt, row.charged) == (TaskState.FAILED, "NodeLost", 5, 0)
    assert sim.state(key) is ExecutionState.FAILED
    assert sim.violations(at_rest=True) == []


def test_losses_that_were_ordered_are_not_counted(sim: Sim) -> None:
    key = sim.submit(Given())
    for _ in range(7):
        sim.tick()
        sim.engine.close(stop_tasks=True)
    sim.run()
    assert sim.stats(key) == succeeded(1)
    row = sim.task(key)
    assert row is not None
    assert (row.attempt, row.lost_in_row) == (8, 0)


def test_a_failure_between_losses_begins_the_count_again(sim: Sim) -> None:
    key = sim.submit(Given(max_retries=1))
    sim.scripts.default = FOR_EVER
    sim.scripts.plays[0, 3] = FAILS
    for _ in range(2):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        sim.move(5.0)
    sim.tick()
    sim.move(1.0)
    sim.tick()
    row = sim.task(key)
    assert row is not None
    assert (row.attempt, row.charged, row.lost_in_row, row.reason) == (3, 1, 0, "Retrying")


def test_a_launch_that_arrives_after_its_task_was_cancelled_is_ended(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.scripts.default = FOR_EVER
    sim.engine.fail("launch", Fault.LATE)
    sim.tick()
    sim.cancel(key, force=True)
    sim.move(1.0)
    sim.tick()  # the node does not know it, and nobody wants it any more
    assert sim.state(key) is ExecutionState.CANCELLED
    assert sim.engine.running(NODE.id) == frozenset()
    sim.engine.deliver()
    assert len(sim.engine.running(NODE.id)) == 1
    sim.move(30.0)
    sim.tick()
    assert sim.engine.running(NODE.id) == frozenset()
    assert sim.violations(at_rest=True) == []


def test_a_launch_that_arrives_late_and_again_starts_once(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2))
    sim.engine.fail("launch", Fault.LATE)
    sim.tick()
    sim.move(1.0)
    sim.tick()
    sim.engine.deliver()
    sim.run()
    assert sim.stats(key) == succeeded(2)
    assert set(sim.engine.starts().values()) == {1}


def test_a_cut_node_keeps_its_tasks_and_they_are_not_given_to_another(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2))
    sim.tick()
    sim.engine.cut(NODE.id)
    sim.move(60.0)
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            sim.hear()
        sim.tick()
        sim.move(1.0)
    assert len(sim.live()) == 2
    sim.engine.mend(NODE.id)
    sim.move(1.0)
    sim.run()
    assert sim.stats(key) == succeeded(2)
    assert set(sim.engine.starts().values()) == {1}


def test_what_a_closing_node_refuses_waits_uncharged(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.engine.refuse(NODE.id, closing=True)
    sim.tick()
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.charged, row.lost_in_row) == (TaskState.PENDING, 0, 0)
    sim.tick()
    assert row == sim.task(key)  # it is not offered again at once
    sim.engine.refuse(NODE.id, closing=False)
    sim.run()
    assert sim.stats(key) == succeeded(1)


def test_a_server_with_a_forgotten_term_takes_a_newer_one(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.engine.cancel(NODE.id, [], 1.0, 3)  # this node has heard of term 3
    assert sim.ticker.term == 1
    sim.run()
    assert sim.ticker.term == 3
    assert sim.stats(key) == succeeded(1)


def test_a_scheduler_with_an_old_term_claims_nothing(sim: Sim) -> None:
    sim.submit(Given())
    old = sim.ticker
    sim.restart()
    old.tick(sim.clock.now)
    assert sim.live() == []


def test_a_scheduler_whose_term_was_taken_is_told_so_and_takes_a_newer_one(sim: Sim) -> None:
    """Found by the simulator: refused in silence, it would have planned the same claims for ever."""
    key = sim.submit(Given())
    stale = sim.ticker
    sim.restart()  # another one took the term, and is gone again
    sim.ticker = stale
    sim.run(passes=20)
    assert sim.ticker.term == 3
    assert sim.stats(key) == succeeded(1)


def test_a_retry_that_was_started_is_counted_once_though_its_attempt_is_lost(sim: Sim) -> None:
    key = sim.submit(Given(max_retries=1))
    sim.scripts.plays[0, 1] = FAILS
    sim.scripts.plays[0, 2] = FOR_EVER
    sim.tick()
    sim.move(1.0)
    sim.tick()
    assert sim.stats(key).retried == 0  # it waits
    sim.move(1.0)
    sim.tick()
    assert sim.stats(key).retried == 1
    sim.engine.crash(NODE.id)
    sim.run()
    assert sim.stats(key) == succeeded(1, retried=1)
