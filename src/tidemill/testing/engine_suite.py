"""What every engine must do: one list of cases, run over any engine through a small harness.

A test of an engine is three lines::

    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_my_engine_keeps_the_contract(case: Case, harness: Harness) -> None:
        case(harness)
"""

import json
import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from tidemill.engine.protocol import Engine
from tidemill.model.errors import StaleTerm
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import Event, EventBatch, EventKind, Lease, LogBlock, OutcomeKind, Position

GRACE_S: Final = 5.0
PRINTED: Final = ("one", "two")
RESULT: Final = '{"score": 1}'
EXIT_CODE: Final = 3


class Does(StrEnum):
    """What the process of a lease does."""

    SUCCEED = "succeed"
    FAIL = "fail"
    """Exits with 3."""
    SLEEP = "sleep"
    """Far longer than a case; ends at once on SIGTERM."""
    TIME_OUT = "time_out"
    """The same, with a timeout of a second or less."""
    PRINT = "print"
    """Prints ``PRINTED``, a line each, and succeeds."""
    RESULT = "result"
    """Leaves ``RESULT`` as its result and succeeds."""


class Harness(Protocol):
    """An engine with one node of two slots, and what a case needs around it."""

    @property
    def engine(self) -> Engine:
        """The engine; the same over ``crash``."""
        ...

    @property
    def node(self) -> NodeId: ...

    def lease(self, attempt: AttemptId, does: Does) -> Lease:
        """A lease that half of the node's memory is enough for."""
        ...

    def crash(self) -> None:
        """Kill the node, and return when it is back."""
        ...

    def until(self, ready: Callable[[], bool]) -> None:
        """Let time pass until ``ready``; raises AssertionError when that takes too long."""
        ...


Case = Callable[[Harness], None]


def name_of(case: Case) -> str:
    """The case as a test's id."""
    return case.__name__


class _Reader:
    """Reads events like the scheduler, but acknowledges only when told."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.position = Position()
        self.batch = EventBatch(incarnation="", events=())

    def read(self) -> EventBatch:
        self.batch = self._harness.engine.events(self._harness.node, self.position, 0)
        return self.batch

    def acknowledge(self) -> None:
        if self.batch.events:
            self.position = Position(incarnation=self.batch.incarnation, number=self.batch.events[-1].number)

    def end_of(self, attempt: AttemptId) -> Event | None:
        found = [event for event in self.batch.events if event.attempt == attempt and event.kind is EventKind.ENDED]
        return found[0] if found else None

    def wait_for(self, attempt: AttemptId) -> Event:
        """The attempt's end, once it shows; nothing is acknowledged."""
        self._harness.until(lambda: self.read() is not None and self.end_of(attempt) is not None)
        end = self.end_of(attempt)
        assert end is not None
        return end

    def wait_for_start(self, attempt: AttemptId) -> None:
        self._harness.until(
            lambda: any(e.attempt == attempt and e.kind is EventKind.STARTED for e in self.read().events)
        )


def an_attempt(owner: int, index: int = 0, number: int = 1) -> AttemptId:
    return AttemptId(OwnerKind.TASK, owner, index, number)


def a_process_that_exits_with_0_succeeds(harness: Harness) -> None:
    attempt = an_attempt(1)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    end = reader.wait_for(attempt)
    assert end.outcome is not None
    assert end.outcome.kind is OutcomeKind.SUCCEEDED
    assert end.outcome.started_at is not None
    assert end.outcome.started_at <= end.outcome.ended_at
    starts = [e.number for e in reader.batch.events if e.attempt == attempt and e.kind is EventKind.STARTED]
    assert len(starts) == 1
    assert starts[0] < end.number
    numbers = [event.number for event in reader.batch.events]
    assert numbers == list(range(1, len(numbers) + 1))


def another_exit_code_is_told(harness: Harness) -> None:
    attempt = an_attempt(2)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.FAIL)], 1)
    outcome = _Reader(harness).wait_for(attempt).outcome
    assert outcome is not None
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, EXIT_CODE)


def a_process_over_its_time_is_ended(harness: Harness) -> None:
    attempt = an_attempt(3)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.TIME_OUT)], 1)
    outcome = _Reader(harness).wait_for(attempt).outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.TIMED_OUT


