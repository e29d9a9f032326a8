"""Bugs put in on purpose, one at a time: each is caught by seeds, and by the promise that it breaks.

Our own modules are patched here and nowhere else: the patch is the bug.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Update, bindparam, func, select, update

from tests.scheduler import test_races, test_time_to_live, test_triggers
from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.execution import Reason
from tidemill.model.lease import OutcomeKind
from tidemill.scheduler import plan as planning
from tidemill.scheduler import rooms, tick
from tidemill.scheduler.fire import TriggerClock
from tidemill.scheduler.reconcile import reconcile as reconcile_as_it_is
from tidemill.scheduler.renew import Renewer
from tidemill.store import executions, ledger, ledger_claim, ledger_settle, nodes, schema, ticks, triggers
from tidemill.store.ledger_claim import Claim, Claimed
from tidemill.store.prepared import Prepared
from tidemill.store.snapshot import View
from tidemill.store.snapshot import look as look_as_it_is
from tidemill.testing.sim import Sim
from tidemill.testing.simulator.run import Simulator

SEEDS = 20
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """``breaks`` are the promises of which one must be found broken, by the beginnings of their names.

    ``first`` is a seed that was seen to find it, so that the search is short. ``die_at`` is where servers die, for bugs
    that show between two steps only; empty for anywhere.
    """

    plant: Plant
    breaks: tuple[str, ...]
    first: int = 1
    die_at: str = ""
    triggers: bool = False


def _nothing(*_: object, **__: object) -> list[Any]:
    """Stands for what should be done."""
    return []


def by_id_alone(patch: pytest.MonkeyPatch) -> None:
    """river #1302, oban #1496: who is late overwrites what has ended."""
    task = schema.task.c
    bad: Any = ledger._MOVE_TASK.statement._generate()
    bad._where_criteria = (
        task.execution == bindparam("key"),
        task.idx == bindparam("index"),
        bindparam("seen") != "",
        bindparam("fence") >= 0,
    )
    patch.setattr(ledger, "_MOVE_TASK", Prepared(bad))
    ended_as_often_as_reported(patch)


def ended_as_often_as_reported(patch: pytest.MonkeyPatch) -> None:
    bad: Any = ledger_settle._END_ATTEMPT.statement._generate()
    bad._where_criteria = bad._where_criteria[:1]  # without: it has not ended
    patch.setattr(ledger_settle, "_END_ATTEMPT", Prepared(bad))


def acknowledged_before_committed(patch: pytest.MonkeyPatch) -> None:
    right = tick.Ticker.settle

    def settle(self: tick.Ticker, node: Any, batch: Any, now: datetime) -> Any:
        if batch.events:
            values = {"incarnation": batch.incarnation, "events_after": batch.events[-1].number}
            write = update(schema.node).where(schema.node.c.id == node).values(values)
            self._parts.database.write(lambda connection: acknowledge(connection, write))
        return right(self, node, batch, now)

    def acknowledge(connection: Connection, write: Update) -> None:
        connection.execute(write)

    patch.setattr(tick.Ticker, "settle", settle)


def caps_of_workspaces_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = look_as_it_is

    def look(connection: Connection, *, window: int) -> View:
        return replace(right(connection, window=window), task_caps={})

    patch.setattr(tick, "look", look)


def slots_of_nodes_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = rooms._room
    patch.setattr(rooms, "_room", lambda info, live: right(replace(info, slots=info.slots + 1), live))


def retries_not_charged(patch: pytest.MonkeyPatch) -> None:
    right = ledger_settle._failed

    def failed(outcome: Any, row: Any, draw: Any, *, cancelling: bool) -> Any:
        return replace(right(outcome, row, draw, cancelling=cancelling), charged=row.charged)

    patch.setattr(ledger_settle, "_failed", failed)


def losses_charged(patch: pytest.MonkeyPatch) -> None:
    charged = {**ledger_settle.CHARGED, OutcomeKind.LOST: Reason.NODE_LOST}
    patch.setattr(ledger_settle, "CHARGED", charged)


