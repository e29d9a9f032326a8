"""Cases of the engine suite: what nodes report, how often, and what a new incarnation makes of the old one's."""

import json
from typing import Final

from tidemill.model.ids import AttemptId
from tidemill.model.lease import PROTOCOL_VERSION, EventKind, LogBlock, OutcomeKind, Position
from tidemill.testing.engine_harness import (
    EXIT_CODE,
    PRINTED,
    RESULT,
    Does,
    Harness,
    Reader,
    an_attempt,
    lines_of,
)

MANY_BYTES: Final = 1 << 20


def a_node_says_what_it_is(harness: Harness) -> None:
    (info,) = harness.engine.nodes()
    assert info.id == harness.node
    assert info.protocol_version == PROTOCOL_VERSION
    assert info.slots == 2
    assert info.memory_mb > 0
    assert info.region
    batch = harness.engine.events(harness.node, Position(), 0)
    logs = harness.engine.logs(harness.node, Position(), MANY_BYTES)
    inventory = harness.engine.inventory(harness.node)
    assert {batch.incarnation, logs.incarnation, inventory.incarnation} == {info.incarnation}
    assert (batch.events, batch.log_head, logs.blocks, inventory.attempts) == ((), 0, (), frozenset())


def a_process_that_exits_with_0_succeeds(harness: Harness) -> None:
    attempt = an_attempt(1)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    end = reader.wait_for(attempt)
    assert end.outcome is not None
    assert end.outcome.kind is OutcomeKind.SUCCEEDED
    assert end.outcome.started_at is not None
    assert end.outcome.started_at <= end.outcome.ended_at
    assert reader.kinds_of(attempt) == [EventKind.STARTED, EventKind.ENDED]
    numbers = [event.number for event in reader.batch.events]
    assert numbers == list(range(1, len(numbers) + 1))


def another_exit_code_is_told(harness: Harness) -> None:
    attempt = an_attempt(2)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.FAIL)], 1)
    outcome = Reader(harness).outcome_of(attempt)
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, EXIT_CODE)


def a_result_comes_with_the_outcome(harness: Harness) -> None:
    attempt = an_attempt(4)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.RESULT)], 1)
    outcome = Reader(harness).outcome_of(attempt)
    assert json.loads(outcome.result or "null") == json.loads(RESULT)


def events_come_again_until_they_are_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(6)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    first = reader.batch
    assert reader.read() == first
    reader.position = Position(incarnation=first.incarnation, number=first.events[0].number)
    assert reader.read().events == first.events[1:]


def what_is_acknowledged_is_forgotten(harness: Harness) -> None:
    attempt = an_attempt(7)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    assert attempt in harness.engine.inventory(harness.node).attempts
    reader.acknowledge()
    assert reader.read().events == ()
    assert attempt not in harness.engine.inventory(harness.node).attempts


def an_acknowledgement_that_comes_again_forgets_nothing_more(harness: Harness) -> None:
    """Its answer was lost, or it was overtaken: numbers go on, and what is new waits for its own."""
    first, second = an_attempt(17), an_attempt(17, 1)
    harness.engine.launch(harness.node, [harness.lease(first, Does.SUCCEED)], 1)
    reader = Reader(harness)
    last = reader.wait_for(first).number
    reader.acknowledge()
    reader.read()
    harness.engine.launch(harness.node, [harness.lease(second, Does.SUCCEED)], 1)
    reader.wait_for(second)
    reader.position = Position(incarnation=reader.batch.incarnation, number=1)
    for _ in range(2):
        assert [event.number for event in reader.read().events] == [last + 1, last + 2]
    assert harness.engine.inventory(harness.node).attempts == {second}


def a_position_of_another_incarnation_acknowledges_nothing(harness: Harness) -> None:
    attempt = an_attempt(8)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    first = reader.batch.events
    reader.position = Position(incarnation="another life", number=10_000)
    assert reader.read().events == first
    reader.position = Position()
    assert reader.read().events == first


