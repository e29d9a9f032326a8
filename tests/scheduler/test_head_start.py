"""What triggers start is made a little ahead of its time, and runs from then on."""

from datetime import timedelta

import pytest

from tests.scheduler.triggering import Clockwork, at, cron
from tidemill.model.ids import ExecutionKey, NodeId
from tidemill.model.states import ExecutionState
from tidemill.model.trigger import MADE_AHEAD, is_ahead
from tidemill.scheduler.head_start import LONGEST_S, HeadStart
from tidemill.store.ledger_claim import TaskClaim
from tidemill.testing.sim import NODE, Sim

DUE = at("2026-06-01T12:01")


@pytest.fixture
def work(sim: Sim) -> Clockwork:
    """A trigger of every minute, and a clock that begins as early as it may; it is half a minute past noon."""
    sim.clock.now = at("2026-06-01T12:00:30")
    found = Clockwork(sim)
    found.clock = found.another(HeadStart(LONGEST_S))
    found.deploy(cron())
    found.look()
    return found


def test_an_execution_is_there_before_it_is_due_as_if_it_were_made_then(work: Clockwork) -> None:
    begin = work.look("2026-06-01T12:00:58.5")
    assert begin is not None
    assert DUE - timedelta(seconds=LONGEST_S) <= begin < DUE
    assert work.executions() == []
    assert work.look("2026-06-01T12:00:59.7") == at("2026-06-01T12:02")
    (made,) = work.executions()
    assert (made.due_at, made.created_at, made.state) == (DUE, DUE, "pending")
    assert work.ticks() == [("01 12:01", "fired")]
    for when in ("2026-06-01T12:00:59.9", "2026-06-01T12:01", "2026-06-01T12:01:30"):
        work.look(when)
    assert len(work.executions()) == 1
    assert work.sim.violations() == []


def test_it_does_not_run_before_and_the_scheduler_wakes_when_it_is_due(work: Clockwork) -> None:
    work.look("2026-06-01T12:00:59.7")
    (made,) = work.executions()
    assert work.sim.tick() == DUE
    assert work.sim.planned() == []
    assert work.sim.claim([TaskClaim(execution=ExecutionKey(made.key), node=NodeId(NODE.id))]) == []
    work.sim.clock.now = DUE
    work.sim.tick()
    assert len(work.sim.live()) == 1
    work.sim.run()
    assert work.sim.state(made.key) is ExecutionState.SUCCEEDED
    assert work.sim.violations() == []


def test_a_clock_that_is_set_back_meanwhile_does_not_hold_it_up(work: Clockwork) -> None:
    work.look("2026-06-01T12:00:59.7")
    (made,) = work.executions()
    work.sim.clock.set_back(3600)
    work.sim.run()
    assert work.sim.state(made.key) is ExecutionState.SUCCEEDED
    work.look()
    work.look("2026-06-01T12:01")
    assert work.ticks()[-1] == ("01 12:01", "fired")
    assert [row.due_at for row in work.executions()].count(DUE) == 1


def test_a_server_that_dies_right_after_leaves_it_to_the_next(work: Clockwork) -> None:
    work.look("2026-06-01T12:00:59.7")
    work.sim.restart()
    work.clock = work.another(HeadStart(LONGEST_S))
    work.look("2026-06-01T12:00:59.8")
    work.look("2026-06-01T12:01")
    work.sim.run()
    assert work.ticks() == [("01 12:01", "fired")]
    assert [row.state for row in work.executions()] == ["succeeded"]


def test_what_is_disabled_before_is_skipped(work: Clockwork) -> None:
    work.put(extra={"triggers": [cron(enabled=False)]})
    work.look("2026-06-01T12:00:59.7")
    assert work.ticks() == [("01 12:01", "TriggerDisabled")]
    assert work.executions() == []


@pytest.mark.parametrize(
    ("seconds", "waits"),
    [(0.0, False), (0.001, True), (MADE_AHEAD.total_seconds(), True), (1.001, False), (-1.0, False)],
)
def test_only_what_is_due_within_a_moment_waits(seconds: float, *, waits: bool) -> None:
    assert is_ahead(DUE, DUE - timedelta(seconds=seconds)) is waits
    assert not is_ahead(None, DUE)


def test_the_head_start_is_what_units_take_and_bounded() -> None:
    quick, slow, wavering = HeadStart(), HeadStart(), HeadStart()
    for turn in range(50):
        quick.learn(100, 0.02)
        slow.learn(100, 3.0)
        wavering.learn(100, 0.01 if turn % 2 else 0.03)
    assert 0.02 < quick.seconds(100) < 0.04
    assert quick.seconds(100) < wavering.seconds(100) < LONGEST_S
    assert slow.seconds(100) == LONGEST_S
    few = HeadStart()
    few.learn(1, 3.0)
    assert few.seconds(1) < 0.02
