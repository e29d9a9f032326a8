"""The triggers of jobs: kept in step with the specs that name them, and turned into ticks when they are due.

A tick is a due time of one trigger, by its primary key once. Here it becomes a row; ``ticks.py`` settles it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_unless

from tidemill.model.cron import ScheduleError
from tidemill.model.ids import InputSetKey, JobKey
from tidemill.model.states import JobState
from tidemill.model.trigger import (
    CALLED,
    DEFAULT_TIMEZONE,
    CatchUp,
    Outcome,
    Overlap,
    Passed,
    Schedule,
    Skipped,
    TriggerType,
    ZoneError,
    normal_path,
)
from tidemill.store import inputs, schema
from tidemill.store.inputs import Chunk, NewInputs
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

ONE_TASK: Final = "[{}]"
PUBLIC: Final = "public"
"""The ``authenticationType`` that asks for no credential."""
# what one unit makes of due triggers: some hundred rows, a few ms
TICKS_AT_ONCE: Final = 500

# written out: a partial index serves no parameter
IS_DUE: Final[ColumnElement[str]] = literal_column(f"'{Outcome.DUE.value}'")

_TRIGGER: Final = schema.job_trigger.c
_TICK: Final = schema.tick.c
_JOB: Final = schema.job.c
_MINE: Final = (_TRIGGER.job == bindparam("of_job"), _TRIGGER.id == bindparam("of_id"))
_ROWS: Final = Prepared(select(*_TRIGGER).where(_TRIGGER.job == bindparam("of_job")))
_DUE: Final = Prepared(
    select(*_TRIGGER)
    .where(_TRIGGER.next_due_at.is_not(None), _TRIGGER.next_due_at <= bindparam("now"))
    .order_by(_TRIGGER.next_due_at)
    .limit(bindparam("most"))
)
_ADVANCE: Final = Prepared(update(schema.job_trigger).where(*_MINE).values(next_due_at=bindparam("next")))
_PLAN: Final = Prepared(
    update(schema.job_trigger).where(*_MINE).values(next_due_at=bindparam("next"), planned_at=bindparam("planned"))
)
_GIVE: Final = Prepared(
    update(schema.job_trigger)
    .where(*_MINE, _TRIGGER.input_set.is_(None), _TRIGGER.tasks_digest == bindparam("digest"))
    .values(input_set=bindparam("set"))
)
_COLUMNS: Final = tuple(column.name for column in _TRIGGER)
_INSERT: Final = Prepared(insert(schema.job_trigger), _COLUMNS)
_TICK_COLUMNS: Final = ("job", "trigger_id", "due_at", "since", "outcome", "reason", "settled_at")
# a clock that was set back comes to the same due times once more: the first row stands
_ADD_TICK: Final = Prepared(insert_unless(schema.tick).on_conflict_do_nothing(), _TICK_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What there is to do. ``due_at`` is the next due time of all triggers, None for none."""

    due_at: datetime | None
    open_ticks: bool
    without_inputs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A trigger without an input set. ``tasks`` is a JSON list of arguments, ``digest`` what the trigger says of it."""

    job: JobKey
    id: str
    workspace: str
    tasks: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An input set for a trigger."""

    to: Bare
    stored: NewInputs
    chunks: Sequence[Chunk]

    @classmethod
    def of(cls, bare: Bare, key: InputSetKey, tasks: Sequence[bytes]) -> "Given":
        """The arguments of a trigger, compressed: call it outside of any transaction."""
        size_bytes = sum(len(task) for task in tasks)
        stored = NewInputs(key=key, workspace=bare.workspace, total=len(tasks), size_bytes=size_bytes)
        return cls(to=bare, stored=stored, chunks=list(inputs.encode(tasks)))


_ALARM: Final = Prepared(
    select(
        select(func.min(_TRIGGER.next_due_at))
        .where(_TRIGGER.next_due_at.is_not(None))
        .scalar_subquery()
        .label("due_at"),
        exists().where(_TICK.outcome == IS_DUE).label("open_ticks"),
        exists().where(_TRIGGER.input_set.is_(None)).label("without_inputs"),
    )
)


def alarm(connection: Connection) -> Alarm:
    """One statement, of three look-ups in indices, however many triggers there are."""
    row = _ALARM.run(connection, {}).one()
    return Alarm(due_at=row.due_at, open_ticks=bool(row.open_ticks), without_inputs=bool(row.without_inputs))


