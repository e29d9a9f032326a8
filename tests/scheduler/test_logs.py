"""Log blocks on their way from a node to files and index."""

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from tidemill.engine.fake import Fault, Play
from tidemill.engine.protocol import Engine
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import NodeId
from tidemill.model.lease import LogBatch, Position
from tidemill.scheduler.collect import collect
from tidemill.store import log_blocks, nodes, schema
from tidemill.store.log_blocks import BlockQuery, BlockRow
from tidemill.testing.sim import NODE, Given, Sim


def blocks(sim: Sim, key: int) -> list[BlockRow]:
    query = BlockQuery(job=sim.job_of(key), owner=key)
    return sim.database.read(lambda connection: log_blocks.find(connection, query))


def texts(sim: Sim, rows: list[BlockRow]) -> list[str]:
    return [
        json.loads(line)[5]
        for row in rows
        for line in zlib.decompress(sim.logfiles.read(row.place.file, row.place.offset, row.place.length))
        .decode()
        .splitlines()
    ]


def test_output_is_kept_in_one_file_per_job_hour_and_node_and_forgotten_by_the_node(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=1.0, output=("hello", "world"))
    key = sim.submit(Given(tasks=3, parallelism=1))
    sim.run()
    rows = blocks(sim, key)
    assert [row.first_index for row in rows] == [2, 1, 0]  # newest first
    assert texts(sim, rows) == ["hello", "world"] * 3
    assert {row.place.file for row in rows} == {f"{sim.job_of(key)}/2026060100-n1.log"}
    assert rows[0].lines == {"INFO": 2}
    read = sim.database.read(lambda connection: nodes.read_up_to(connection, NODE.id)).logs
    assert sim.engine.logs(NODE.id, read, 1 << 20).blocks == ()


def test_a_block_that_comes_twice_is_kept_once(sim: Sim) -> None:
    sim.scripts.default = Play(output=("hello",))
    key = sim.submit(Given())
    sim.tick()
    assert collect(sim.parts, NODE.id)
    sim.engine.crash(NODE.id)  # it was committed and not acknowledged: the new incarnation shows it again
    assert collect(sim.parts, NODE.id)
    assert not collect(sim.parts, NODE.id)
    assert texts(sim, blocks(sim, key)) == ["hello"]


def test_blocks_that_were_not_committed_are_fetched_again(sim: Sim) -> None:
    sim.scripts.default = Play(output=("hello",))
    key = sim.submit(Given())
    sim.tick()
    sim.engine.fail("logs", Fault.ANSWER_LOST)
    with pytest.raises(EngineUnavailable):
        collect(sim.parts, NODE.id)
    assert blocks(sim, key) == []
    assert collect(sim.parts, NODE.id)
    assert texts(sim, blocks(sim, key)) == ["hello"]


class Meanwhile:
    """An engine whose answer to ``logs`` takes so long that something else happens before it is there."""

    def __init__(self, sim: Sim, happens: Callable[[], object]) -> None:
        self._sim = sim
        self._happens = happens

    def logs(self, node: NodeId, after: Position, max_bytes: int) -> LogBatch:
        batch = self._sim.engine.logs(node, after, max_bytes)
        self._happens()
        return batch


def test_a_server_that_wakes_keeps_no_block_that_another_has_taken(sim: Sim) -> None:
    sim.scripts.default = Play(output=("hello",))
    key = sim.submit(Given())
    sim.tick()

    def other_server() -> None:
        assert collect(sim.parts, NODE.id)
        assert not collect(sim.parts, NODE.id)

    asleep = replace(
        sim.parts, engine=cast("Engine", Meanwhile(sim, other_server))
    )  # of an engine it is asked for logs alone
    assert collect(asleep, NODE.id), "it is to look again"
    assert texts(sim, blocks(sim, key)) == ["hello"]
    assert sim.database.read(lambda connection: nodes.read_up_to(connection, NODE.id)).logs.number == 1
    assert not collect(sim.parts, NODE.id)


def test_a_server_that_wakes_brings_no_swept_block_back(sim: Sim) -> None:
    sim.scripts.default = Play(output=("hello",))
    key = sim.submit(Given())
    sim.tick()

    def other_server() -> None:
        assert collect(sim.parts, NODE.id)
        sim.database.write(lambda connection: connection.execute(schema.log_block.delete()))

    asleep = replace(
        sim.parts, engine=cast("Engine", Meanwhile(sim, other_server))
    )  # of an engine it is asked for logs alone
    assert collect(asleep, NODE.id)
    assert blocks(sim, key) == []
