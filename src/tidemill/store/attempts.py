"""Attempts of a task as they are read."""

from typing import Final

from sqlalchemy import Connection, select

from tidemill.model.execution import Attempt
from tidemill.model.ids import ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import OutcomeKind
from tidemill.store import schema

_ATTEMPT: Final = schema.attempt.c


def find_newest(connection: Connection, execution: ExecutionKey, index: int, limit: int) -> list[Attempt]:
    """The newest ``limit`` attempts of a task, oldest of them first; none for one without a row.

    One statement, by primary key.
    """
    rows = connection.execute(
        select(
            _ATTEMPT.number,
            _ATTEMPT.node,
            _ATTEMPT.outcome,
            _ATTEMPT.message,
            _ATTEMPT.exit_code,
            _ATTEMPT.signal,
            _ATTEMPT.charged,
            _ATTEMPT.peak_memory_bytes,
            _ATTEMPT.cpu_s,
            _ATTEMPT.claimed_at,
            _ATTEMPT.started_at,
            _ATTEMPT.ended_at,
        )
        .where(_ATTEMPT.kind == OwnerKind.TASK.value, _ATTEMPT.owner == execution, _ATTEMPT.idx == index)
        .order_by(_ATTEMPT.number.desc())
        .limit(limit)
    ).all()
    return [
        Attempt(
            number=row.number,
            node=NodeId(row.node),
            outcome=None if row.outcome is None else OutcomeKind(row.outcome),
            message=row.message,
            exit_code=row.exit_code,
            signal=row.signal,
            charged=bool(row.charged),
            peak_memory_bytes=row.peak_memory_bytes,
            cpu_s=row.cpu_s,
            claimed_at=row.claimed_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )
        for row in reversed(rows)
    ]