def a_result_comes_with_the_outcome(harness: Harness) -> None:
    attempt = an_attempt(4)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.RESULT)], 1)
    outcome = _Reader(harness).wait_for(attempt).outcome
    assert outcome is not None
    assert json.loads(outcome.result or "null") == json.loads(RESULT)


def launching_twice_starts_once(harness: Harness) -> None:
    attempt = an_attempt(5)
    lease = harness.lease(attempt, Does.SUCCEED)
    first = harness.engine.launch(harness.node, [lease], 1)
    second = harness.engine.launch(harness.node, [lease], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    third = harness.engine.launch(harness.node, [lease], 1)
    assert [[(one.attempt, one.refused) for one in answer] for answer in (first, second, third)] == [
        [(attempt, None)]
    ] * 3
    reader.read()
    kinds = [event.kind for event in reader.batch.events if event.attempt == attempt]
    assert kinds == [EventKind.STARTED, EventKind.ENDED]


def events_come_again_until_they_are_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(6)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    first = reader.batch
    assert reader.read() == first
    reader.position = Position(incarnation=first.incarnation, number=first.events[0].number)
    assert reader.read().events == first.events[1:]


def what_is_acknowledged_is_forgotten(harness: Harness) -> None:
    attempt = an_attempt(7)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    assert attempt in harness.engine.inventory(harness.node).attempts
    reader.acknowledge()
    assert reader.read().events == ()
    assert attempt not in harness.engine.inventory(harness.node).attempts


def a_position_of_another_incarnation_acknowledges_nothing(harness: Harness) -> None:
    attempt = an_attempt(8)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    first = reader.batch.events
    reader.position = Position(incarnation="another life", number=10_000)
    assert reader.read().events == first
    reader.position = Position()
    assert reader.read().events == first


def an_older_term_is_refused(harness: Harness) -> None:
    first, second = an_attempt(9), an_attempt(9, 1)
    harness.engine.launch(harness.node, [harness.lease(first, Does.SLEEP)], 7)
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(second, Does.SUCCEED)], 6))
    _refused(lambda: harness.engine.cancel(harness.node, [first], GRACE_S, 6))
    _refused(lambda: harness.engine.withdraw(harness.node, [first], 6))
    attempts = harness.engine.inventory(harness.node).attempts
    assert first in attempts
    assert second not in attempts
    harness.engine.cancel(harness.node, [first], GRACE_S, 8)
    end = _Reader(harness).wait_for(first).outcome
    assert end is not None
    assert end.kind is OutcomeKind.CANCELLED


def cancel_ends_a_process_and_only_that_one(harness: Harness) -> None:
    victim, other, unknown = an_attempt(10), an_attempt(10, 1), an_attempt(10, 99)
    leases = [harness.lease(victim, Does.SLEEP), harness.lease(other, Does.SLEEP)]
    harness.engine.launch(harness.node, leases, 1)
    reader = _Reader(harness)
    reader.wait_for_start(victim)
    reader.wait_for_start(other)
    harness.engine.cancel(harness.node, [victim, unknown], GRACE_S, 1)
    end = reader.wait_for(victim).outcome
    assert end is not None
    assert end.kind is OutcomeKind.CANCELLED
    assert reader.end_of(other) is None
    harness.engine.cancel(harness.node, [victim, other], GRACE_S, 1)
    reader.wait_for(other)


def only_what_has_not_started_is_withdrawn(harness: Harness) -> None:
    running = [an_attempt(11, index) for index in range(2)]
    waiting = an_attempt(11, 2)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SLEEP) for attempt in (*running, waiting)], 1)
    reader = _Reader(harness)
    for attempt in running:
        reader.wait_for_start(attempt)
    assert list(harness.engine.withdraw(harness.node, [*running, waiting], 1)) == [waiting]
    assert harness.engine.inventory(harness.node).attempts >= set(running)
    assert waiting not in harness.engine.inventory(harness.node).attempts
    harness.engine.cancel(harness.node, running, GRACE_S, 1)
    for attempt in running:
        reader.wait_for(attempt)
    assert all(event.attempt != waiting for event in reader.read().events)


def inventory_knows_what_waits_runs_and_has_ended(harness: Harness) -> None:
    ended, running = an_attempt(12), [an_attempt(12, index) for index in (1, 2)]
    waiting = an_attempt(12, 3)
    harness.engine.launch(harness.node, [harness.lease(ended, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    reader.wait_for(ended)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SLEEP) for attempt in (*running, waiting)], 1)
    assert harness.engine.inventory(harness.node).attempts == {ended, *running, waiting}
    harness.engine.cancel(harness.node, [*running, waiting], GRACE_S, 1)
    for attempt in (*running, waiting):
        reader.wait_for(attempt)