def keep(connection: Connection, job: AnyRow, triggers: object, *, now: datetime) -> None:
    """Make the triggers of a job those of its spec (``spec.extra["triggers"]``, as the wire checked them).

    What is due by now is settled before anything changes: it fires under the state that it was due in. ``job`` is the
    job's row from before the change. A trigger that stays keeps its inputs while its tasks are the same, and its due
    times while schedule and time zone are. One statement when there are none and none were; else six at most.
    """
    rows = {row.id: row for row in _ROWS.run(connection, {"of_job": job.key})}
    # checked at the edge; the column is JSON
    wanted = {kept["id"]: _values(job.key, kept) for kept in triggers} if isinstance(triggers, list) else {}
    if not rows and not wanted:
        return
    due = [row for row in rows.values() if row.next_due_at is not None and row.next_due_at <= now]
    _settle_past(connection, [(row, why_not(job, row.enabled)) for row in due], now)
    _leave_inputs(
        connection,
        [
            row.input_set
            for row in rows.values()
            if row.input_set is not None
            and (row.id not in wanted or wanted[row.id]["tasks_digest"] != row.tasks_digest)
        ],
        now,
    )
    fresh = [_merged(rows.get(name), values, now) for name, values in wanted.items()]
    connection.execute(delete(schema.job_trigger).where(_TRIGGER.job == job.key))
    if fresh:
        _INSERT.run_many(connection, fresh)


def advance(connection: Connection, *, now: datetime) -> int:
    """Make ticks of what is due, and plan what comes next; how many triggers. Three statements, by job_trigger_due.

    As many triggers as make about 500 ticks: the caller repeats it until it is 0.
    """
    rows = _DUE.run(connection, {"now": now, "most": TICKS_AT_ONCE}).all()
    return _settle_past(connection, [(row, None) for row in rows], now, most=TICKS_AT_ONCE)


def replan(connection: Connection, after: tuple[int, str], *, now: datetime, limit: int) -> tuple[int, str] | None:
    """Compute when triggers that are not due come next, for a page of them behind ``after``; where the page ended.

    After a start, for time zones may have changed and triggers may never have been planned; and after the wall clock
    was set back. Two statements.
    """
    rows = connection.execute(
        select(*_TRIGGER)
        .where(or_(_TRIGGER.job > after[0], and_(_TRIGGER.job == after[0], _TRIGGER.id > after[1])))
        .order_by(_TRIGGER.job, _TRIGGER.id)
        .limit(limit)
    ).all()
    changed = []
    for row in rows:
        if row.next_due_at is not None and row.next_due_at <= now:
            continue
        coming = _next(row.type, row.schedule, row.timezone, now)
        if coming != row.next_due_at or row.planned_at is None:
            planned = now if row.planned_at is None else min(row.planned_at, now)
            changed.append({"of_job": row.job, "of_id": row.id, "next": coming, "planned": planned})
    if changed:
        _PLAN.run_many(connection, changed)
    return (rows[-1].job, rows[-1].id) if len(rows) == limit else None


def without_inputs(connection: Connection, limit: int) -> list[Bare]:
    """Triggers that have no input set yet. One statement, by job_trigger_without_inputs and primary key."""
    rows = connection.execute(
        select(_TRIGGER.job, _TRIGGER.id, _TRIGGER.tasks_digest, _JOB.workspace, _JOB.extra)
        .join_from(schema.job_trigger, schema.job, _JOB.key == _TRIGGER.job)
        .where(_TRIGGER.input_set.is_(None))
        .order_by(_TRIGGER.job, _TRIGGER.id)
        .limit(limit)
    )
    return [bare(row) for row in rows]


def bare(row: AnyRow) -> Bare:
    """``row`` has job, id and tasks_digest of a trigger, workspace and extra of its job."""
    kept = {one["id"]: one for one in row.extra.get("spec", {}).get("triggers") or ()}
    tasks = _tasks(kept.get(row.id, {}))
    return Bare(job=JobKey(row.job), id=row.id, workspace=row.workspace, tasks=tasks, digest=row.tasks_digest)


def give_inputs(connection: Connection, given: Sequence[Given], *, now: datetime) -> None:
    """Store input sets, and let these triggers use them unless their tasks have changed meanwhile. Three statements."""
    inputs.add_all(connection, [(one.stored, one.chunks) for one in given], now=now)
    _GIVE.run_many(
        connection,
        [{"of_job": one.to.job, "of_id": one.to.id, "digest": one.to.digest, "set": one.stored.key} for one in given],
    )


def drop(connection: Connection, job: int, now: datetime) -> None:
    """A job that is being deleted has no triggers. Three statements at most."""
    rows = _ROWS.run(connection, {"of_job": job}).all()
    _leave_inputs(connection, [row.input_set for row in rows if row.input_set is not None], now)
    if rows:
        connection.execute(delete(schema.job_trigger).where(_TRIGGER.job == job))


