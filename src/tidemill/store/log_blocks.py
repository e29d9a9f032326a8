"""Index rows of log blocks: whose output each holds, and where its bytes lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, insert, select, tuple_, update

from tidemill.model.ids import JobKey, NodeId, OwnerKind
from tidemill.model.lease import LogBlock, Position
from tidemill.store import schema

_BLOCK: Final = schema.log_block.c
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a block's bytes lie: ``length`` of them from ``offset`` on in the log file ``file``."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """A block as the index knows it. ``kind`` and ``owner`` name an execution or a build (OwnerKind).

    ``lines`` counts them per severity; ``cut``: output was dropped right after this block.
    """

    node: NodeId
    block_id: str
    job: JobKey
    kind: str
    owner: int
    first_index: int
    last_index: int
    first_at: datetime
    last_at: datetime
    lines: Mapping[str, int]
    cut: bool
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockQuery:
    """Blocks of one job that may hold lines from ``since`` to ``until`` (inclusive), of all or of one owner and index.

    ``kind`` leaves only blocks of tasks or of builds. ``before`` is the last row of the page before, exclusive.
    """

    job: JobKey
    kind: OwnerKind | None = None
    owner: int | None = None
    index: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: BlockRow | None = None
    limit: int = 100


def append(
    connection: Connection,
    node: NodeId,
    blocks: Sequence[tuple[LogBlock, Place]],
    *,
    after: Position,
    position: Position,
) -> bool:
    """Keep where blocks lie, and with it how far the node's logs are read. Two statements.

    False, and nothing is kept, when the node's logs are not read up to ``after`` (any more), where these were fetched
    from: another server has taken them meanwhile, and may have swept them since.
    """
    moved = connection.execute(
        update(schema.node)
        .where(
            schema.node.c.id == node,
            schema.node.c.logs_incarnation == after.incarnation,
            schema.node.c.logs_after == after.number,
        )
        .values(logs_incarnation=position.incarnation, logs_after=position.number)
    )
    if moved.rowcount == 0:
        return False
    if blocks:
        connection.execute(insert(schema.log_block), [_values(node, block, place) for block, place in blocks])
    return True


def known(connection: Connection, node: NodeId, block_ids: Sequence[str]) -> frozenset[str]:
    """Those of ``block_ids`` that are kept already. One statement, by primary key."""
    return frozenset(
        connection.scalars(select(_BLOCK.block_id).where(_BLOCK.node == node, _BLOCK.block_id.in_(block_ids)))
    )


def find(connection: Connection, query: BlockQuery) -> list[BlockRow]:
    """Rows in order of their last line, newest first. One statement, by log_block_job (one owner: log_block_owner)."""
    wanted = [_BLOCK.job == query.job]
    if query.kind is not None:
        wanted.append(_BLOCK.kind == query.kind.value)
    if query.owner is not None:
        wanted.append(_BLOCK.owner == query.owner)
    if query.index is not None:
        wanted += [_BLOCK.first_index <= query.index, _BLOCK.last_index >= query.index]
    if query.since is not None:
        wanted.append(_BLOCK.last_at >= query.since)
    if query.until is not None:
        wanted.append(_BLOCK.first_at <= query.until)
    if query.before is not None:
        last = query.before
        wanted.append(tuple_(_BLOCK.last_at, _BLOCK.node, _BLOCK.block_id) < (last.last_at, last.node, last.block_id))
    rows = connection.execute(
        select(
            _BLOCK.node,
            _BLOCK.block_id,
            _BLOCK.job,
            _BLOCK.kind,
            _BLOCK.owner,
            _BLOCK.first_index,
            _BLOCK.last_index,
            _BLOCK.first_at,
            _BLOCK.last_at,
            _BLOCK.lines,
            _BLOCK.cut,
            _BLOCK.file,
            _BLOCK.offset,
            _BLOCK.length,
        )
        .where(*wanted)
        .order_by(_BLOCK.last_at.desc(), _BLOCK.node.desc(), _BLOCK.block_id.desc())
        .limit(query.limit)
    )
    return [
        BlockRow(
            node=NodeId(row.node),
            block_id=row.block_id,
            job=JobKey(row.job),
            kind=row.kind,
            owner=row.owner,
            first_index=row.first_index,
            last_index=row.last_index,
            first_at=row.first_at,
            last_at=row.last_at,
            lines=row.lines,
            cut=bool(row.cut),
            place=Place(file=row.file, offset=row.offset, length=row.length),
        )
        for row in rows
    ]


def _values(node: NodeId, block: LogBlock, place: Place) -> dict[str, object]:
    return {
        "node": node,
        "block_id": block.block_id,
        "job": block.log_key,
        "kind": block.kind,
        "owner": block.owner,
        "first_index": block.first_index,
        "last_index": block.last_index,
        "first_at": _EPOCH + timedelta(seconds=block.first_at),
        "last_at": _EPOCH + timedelta(seconds=block.last_at),
        "lines": dict(block.lines),
        "cut": int(block.cut),
        "file": place.file,
        "offset": place.offset,
        "length": place.length,
    }
