"""Executions that are kept no longer: hidden from every read in one step, then taken apart in small ones.

What is forgotten is a whole chain: an execution and its reruns, once the last of them has ended long enough ago. Its
rows in ``execution`` and ``execution_alias`` go in one transaction, so that no read finds it any more and its keys are
free; a row in ``forgotten`` for each says whose parts are left. A crash at any point leaves only such rows behind.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import tuple_ as tuple_of

from tidemill.model.ids import OwnerKind
from tidemill.store import deploys, inputs, ranges, schema
from tidemill.store.cut import Kind, cut
from tidemill.store.schema import AnyRow

# with up to three names each, and a row that says what is left, one unit writes 1,000 rows
FORGOTTEN_AT_ONCE: Final = 200
UNIT_ROWS: Final = 1_000

_EXECUTION: Final = schema.execution.c
_ALIAS: Final = schema.execution_alias.c
_FORGOTTEN: Final = schema.forgotten.c
_BLOCK: Final = schema.log_block.c


def find_expired(connection: Connection, after: tuple[datetime, int], cutoff: datetime, limit: int) -> Sequence[AnyRow]:
    """Executions (completed_at, key, chain) that ended before ``cutoff``, in that order, from behind ``after`` on.

    One statement, by execution_completed. Whether the whole chain has expired is for ``forget`` to find out.
    """
    return connection.execute(
        select(_EXECUTION.completed_at, _EXECUTION.key, _EXECUTION.chain)
        .where(
            _EXECUTION.completed_at.is_not(None),
            _EXECUTION.completed_at < cutoff,
            # the first condition by itself, too: it is what the index is searched by
            _EXECUTION.completed_at >= after[0],
            tuple_of(_EXECUTION.completed_at, _EXECUTION.key) > after,
        )
        .order_by(_EXECUTION.completed_at, _EXECUTION.key)
        .limit(limit)
    ).all()


def forget(connection: Connection, chains: Sequence[int], cutoff: datetime, *, now: datetime) -> int:
    """Hide those of ``chains`` whose every execution ended before ``cutoff``; how many executions, at most 200.

    The caller repeats it until it is 0. Newest first, so that what a cut leaves of a long chain is a chain. Seven
    statements, by execution_chain, primary keys and the index of names.
    """
    live = select(_EXECUTION.chain).where(
        _EXECUTION.chain.in_(chains), or_(_EXECUTION.completed_at.is_(None), _EXECUTION.completed_at >= cutoff)
    )
    rows = connection.execute(
        select(_EXECUTION.key, _EXECUTION.job, _EXECUTION.input_set)
        .where(_EXECUTION.chain.in_(chains), _EXECUTION.chain.not_in(live))
        .order_by(_EXECUTION.chain, _EXECUTION.key.desc())
        .limit(FORGOTTEN_AT_ONCE)
    ).all()
    if not rows:
        return 0
    keys = [row.key for row in rows]
    connection.execute(delete(schema.execution_alias).where(_ALIAS.execution.in_(keys)))
    connection.execute(delete(schema.execution).where(_EXECUTION.key.in_(keys)))
    connection.execute(
        insert(schema.forgotten),
        [{"key": row.key, "input_set": row.input_set, "forgotten_at": now} for row in rows],
    )
    by_job: dict[int, int] = {}
    for row in rows:
        by_job[row.job] = by_job.get(row.job, 0) + 1
    job = schema.job.c
    for key, count in by_job.items():
        connection.execute(
            update(schema.job).where(job.key == key).values(executions_total=job.executions_total - count)
        )
    deploys.prune(connection, list(by_job))
    return len(rows)


_RESULTS: Final = Kind(
    table=schema.result,
    key=(schema.result.c.execution, schema.result.c.idx),
    size=func.length(schema.result.c.data),
)
_ATTEMPTS: Final = Kind(
    table=schema.attempt,
    key=(schema.attempt.c.owner, schema.attempt.c.idx, schema.attempt.c.number),
    where=(schema.attempt.c.kind == OwnerKind.TASK.value,),
)
_TASKS: Final = Kind(table=schema.task, key=(schema.task.c.execution, schema.task.c.idx))


def purge(connection: Connection, limit: int = UNIT_ROWS) -> int:
    """Delete up to ``limit`` rows, about 8 MiB, of what forgotten executions left; how many, 0 when nothing is left.

    An input set goes when no execution uses it. About twenty statements, by primary keys and log_block_owner.
    """
    rows = connection.execute(
        select(_FORGOTTEN.key, _FORGOTTEN.input_set).order_by(_FORGOTTEN.key).limit(FORGOTTEN_AT_ONCE)
    ).all()
    keys = [row.key for row in rows]
    if not keys:
        return 0
    left = limit
    for kind in (_RESULTS, _ATTEMPTS, _TASKS, ranges.RANGES):
        done, left = cut(connection, kind, keys, left)
        if not done:
            return limit - left
    left -= delete_blocks(connection, OwnerKind.TASK, keys, left)
    sets = inputs.unused(connection, {row.input_set for row in rows})
    done, left = cut(connection, inputs.CHUNKS, sets, left)
    last = len(sets) + len(keys)
    if not done or limit > left < last:
        return limit - left
    connection.execute(delete(schema.input_set).where(schema.input_set.c.key.in_(sets)))
    connection.execute(delete(schema.forgotten).where(_FORGOTTEN.key.in_(keys)))
    return limit - left + last


def delete_blocks(connection: Connection, kind: OwnerKind, owners: Sequence[int], limit: int) -> int:
    """Delete up to ``limit`` index rows of the output of these owners; how many. Two statements, by log_block_owner."""
    if limit <= 0 or not owners:
        return 0
    found = connection.execute(
        select(_BLOCK.node, _BLOCK.block_id).where(_BLOCK.owner.in_(owners), _BLOCK.kind == kind.value).limit(limit)
    ).all()
    delete_block_rows(connection, found)
    return len(found)


def delete_block_rows(connection: Connection, rows: Sequence[AnyRow]) -> None:
    """Delete index rows of output by (node, block_id). One executemany, by primary key."""
    if rows:
        connection.execute(
            delete(schema.log_block).where(
                _BLOCK.node == bindparam("the_node"), _BLOCK.block_id == bindparam("the_block")
            ),
            [{"the_node": row.node, "the_block": row.block_id} for row in rows],
        )