def told_before_the_call(patch: pytest.MonkeyPatch) -> None:
    def cancel(self: tick.Ticker, decision: Any, now: datetime) -> None:
        parts = self._parts
        parts.database.write(lambda connection: nodes.told(connection, decision.attempts, now=now))
        try:
            parts.engine.cancel(decision.node, decision.attempts, parts.policy.grace_s, self._term)
        except EngineUnavailable:
            return

    patch.setattr(tick.Ticker, "_cancel", cancel)


def given_up_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Renewer, "_end_of", lambda self, node: self._sent.get(node, self._began) + 3.0)


def leases_not_renewed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Renewer, "renew", _nothing)


def term_not_checked(patch: pytest.MonkeyPatch) -> None:
    right = ledger_claim.claim

    def claim(connection: Connection, claims: Sequence[Claim], *, term: int, now: datetime) -> list[Claimed]:
        held = connection.scalar(select(func.max(schema.term.c.number)))
        return right(connection, claims, term=held or term, now=now)

    patch.setattr(tick, "claim", claim)


def stale_term_kept_quiet(patch: pytest.MonkeyPatch) -> None:
    """What the simulator found first: the claims of a stale scheduler were dropped, and it went on planning them."""
    right = ledger_claim.claim

    def claim(connection: Connection, claims: Sequence[Claim], *, term: int, now: datetime) -> list[Claimed]:
        try:
            return right(connection, claims, term=term, now=now)
        except StaleTerm:
            return []

    patch.setattr(tick, "claim", claim)


def counters_left_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger_claim, "count", _nothing)


def losses_retried_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger_settle, "backoff", lambda *_: timedelta())


def losses_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger_settle, "LOST_LIMIT", 1_000)


def same_request_not_recognised(patch: pytest.MonkeyPatch) -> None:
    right = executions.create

    def create(connection: Connection, new: Any, stored: Any, chunks: Any, *, now: datetime) -> Any:
        return right(connection, replace(new, aliases=(f"made:{new.key}",)), stored, chunks, now=now)

    patch.setattr(executions, "create", create)


def retries_before_their_time(patch: pytest.MonkeyPatch) -> None:
    ahead, plan, waiting = timedelta(hours=1), planning.plan, ledger_claim._waiting
    patch.setattr(tick, "plan", lambda snapshot: plan(replace(snapshot, now=snapshot.now + ahead)))
    patch.setattr(ledger_claim, "_waiting", lambda connection, wanted, now: waiting(connection, wanted, now + ahead))


def turns_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tick._Turns, "served", _nothing)


def never_launched_again(patch: pytest.MonkeyPatch) -> None:
    def reconcile(parts: Any, launcher: Any, node: Any, *, term: int, now: datetime) -> bool:
        parts.engine.inventory(node)
        return True

    patch.setattr(tick, "reconcile", reconcile)


def strays_left_alone(patch: pytest.MonkeyPatch) -> None:
    right = reconcile_as_it_is

    class Blind:
        """The engine, but for what ends strays."""

        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return _nothing if name in {"withdraw", "cancel"} else getattr(self._engine, name)

    def reconcile(parts: Any, launcher: Any, node: Any, *, term: int, now: datetime) -> bool:
        return right(replace(parts, engine=Blind(parts.engine)), launcher, node, term=term, now=now)

    patch.setattr(tick, "reconcile", reconcile)


def ticks_left_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ticks._SETTLE, "run_many", _nothing)


def due_times_forgotten_by_changes(patch: pytest.MonkeyPatch) -> None:
    right = triggers.keep

    def keep(connection: Connection, job: Any, kept: object, *, now: datetime) -> None:
        trigger = schema.job_trigger
        late = (trigger.c.job == job.key, trigger.c.next_due_at <= now)
        connection.execute(update(trigger).where(*late).values(next_due_at=now + timedelta(days=1)))
        right(connection, job, kept, now=now)

    patch.setattr(triggers, "keep", keep)


def ticks_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(triggers._ADD_TICK, "run_many", _nothing)


def clocks_set_back_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TriggerClock, "_is_new", lambda self, _: self._ahead_s is None)