def log_blocks_come_again_until_they_are_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(13)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.PRINT)], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    harness.until(lambda: reader.read().log_head > 0)
    blocks: list[LogBlock] = []

    def all_there() -> bool:
        nonlocal blocks
        blocks = list(harness.engine.logs(harness.node, Position(), 1 << 20).blocks)
        return len(_lines(blocks)) == len(PRINTED)

    harness.until(all_there)
    again = harness.engine.logs(harness.node, Position(), 1 << 20)
    assert [block.block_id for block in again.blocks] == [block.block_id for block in blocks]
    assert tuple(line[5] for line in _lines(blocks)) == PRINTED
    assert {(line[0], line[1], line[2]) for line in _lines(blocks)} == {(0, 1, "stdout")}
    assert sum(sum(block.lines.values()) for block in blocks) == len(PRINTED)
    one = blocks[0]
    assert (one.kind, one.owner, one.first_index, one.last_index) == (attempt.kind, attempt.owner, 0, 0)
    end = Position(incarnation=again.incarnation, number=blocks[-1].number)
    assert harness.engine.logs(harness.node, end, 1 << 20).blocks == ()
    assert reader.read().log_head == 0


def a_new_incarnation_replays_outcomes_and_reports_what_died(harness: Harness) -> None:
    ended, died = an_attempt(14), an_attempt(14, 1)
    harness.engine.launch(harness.node, [harness.lease(ended, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    before = reader.wait_for(ended).outcome
    harness.engine.launch(harness.node, [harness.lease(died, Does.SLEEP)], 1)
    reader.wait_for_start(died)
    old = reader.batch.incarnation
    harness.crash()
    replayed, lost = reader.wait_for(ended), reader.wait_for(died)
    assert reader.batch.incarnation != old
    assert replayed.outcome is not None
    assert before is not None
    assert replayed.outcome.kind is before.kind
    assert lost.outcome is not None
    assert lost.outcome.kind is OutcomeKind.LOST
    assert not lost.outcome.planned
    assert replayed.number < lost.number
    assert harness.engine.inventory(harness.node).attempts >= {ended, died}


def a_new_incarnation_does_not_repeat_what_was_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(15)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = _Reader(harness)
    reader.wait_for(attempt)
    reader.acknowledge()
    old = reader.read().incarnation
    harness.crash()
    harness.until(lambda: reader.read().incarnation != old)
    assert all(event.attempt != attempt for event in reader.batch.events)


def a_crash_leaves_nothing_that_was_never_started_behind(harness: Harness) -> None:
    """Its lease is launched again under the same id, and starts."""
    attempt = an_attempt(16)
    harness.crash()
    assert attempt not in harness.engine.inventory(harness.node).attempts
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 2)
    end = _Reader(harness).wait_for(attempt).outcome
    assert end is not None
    assert end.kind is OutcomeKind.SUCCEEDED


CASES: Final[tuple[Case, ...]] = (
    a_process_that_exits_with_0_succeeds,
    another_exit_code_is_told,
    a_process_over_its_time_is_ended,
    a_result_comes_with_the_outcome,
    launching_twice_starts_once,
    events_come_again_until_they_are_acknowledged,
    what_is_acknowledged_is_forgotten,
    a_position_of_another_incarnation_acknowledges_nothing,
    an_older_term_is_refused,
    cancel_ends_a_process_and_only_that_one,
    only_what_has_not_started_is_withdrawn,
    inventory_knows_what_waits_runs_and_has_ended,
    log_blocks_come_again_until_they_are_acknowledged,
    a_new_incarnation_replays_outcomes_and_reports_what_died,
    a_new_incarnation_does_not_repeat_what_was_acknowledged,
    a_crash_leaves_nothing_that_was_never_started_behind,
)


def _refused(call: Callable[[], object]) -> None:
    try:
        call()
    except StaleTerm:
        return
    raise AssertionError("a term older than one seen before was accepted")


def _lines(blocks: list[LogBlock]) -> list[list[object]]:
    """The lines of blocks, in order: index, attempt, stream, time, severity, text."""
    return [json.loads(line) for block in blocks for line in zlib.decompress(block.data).decode().splitlines() if line]
