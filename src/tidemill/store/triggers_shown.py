"""The triggers of a job as its user sees them: when they run next, and what became of the last due time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, func, select

from tidemill.model.trigger import Outcome
from tidemill.store import jobs, schema, triggers
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

SHOWN_RUNS: Final = 5

_TRIGGER: Final = schema.job_trigger.c
_TICK: Final = schema.tick.c
_EXECUTION: Final = schema.execution.c
_NEWEST: Final = schema.tick.alias("newest")
_ROWS: Final = Prepared(
    select(
        *(_TRIGGER.id, _TRIGGER.schedule, _TRIGGER.timezone, _TRIGGER.next_due_at),
        *(_TICK.due_at, _TICK.outcome, _TICK.reason, _TICK.settled_at),
        *(_EXECUTION.id.label("execution_id"), _EXECUTION.state),
    )
    .outerjoin_from(
        schema.job_trigger,
        schema.tick,
        and_(
            _TICK.job == _TRIGGER.job,
            _TICK.trigger_id == _TRIGGER.id,
            _TICK.due_at
            == select(func.max(_NEWEST.c.due_at))
            .where(_NEWEST.c.job == _TRIGGER.job, _NEWEST.c.trigger_id == _TRIGGER.id)
            .correlate(schema.job_trigger)
            .scalar_subquery(),
        ),
    )
    .outerjoin(schema.execution, _EXECUTION.key == _TICK.execution)
    .where(_TRIGGER.job == bindparam("of_job"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The newest due time that has come. ``execution`` is the id of what it made, empty for nothing that is kept."""

    due_at: datetime
    outcome: Outcome
    reason: str
    execution: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerShown:
    """``kept`` is the trigger as the job's spec has it. ``next_runs`` are its next due times, at most five."""

    kept: Mapping[str, object]
    next_runs: Sequence[datetime]
    last_run: LastRun | None


def find_all(connection: Connection, workspace: str, name: str) -> list[TriggerShown] | None:
    """The triggers of a job in the order of its spec; None for no such job. Two statements, by job_name and keys."""
    job = jobs.row_of(connection, workspace, name)
    if job is None:
        return None
    rows = {row.id: row for row in _ROWS.run(connection, {"of_job": job.key})}
    kept = job.extra.get("spec", {}).get("triggers") or ()
    return [_shown(one, rows[one["id"]]) for one in kept if one["id"] in rows]


def _shown(kept: Mapping[str, object], row: AnyRow) -> TriggerShown:
    last = None
    if row.due_at is not None:
        last = LastRun(
            due_at=row.due_at,
            outcome=Outcome(row.outcome),
            reason=row.reason,
            execution=row.execution_id or "",
            status=row.state or "",
        )
    return TriggerShown(kept=kept, next_runs=_next_runs(row) if kept["enabled"] else (), last_run=last)


def _next_runs(row: AnyRow) -> Sequence[datetime]:
    schedule = None if row.next_due_at is None else triggers.schedule_of(row.schedule, row.timezone)
    return () if schedule is None else [row.next_due_at, *schedule.next(row.next_due_at, SHOWN_RUNS - 1)]
