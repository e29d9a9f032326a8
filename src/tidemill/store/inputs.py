"""The arguments of tasks: immutable sets in compressed chunks, written before anything refers to them."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, exists, func, insert, or_, select

from tidemill.model.ids import InputSetKey
from tidemill.store import schema
from tidemill.store.cut import Kind, cut
from tidemill.store.keys import FIRST, PAIRS, SECOND, THIRD, pairs
from tidemill.store.prepared import Prepared

CHUNK_TASKS: Final = 1_000
CHUNK_BYTES: Final = 1 << 20

CHUNKS: Final = Kind(
    table=schema.input_chunk,
    key=(schema.input_chunk.c.input_set, schema.input_chunk.c.first_index),
    size=func.length(schema.input_chunk.c.data),
)

_USED: Final = or_(
    exists().where(schema.execution.c.input_set == schema.input_set.c.key),
    exists().where(schema.job_trigger.c.input_set == schema.input_set.c.key),
)
_INSERT_SET: Final = Prepared(insert(schema.input_set), ("key", "workspace", "total", "size_bytes", "created_at"))
_INSERT_CHUNK: Final = Prepared(insert(schema.input_chunk), ("input_set", "first_index", "count", "data"))
_CHUNK: Final = schema.input_chunk.c
# a chunk has at most 1,000 tasks, so only the neighbourhood of a run is looked at
_AROUND: Final = Prepared(
    select(_CHUNK.input_set, _CHUNK.first_index, _CHUNK.count, _CHUNK.data)
    .select_from(PAIRS)
    .join(
        schema.input_chunk,
        (_CHUNK.input_set == FIRST)
        & (_CHUNK.first_index > SECOND - CHUNK_TASKS)
        & (_CHUNK.first_index <= THIRD)
        & (_CHUNK.first_index + _CHUNK.count > SECOND),
    )
    .order_by(_CHUNK.input_set, _CHUNK.first_index)
)
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """``count`` tasks from ``first_index`` on; ``data`` is zlib of a JSON array of their bytes as sent."""

    first_index: int
    count: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInputs:
    """A set to be written. ``size_bytes`` is that of the tasks as sent."""

    key: InputSetKey
    workspace: str
    total: int
    size_bytes: int


def encode(tasks: Iterable[bytes]) -> Iterator[Chunk]:
    """Cut tasks (JSON objects) into chunks of at most 1,000 tasks and about 1 MiB before compression.

    A chunk exceeds 1 MiB by less than its last task. Call it outside of any transaction: it compresses.
    """
    first, size, held = 0, 0, list[bytes]()
    for task in tasks:
        held.append(task)
        size += len(task) + 1
        if len(held) == CHUNK_TASKS or size >= CHUNK_BYTES:
            yield _chunk(first, held)
            first, size, held = first + len(held), 0, []
    if held:
        yield _chunk(first, held)


def tasks_of(text: str) -> list[bytes]:
    """The elements of a JSON list, as they are written there."""
    return [bytes(task) for task in _RAWS.decode(text)]


def decode(chunks: Iterable[Chunk], indices: Iterable[int]) -> dict[int, str]:
    """The arguments at ``indices`` as JSON text, as far as ``chunks`` hold them. Call it outside of any transaction."""
    wanted = sorted(set(indices))
    found: dict[int, str] = {}
    for chunk in chunks:
        here = [index for index in wanted if chunk.first_index <= index < chunk.first_index + chunk.count]
        if here:
            tasks = _RAWS.decode(zlib.decompress(chunk.data))
            found.update({index: bytes(tasks[index - chunk.first_index]).decode() for index in here})
    return found


def add(connection: Connection, inputs: NewInputs, chunks: Sequence[Chunk], *, now: datetime) -> None:
    """Write the set and its first chunks. Two statements."""
    add_all(connection, [(inputs, chunks)], now=now)


def add_all(connection: Connection, every: Sequence[tuple[NewInputs, Sequence[Chunk]]], *, now: datetime) -> None:
    """Write sets with their first chunks. Two statements for all of them; the caller keeps them under 4 MiB."""
    _INSERT_SET.run_many(
        connection,
        [
            {
                "key": inputs.key,
                "workspace": inputs.workspace,
                "total": inputs.total,
                "size_bytes": inputs.size_bytes,
                "created_at": now,
            }
            for inputs, _ in every
        ],
    )
    _add_chunks(connection, [(inputs.key, chunk) for inputs, chunks in every for chunk in chunks])


def add_chunks(connection: Connection, key: InputSetKey, chunks: Sequence[Chunk]) -> None:
    """Write more chunks of a set that nothing refers to yet. One statement; the caller keeps it under 4 MiB."""
    _add_chunks(connection, [(key, chunk) for chunk in chunks])


def tasks(connection: Connection, key: InputSetKey, indices: Sequence[int]) -> list[Chunk]:
    """The chunks that hold ``indices``, in order, each once; to be read by ``decode`` after the transaction.

    One statement, by primary key.
    """
    return tasks_of_sets(connection, {key: indices})[key]


def tasks_of_sets(
    connection: Connection, wanted: Mapping[InputSetKey, Iterable[int]]
) -> dict[InputSetKey, list[Chunk]]:
    """The same for several sets at once. One statement, by primary keys."""
    found: dict[InputSetKey, list[Chunk]] = {key: [] for key in wanted}
    runs = [(key, low, high) for key, indices in wanted.items() for low, high in _runs(indices)]
    if runs:
        for row in _AROUND.run(connection, {"pairs": pairs(runs)}):
            key, first_index, count, data = tuple(row)
            found[key].append(Chunk(first_index=first_index, count=count, data=data))
    return found


def find_unused(connection: Connection, after: datetime, before: datetime) -> InputSetKey | None:
    """The first set made between these times that no execution and no trigger uses. One statement, by created_at."""
    table = schema.input_set.c
    key = connection.scalar(
        select(table.key)
        .where(table.created_at >= after, table.created_at < before, ~_USED)
        .order_by(table.created_at)
        .limit(1)
    )
    return None if key is None else InputSetKey(key)


def unused(connection: Connection, sets: Iterable[int]) -> list[int]:
    """Those of ``sets`` that no execution and no trigger uses. One statement, by primary key and the users' indices."""
    return list(connection.scalars(select(schema.input_set.c.key).where(schema.input_set.c.key.in_(sets), ~_USED)))


def drop_unused(connection: Connection, key: InputSetKey, limit: int) -> int:
    """Delete up to ``limit`` rows, about 8 MiB, of a set that no execution uses; how many. Five statements at most.

    Chunks go before their set, so that a cut leaves no orphan.
    """
    if not unused(connection, [key]):
        return 0
    done, left = cut(connection, CHUNKS, [key], limit)
    if not done:
        return limit - left
    connection.execute(delete(schema.input_set).where(schema.input_set.c.key == key))
    return limit - left + 1


def _add_chunks(connection: Connection, chunks: Sequence[tuple[InputSetKey, Chunk]]) -> None:
    if chunks:
        _INSERT_CHUNK.run_many(
            connection,
            [
                {"input_set": key, "first_index": chunk.first_index, "count": chunk.count, "data": chunk.data}
                for key, chunk in chunks
            ],
        )


def _chunk(first: int, held: Sequence[bytes]) -> Chunk:
    # level 1: the next ones shrink arguments a little more and cost several times as much
    return Chunk(first_index=first, count=len(held), data=zlib.compress(b"[" + b",".join(held) + b"]", 1))


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbouring indices (less than a chunk apart) as (lowest, highest): few conditions for many indices."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indices)):
        if runs and index - runs[-1][1] < CHUNK_TASKS:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