def why_not(job: AnyRow, enabled: int | None) -> Skipped | None:
    """Why a trigger of the job (state, active_revision, enabled, traffic) does not fire now; None: it does.

    ``enabled`` is the trigger's, None when it is gone.
    """
    reasons = (
        (job.state in {JobState.DELETING, JobState.TERMINATED}, Skipped.JOB_DELETED),
        (enabled is None, Skipped.TRIGGER_REMOVED),
        (not enabled, Skipped.TRIGGER_DISABLED),
        (not job.active_revision, Skipped.NOT_DEPLOYED),
        (not job.enabled, Skipped.JOB_DISABLED),
        (job.traffic == 0, Skipped.JOB_PAUSED),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _settle_past(
    connection: Connection, due: Iterable[tuple[AnyRow, Skipped | None]], now: datetime, most: int | None = None
) -> int:
    """Ticks for due triggers, skipped at once where a reason says so, and their next due times. Two statements.

    How many triggers: all, or as many as make ``most`` ticks.
    """
    ticks, moves = list[dict[str, object]](), list[dict[str, object]]()
    for row, reason in due:
        schedule, coming = schedule_of(row.schedule, row.timezone), None
        if schedule is not None:
            passed = schedule.passed(row.next_due_at, now, CatchUp(row.catch_up))
            ticks += _ticks(row, passed, reason, now)
            coming = passed.coming
        moves.append({"of_job": row.job, "of_id": row.id, "next": coming})
        if most is not None and len(ticks) >= most:
            break
    if ticks:
        _ADD_TICK.run_many(connection, ticks)
    if moves:
        _ADVANCE.run_many(connection, moves)
    return len(moves)


def _ticks(row: AnyRow, passed: Passed, reason: Skipped | None, now: datetime) -> list[dict[str, object]]:
    mine = {"job": row.job, "trigger_id": row.id}
    if reason is not None:
        last = passed.fires[-1] if passed.fires else passed.missed and passed.missed[1]
        return [_skipped(mine, row.next_due_at, last or row.next_due_at, reason, now)]
    found = [] if passed.missed is None else [_skipped(mine, *passed.missed, Skipped.MISSED, now)]
    open_ = {"outcome": Outcome.DUE.value, "reason": "", "settled_at": None}
    return found + [{**mine, "due_at": at, "since": at, **open_} for at in passed.fires]


def _skipped(
    mine: Mapping[str, object], since: datetime, due_at: datetime, reason: Skipped, now: datetime
) -> dict[str, object]:
    outcome = {"outcome": Outcome.SKIPPED.value, "reason": reason.value, "settled_at": now}
    return {**mine, "due_at": due_at, "since": since, **outcome}


def _leave_inputs(connection: Connection, sets: Sequence[int], now: datetime) -> None:
    """Inputs that a trigger no longer uses: the sweep takes them apart when nothing else does. One statement."""
    if sets:
        # a key of its own: whose parts are left, of which a set has none but itself
        connection.execute(
            insert(schema.forgotten), [{"key": key, "input_set": key, "forgotten_at": now} for key in sets]
        )


def _merged(row: AnyRow | None, values: Mapping[str, object], now: datetime) -> dict[str, object]:
    """The new row of a trigger; what did not change of the old one stays."""
    fresh = {**values, "input_set": None, "planned_at": now, "next_due_at": None}
    if row is not None and row.tasks_digest == values["tasks_digest"]:
        fresh["input_set"] = row.input_set
    same = row is not None and all(getattr(row, name) == values[name] for name in ("type", "schedule", "timezone"))
    if row is not None and same and (row.next_due_at is None or row.next_due_at > now):
        return fresh | {"planned_at": row.planned_at, "next_due_at": row.next_due_at}
    return fresh | {"next_due_at": _next(str(values["type"]), str(values["schedule"]), str(values["timezone"]), now)}


def _values(job: int, kept: Mapping[str, Any]) -> dict[str, object]:
    """A trigger of a spec as its row has it."""
    configuration: Mapping[str, Any] = kept.get("configuration") or {}
    called = kept["type"] in CALLED
    return {
        "job": job,
        "id": kept["id"],
        "type": kept["type"],
        "enabled": int(kept["enabled"]),
        "schedule": configuration.get("schedule", "") if kept["type"] == TriggerType.CRON else "",
        "timezone": configuration.get("timezone", DEFAULT_TIMEZONE),
        "catch_up": configuration.get("catchUp", CatchUp.LAST.value),
        "overlap": configuration.get("overlap", Overlap.ALLOW.value),
        "path": normal_path(configuration.get("path", "/")) if called else "",
        "public": int(called and configuration.get("authenticationType") == PUBLIC),
        "timeout_s": configuration.get("timeout") if called else None,
        "tasks_digest": hashlib.sha256(_tasks(kept).encode()).hexdigest(),
    }


def _tasks(kept: Mapping[str, Any]) -> str:
    tasks = (kept.get("configuration") or {}).get("tasks")
    return json.dumps(tasks, separators=(",", ":"), ensure_ascii=False) if tasks else ONE_TASK


def schedule_of(schedule: str, timezone: str) -> Schedule | None:
    """None for what an older version, or another machine's time zones, let through: it is never due."""
    try:
        return Schedule.parse(schedule, timezone)
    except (ScheduleError, ZoneError):
        return None


def _next(kind: str, schedule: str, timezone: str, now: datetime) -> datetime | None:
    found = schedule_of(schedule, timezone) if kind == TriggerType.CRON else None
    return next(iter(found.next(now)), None) if found is not None else None
