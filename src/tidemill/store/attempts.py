"""Attempts of a task as they are read."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from tidemill.model.execution import Attempt
from tidemill.model.ids import AttemptId, ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import OutcomeKind
from tidemill.model.protections import read_had
from tidemill.store import schema
from tidemill.store.prepared import Prepared

_ATTEMPT: Final = schema.attempt.c
_EXECUTION: Final = schema.execution.c
_JOB: Final = schema.job.c
_LIVE: Final = Prepared(
    select(_EXECUTION.workspace, _JOB.name.label("job"), _EXECUTION.id)
    .join_from(schema.attempt, schema.execution, _ATTEMPT.owner == _EXECUTION.key)
    .join(schema.job, _EXECUTION.job == _JOB.key)
    .where(
        _ATTEMPT.kind == OwnerKind.TASK.value,
        _ATTEMPT.owner == bindparam("owner"),
        _ATTEMPT.idx == bindparam("idx"),
        _ATTEMPT.number == bindparam("number"),
        _ATTEMPT.ended_at.is_(None),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a live attempt of a task belongs."""

    workspace: str
    job: str
    execution: str


def seat(connection: Connection, attempt: AttemptId) -> Seat | None:
    """Where the attempt belongs; None once it has ended. One statement, by three primary keys."""
    row = _LIVE.run(connection, {"owner": attempt.owner, "idx": attempt.index, "number": attempt.number}).one_or_none()
    return None if row is None else Seat(workspace=row.workspace, job=row.job, execution=row.id)


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
            _ATTEMPT.protections,
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
            protections=None if row.protections is None else read_had(row.protections),
            claimed_at=row.claimed_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )
        for row in reversed(rows)
    ]