def log_blocks_come_again_until_they_are_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(13)
    blocks = _printed(harness, attempt)
    again = harness.engine.logs(harness.node, Position(), MANY_BYTES)
    assert list(again.blocks) == blocks
    assert tuple(line[5] for line in lines_of(blocks)) == PRINTED
    assert {(line[0], line[1], line[2]) for line in lines_of(blocks)} == {(0, 1, "stdout")}
    assert sum(sum(block.lines.values()) for block in blocks) == len(PRINTED)
    one = blocks[0]
    assert (one.kind, one.owner, one.first_index, one.last_index) == (attempt.kind, attempt.owner, 0, 0)
    end = Position(incarnation=again.incarnation, number=blocks[-1].number)
    assert harness.engine.logs(harness.node, end, MANY_BYTES).blocks == ()
    assert Reader(harness).read().log_head == 0


def log_blocks_are_numbered_and_acknowledged_one_by_one(harness: Harness) -> None:
    """Two executions' blocks at least: a question that has room for no block gets one, else nothing would move."""
    blocks = [*_printed(harness, an_attempt(18)), *_printed(harness, an_attempt(19))]
    ids = list(dict.fromkeys(block.block_id for block in blocks))
    assert len(ids) >= 2
    seen: list[LogBlock] = []
    position = Position()
    for _ in ids:
        batch = harness.engine.logs(harness.node, position, 1)
        assert len(batch.blocks) == 1
        seen += batch.blocks
        position = Position(incarnation=batch.incarnation, number=batch.blocks[0].number)
    assert [block.number for block in seen] == list(range(1, len(ids) + 1))
    assert [block.block_id for block in seen] == ids
    assert harness.engine.logs(harness.node, position, 1).blocks == ()


def a_new_incarnation_replays_outcomes_and_reports_what_died(harness: Harness) -> None:
    ended, died = an_attempt(14), an_attempt(14, 1)
    harness.engine.launch(harness.node, [harness.lease(ended, Does.RESULT)], 1)
    reader = Reader(harness)
    before = reader.outcome_of(ended)
    harness.engine.launch(harness.node, [harness.lease(died, Does.STUBBORN)], 1)
    reader.wait_for_start(died)
    harness.until(lambda: harness.is_alive(died))
    old = reader.batch.incarnation
    harness.crash()
    replayed, lost = reader.wait_for(ended), reader.wait_for(died)
    assert reader.batch.incarnation != old
    assert replayed.outcome is not None
    assert (replayed.outcome.kind, replayed.outcome.result) == (before.kind, before.result)
    assert lost.outcome is not None
    assert lost.outcome.kind is OutcomeKind.LOST
    assert not lost.outcome.planned
    assert not harness.is_alive(died), "it is reported lost, and runs"
    assert replayed.number < lost.number
    assert harness.engine.inventory(harness.node).attempts >= {ended, died}


def a_new_incarnation_does_not_repeat_what_was_acknowledged(harness: Harness) -> None:
    attempt = an_attempt(15)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    reader.acknowledge()
    old = reader.read().incarnation
    harness.crash()
    harness.until(lambda: reader.read().incarnation != old)
    assert reader.kinds_of(attempt) == []


def a_new_incarnation_shows_log_blocks_again_under_their_ids(harness: Harness) -> None:
    attempt = an_attempt(20)
    blocks = _printed(harness, attempt)
    position = Position(incarnation=harness.engine.logs(harness.node, Position(), 1).incarnation, number=10_000)
    harness.crash()
    batch = harness.engine.logs(harness.node, position, MANY_BYTES)
    assert batch.incarnation != position.incarnation
    assert [block.block_id for block in batch.blocks] == [block.block_id for block in blocks]
    assert lines_of(batch.blocks) == lines_of(blocks)
    Reader(harness).wait_for(attempt)


def _printed(harness: Harness, attempt: AttemptId) -> list[LogBlock]:
    """Run an attempt that prints; the blocks that wait when all it printed is there, its own last."""
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.PRINT)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    harness.until(lambda: reader.read().log_head > 0)
    blocks: list[LogBlock] = []

    def all_there() -> bool:
        nonlocal blocks
        blocks = list(harness.engine.logs(harness.node, Position(), MANY_BYTES).blocks)
        return len(lines_of(block for block in blocks if block.owner == attempt.owner)) == len(PRINTED)

    harness.until(all_there)
    return blocks
