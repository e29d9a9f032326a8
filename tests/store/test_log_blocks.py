from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from tidemill.model.ids import JobKey, NodeId
from tidemill.model.lease import LogBlock, Position
from tidemill.store import log_blocks, nodes, schema
from tidemill.store.log_blocks import BlockQuery, BlockRow, Place
from tidemill.testing.sim import NODE, Sim

START = datetime(2026, 6, 1, tzinfo=UTC)
READ = Position(incarnation="n1-1", number=7)


@pytest.fixture
def sim(_store: Sim) -> Sim:
    """Six blocks of job 7: executions 70 and 71 in turn, three tasks a block, ten seconds each; one of job 8."""
    _store.reset()
    _store.database.write(
        lambda connection: connection.execute(
            insert(schema.node).values(id=NODE.id, region="local", memory_mb=1, slots=1, incarnation="", seen_at=START)
        )
    )
    _store.database.write(
        lambda connection: log_blocks.append(
            connection,
            NODE.id,
            [(block(7, 70 + number % 2, number), Place(file="f", offset=number, length=1)) for number in range(6)]
            + [(block(8, 80, 6), Place(file="f", offset=6, length=1))],
            after=Position(),
            position=READ,
        )
    )
    return _store


def block(job: int, owner: int, number: int) -> LogBlock:
    first = START.timestamp() + 10 * number
    return LogBlock(
        number=number + 1,
        block_id=f"b{number}",
        log_key=job,
        kind="t",
        owner=owner,
        first_index=3 * number,
        last_index=3 * number + 2,
        first_at=first,
        last_at=first + 9.5,
        lines={"INFO": number},
        data=b"x",
        cut=number == 5,
    )


def find(sim: Sim, query: BlockQuery) -> list[str]:
    return [row.block_id for row in rows(sim, query)]


def rows(sim: Sim, query: BlockQuery) -> list[BlockRow]:
    return sim.database.read(lambda connection: log_blocks.find(connection, query))


JOB = JobKey(7)


def test_blocks_of_a_job_come_newest_first_with_all_that_is_known(sim: Sim) -> None:
    assert find(sim, BlockQuery(job=JOB)) == ["b5", "b4", "b3", "b2", "b1", "b0"]
    newest = rows(sim, BlockQuery(job=JOB))[0]
    assert (newest.node, newest.owner, newest.first_index, newest.last_index) == (NodeId("n1"), 71, 15, 17)
    assert (newest.lines, newest.cut, newest.place) == ({"INFO": 5}, True, Place(file="f", offset=5, length=1))
    assert (newest.first_at, newest.last_at) == (START + timedelta(seconds=50), START + timedelta(seconds=59.5))


def test_blocks_of_one_execution_and_of_one_task(sim: Sim) -> None:
    assert find(sim, BlockQuery(job=JOB, owner=70)) == ["b4", "b2", "b0"]
    assert find(sim, BlockQuery(job=JOB, owner=70, index=7)) == ["b2"]
    assert find(sim, BlockQuery(job=JOB, owner=80)) == []


def test_blocks_that_may_hold_lines_of_a_time(sim: Sim) -> None:
    since, until = START + timedelta(seconds=15), START + timedelta(seconds=30)
    assert find(sim, BlockQuery(job=JOB, since=since, until=until)) == ["b3", "b2", "b1"]


def test_pages_continue_where_the_last_one_ended(sim: Sim) -> None:
    first = rows(sim, BlockQuery(job=JOB, limit=4))
    assert [row.block_id for row in first] == ["b5", "b4", "b3", "b2"]
    assert find(sim, BlockQuery(job=JOB, limit=4, before=first[-1])) == ["b1", "b0"]


def test_the_position_is_committed_with_the_blocks(sim: Sim) -> None:
    read = sim.database.read(lambda connection: nodes.read_up_to(connection, NODE.id))
    assert read.logs == READ
    assert read.events == Position()


def test_blocks_that_are_known_are_told_from_new_ones(sim: Sim) -> None:
    known = sim.database.read(lambda connection: log_blocks.known(connection, NODE.id, ["b1", "b9"]))
    assert known == {"b1"}
    assert sim.database.read(lambda connection: log_blocks.known(connection, NodeId("n2"), ["b1"])) == frozenset()


@pytest.mark.parametrize(
    "after", [replace(READ, number=6), replace(READ, number=8), Position(incarnation="n1-0", number=7)]
)
def test_what_was_fetched_from_another_position_is_not_kept(sim: Sim, after: Position) -> None:
    """Another server has gone on from there, or this one was asleep: the same blocks are kept already, or were."""
    late = [
        (block(7, 70, 5), Place(file="g", offset=0, length=1)),
        (block(7, 70, 9), Place(file="g", offset=1, length=1)),
    ]
    sim.database.write(lambda connection: connection.execute(schema.log_block.delete()))  # too old to be kept any more
    assert not append(sim, late, after, Position(incarnation="n1-1", number=10))
    assert find(sim, BlockQuery(job=JOB)) == []
    assert sim.database.read(lambda connection: nodes.read_up_to(connection, NODE.id)).logs == READ


def test_what_was_fetched_from_where_the_store_is_is_kept(sim: Sim) -> None:
    position = Position(incarnation="n1-2", number=1)
    assert append(sim, [(block(7, 70, 9), Place(file="g", offset=0, length=1))], READ, position)
    assert find(sim, BlockQuery(job=JOB))[0] == "b9"
    assert sim.database.read(lambda connection: nodes.read_up_to(connection, NODE.id)).logs == position


def append(sim: Sim, blocks: list[tuple[LogBlock, Place]], after: Position, position: Position) -> bool:
    return sim.database.write(
        lambda connection: log_blocks.append(connection, NODE.id, blocks, after=after, position=position)
    )
