import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from tidemill.model.ids import InputSetKey
from tidemill.store import inputs, schema
from tidemill.store.database import Database
from tidemill.store.inputs import CHUNK_BYTES, CHUNK_TASKS, NewInputs

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "tidemill.db", synchronous="OFF")
    yield opened
    opened.close()


def stored(database: Database, key: int, tasks: list[bytes], now: datetime = NOW) -> InputSetKey:
    made = InputSetKey(key)
    new = NewInputs(key=made, workspace="main", total=len(tasks), size_bytes=sum(map(len, tasks)))
    chunks = list(inputs.encode(tasks))
    database.write(lambda connection: inputs.add(connection, new, chunks, now=now))
    return made


@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), min_size=1, max_size=50), st.data())
def test_what_is_cut_into_chunks_comes_back_by_index(tasks: list[dict[str, str]], data: st.DataObject) -> None:
    texts = [json.dumps(task).encode() for task in tasks]
    chunks = list(inputs.encode(texts))
    indices = data.draw(st.lists(st.integers(0, len(tasks) - 1)))
    assert inputs.decode(chunks, indices) == {index: texts[index].decode() for index in indices}


def test_chunks_are_bounded_in_tasks_and_bytes() -> None:
    small = list(inputs.encode([b"{}"] * 2_500))
    assert [(chunk.first_index, chunk.count) for chunk in small] == [(0, 1000), (1000, 1000), (2000, 500)]
    big = list(inputs.encode([b'{"a":"' + b"x" * 300_000 + b'"}'] * 10))
    assert [chunk.count for chunk in big] == [4, 4, 2]
    assert all(len(zlib.decompress(chunk.data)) < CHUNK_BYTES + 310_000 for chunk in big)


def test_only_the_chunks_that_are_asked_for_are_read(database: Database) -> None:
    key = stored(database, 1, [b'{"n":%d}' % number for number in range(5 * CHUNK_TASKS)])
    stored(database, 2, [b'{"other":1}'] * 5 * CHUNK_TASKS)

    def firsts(indices: list[int]) -> list[int]:
        return [chunk.first_index for chunk in database.read(lambda connection: inputs.tasks(connection, key, indices))]

    assert firsts([]) == []
    assert firsts([0]) == [0]
    assert firsts([999, 1000]) == [0, 1000]
    assert firsts([1999]) == [1000]
    assert firsts([4999, 0]) == [0, 4000]
    assert firsts([5000]) == []
    chunks = database.read(lambda connection: inputs.tasks(connection, key, [4999, 0]))
    assert inputs.decode(chunks, [4999, 0]) == {0: '{"n":0}', 4999: '{"n":4999}'}


def test_what_nobody_refers_to_is_swept_in_pieces(database: Database) -> None:
    stored(database, 1, [b"{}"] * 3_500)
    stored(database, 2, [b"{}"], now=NOW + timedelta(hours=1))
    older = NOW + timedelta(minutes=30)
    key = database.read(lambda connection: inputs.find_unused(connection, NOW, older))
    assert key == 1
    swept = [database.write(lambda connection: inputs.drop_unused(connection, key, 2)) for _ in range(4)]
    assert database.read(lambda connection: inputs.find_unused(connection, NOW, older)) is None
    assert swept == [2, 2, 1, 0]
    left = database.read(
        lambda connection: (
            list(connection.scalars(select(schema.input_set.c.key))),
            connection.scalar(select(func.count()).select_from(schema.input_chunk)),
        )
    )
    assert left == ([2], 1)


def test_what_an_execution_refers_to_is_kept(database: Database) -> None:
    key = stored(database, 1, [b"{}"])
    values = {
        "key": 7,
        "id": "execution-1",
        "workspace": "main",
        "job": 1,
        "revision": "r",
        "image_digest": "d",
        "state": "pending",
        "input_set": key,
        "request_id": "r",
        "request_digest": "d",
        "env_names": [],
        "parallelism": 1,
        "memory_mb": 1,
        "timeout_s": 1,
        "max_retries": 0,
        "chain": 7,
        "total": 1,
        "created_at": NOW,
        "served_at": NOW,
        "updated_at": NOW,
    }
    database.write(lambda connection: connection.execute(schema.execution.insert().values(values)))
    later = NOW + timedelta(days=1)
    assert database.read(lambda connection: inputs.find_unused(connection, NOW, later)) is None
    assert database.write(lambda connection: inputs.drop_unused(connection, key, 100)) == 0