BUGS = {
    "a tick that fired stays open": Bug(ticks_left_open, ("I7", "IntegrityError"), triggers=True),
    "a due time is forgotten when a PUT comes first": Bug(
        due_times_forgotten_by_changes, ("I7",), first=12, triggers=True
    ),
    "triggers go on without ticks": Bug(ticks_not_written, ("I7",), triggers=True),
    "what has ended is moved and ended again, by id alone": Bug(
        by_id_alone, ("I2", "I3", "I6", "I9", "IntegrityError"), first=5
    ),
    "an attempt ends as often as it is reported": Bug(ended_as_often_as_reported, ("I2", "I4"), first=5),
    "reports are acknowledged before they are committed": Bug(
        acknowledged_before_committed, ("I9",), first=3, die_at="before commit of ledger_settle.settle"
    ),
    "a workspace's cap is not looked at": Bug(caps_of_workspaces_forgotten, ("I5",), first=14),
    "a node gets one more than it has slots": Bug(slots_of_nodes_forgotten, ("I5",)),
    "a failed attempt is not charged": Bug(retries_not_charged, ("I4",)),
    "a lost attempt is charged": Bug(losses_charged, ("I4",), first=3),
    "a node counts as told before it is": Bug(told_before_the_call, ("I1",), first=28, die_at="before engine.cancel"),
    "counters do not change with what they count": Bug(counters_left_alone, ("I6",)),
    "what was lost runs again at once": Bug(losses_retried_at_once, ("I4",), first=88),
    "the same request makes another execution": Bug(same_request_not_recognised, ("I10", "IntegrityError"), first=2),
    "retries start before their time": Bug(retries_before_their_time, ("I4",), first=6),
    "turns are not remembered": Bug(turns_forgotten, ("I12",), first=10),
    "what was claimed before a crash is not launched": Bug(
        never_launched_again, ("I1",), die_at="before engine.launch"
    ),
}

# too rare in seeds to wait for: the short test that each race has says so at once
BY_NAME: dict[str, tuple[Plant, Callable[[Sim], None]]] = {
    "a clock that is set back is not noticed": (
        clocks_set_back_unnoticed,
        lambda sim: test_triggers.test_a_clock_that_ran_ahead_and_is_put_right_goes_on_at_the_right_times(
            test_triggers.at_noon(sim)
        ),
    ),
    "an old term may claim": (term_not_checked, test_races.test_a_scheduler_with_an_old_term_claims_nothing),
    "an old term is refused in silence": (
        stale_term_kept_quiet,
        test_races.test_a_scheduler_whose_term_was_taken_is_told_so_and_takes_a_newer_one,
    ),
    "losses in a row have no end": (losses_without_end, test_races.test_a_task_lost_five_times_in_a_row_fails),
    "leases are not renewed": (
        leases_not_renewed,
        test_time_to_live.test_a_lease_is_renewed_for_as_long_as_its_task_runs,
    ),
    "a lease is given up while it may live": (
        given_up_too_early,
        test_time_to_live.test_a_partition_longer_than_a_lease_moves_the_task_and_never_runs_it_twice_at_once,
    ),
    "what nobody calls live runs on": (
        strays_left_alone,
        test_races.test_a_launch_that_arrives_after_its_task_was_cancelled_is_ended,
    ),
}


pytestmark = pytest.mark.timeout(600)  # a busy machine plays seeds slowly


@pytest.mark.parametrize("name", BUGS)
def test_seeds_catch(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bug = BUGS[name]
    bug.plant(monkeypatch)
    for seed in range(bug.first, bug.first + SEEDS):
        report = simulator.run(seed, die_at=bug.die_at, triggers=bug.triggers)
        if report.broken:
            assert any(one.startswith(bug.breaks) for one in report.broken), str(report)
            return
    raise AssertionError(f"{SEEDS} seeds did not notice that {name}")


@pytest.mark.parametrize("name", BY_NAME)
def test_a_short_test_catches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant, test = BY_NAME[name]
    sim = Sim(tmp_path)
    test(sim)
    sim.reset()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        test(sim)
    sim.close()
