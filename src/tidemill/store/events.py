"""What changed, in order: numbers for changes, and pages of those of a workspace.

Jobs and executions have a row for each change. Tasks have none: the number of its last change stands in a task's
attempt, so of several changes of one task a reader sees the last, in the order of last changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    String,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from tidemill.model.ids import JobKey, OwnerKind
from tidemill.model.states import ExecutionState, TaskState, rowless_state
from tidemill.store import schema
from tidemill.store.keys import FIRST, PAIRS, pairs
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

WINDOW: Final = 50_000
"""How many numbers one page looks at, whoever's they are."""

NEWS: Final = "news"
"""What a connection's ``info`` holds once numbers were taken on it."""

MILESTONES: Final = "milestones"
"""The same, once one of a job or of an execution was written."""

_LINE: Final = schema.event_line.c
_EVENT: Final = schema.event.c
_ATTEMPT: Final = schema.attempt.c
_TASK: Final = schema.task.c
_EXECUTION: Final = schema.execution.c
_JOB: Final = schema.job.c

_NEXT: Final = Prepared(update(schema.event_line).values(last=_LINE.last + bindparam("count")).returning(_LINE.last))
_COLUMNS: Final = ("number", "key", "workspace", "job", "execution", "status", "message", "at")
# with values, not from a SELECT: for each of those SQLite keeps what it may have to undo, ten times the cost of the row
_OF_EXECUTION: Final = Prepared(insert(schema.event), _COLUMNS)
_NAMES: Final = Prepared(
    select(_EXECUTION.key, _EXECUTION.workspace, _JOB.name.label("job"), _EXECUTION.id)
    .select_from(PAIRS)
    .join(schema.execution, _EXECUTION.key == FIRST)
    .join(schema.job, _JOB.key == _EXECUTION.job)
)
_OF_JOB: Final = insert(schema.event).from_select(
    _COLUMNS,
    select(
        bindparam("the_number", type_=BigInteger()),
        _JOB.key,
        _JOB.workspace,
        _JOB.name,
        literal(""),
        bindparam("the_status", type_=String()),
        bindparam("the_message", type_=String()),
        bindparam("the_at", type_=schema.Instant()),
    ).where(_JOB.key == bindparam("the_key")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which events a reader wants: those after a number, of a workspace; of one job or execution, unless ""."""

    workspace: str
    after: int
    limit: int
    job: str = ""
    execution: str = ""
    tasks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An execution that has come to a state; ``job`` is the name of its job."""

    key: int
    workspace: str
    job: str
    id: str
    state: ExecutionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event. ``execution`` is "" for one of a job; ``task`` is None but for one of a task.

    ``key`` is of the execution, or of the job.

    ``attempt`` counts from 1; ``reason`` and ``exit_code`` are of the task's last end.
    """

    number: int
    key: int
    at: datetime
    job: str
    status: str
    execution: str = ""
    message: str = ""
    task: int | None = None
    attempt: int | None = None
    reason: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``after``: from where to go on. ``newest``: the last number there is. ``swept``: up to here some are gone."""

    changes: Sequence[Change]
    after: int
    newest: int
    swept: int


def numbers(connection: Connection, count: int) -> range:
    """So many numbers, higher than all before. One statement; whoever takes some next waits for this unit's end."""
    last: int = _NEXT.run(connection, {"count": count}).scalar_one()
    connection.info[NEWS] = True
    return range(last - count + 1, last + 1)


def add_of_executions(connection: Connection, moved: Mapping[int, ExecutionState], *, now: datetime) -> None:
    """Executions, by key, have come to these states. Three statements, by primary keys."""
    if moved:
        found = {row.key: row for row in _NAMES.run(connection, {"pairs": pairs((key,) for key in moved)})}
        add_of_named(
            connection,
            [
                Named(key=key, workspace=found[key].workspace, job=found[key].job, id=found[key].id, state=state)
                for key, state in moved.items()
            ],
            now=now,
        )


def add_of_named(connection: Connection, every: Sequence[Named], *, now: datetime) -> None:
    """The same where names are known. Two statements."""
    taken = numbers(connection, len(every))
    rows = [
        {
            "number": number,
            "key": one.key,
            "workspace": one.workspace,
            "job": one.job,
            "execution": one.id,
            "status": one.state.value,
            "message": "",
            "at": now,
        }
        for number, one in zip(taken, every, strict=True)
    ]
    _OF_EXECUTION.run_many(connection, rows)
    connection.info[MILESTONES] = True


def add_of_job(connection: Connection, job: JobKey, status: str, message: str, *, now: datetime) -> None:
    """Two statements, by primary keys."""
    (number,) = numbers(connection, 1)
    row = {"the_number": number, "the_key": job, "the_status": status, "the_message": message, "the_at": now}
    connection.execute(_OF_JOB, row)
    connection.info[MILESTONES] = True


def newest(connection: Connection) -> int:
    """One statement."""
    return int(connection.scalar(select(_LINE.last)) or 0)


def find_page(connection: Connection, asked: Asked) -> Page:
    """Events after a number, in order. Three statements, over event_workspace and attempt_change; bounded by WINDOW."""
    line = connection.execute(select(_LINE.last, _LINE.swept)).one()
    until = min(line.last, max(asked.after, line.swept) + WINDOW)
    found = [_of_row(row) for row in _rows(connection, asked, until)]
    if asked.tasks:
        found += [_of_task(row) for row in _tasks(connection, asked, until)]
    found.sort(key=lambda change: change.number)
    page = found[: asked.limit]
    after = page[-1].number if len(page) == asked.limit else until
    return Page(changes=page, after=max(after, asked.after), newest=line.last, swept=line.swept)


def sweep(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Delete the oldest events, up to ``limit``, as far as they are older; how many. Three statements, primary key."""
    oldest = connection.execute(select(_EVENT.number, _EVENT.at).order_by(_EVENT.number).limit(limit)).all()
    gone = [row.number for row in oldest if row.at < cutoff]
    if gone:
        connection.execute(delete(schema.event).where(_EVENT.number <= gone[-1]))
        connection.execute(update(schema.event_line).values(swept=func.max(_LINE.swept, gone[-1])))
    return len(gone)


def _rows(connection: Connection, asked: Asked, until: int) -> Iterable[AnyRow]:
    wanted: list[ColumnElement[bool]] = [_EVENT.workspace == asked.workspace]
    wanted += [_EVENT.number > asked.after, _EVENT.number <= until]
    if asked.job:
        wanted.append(_EVENT.job == asked.job)
    if asked.execution:
        wanted.append(_EVENT.execution == asked.execution)
    return connection.execute(
        select(*(schema.event.c[name] for name in _COLUMNS)).where(*wanted).order_by(_EVENT.number).limit(asked.limit)
    )


def _tasks(connection: Connection, asked: Asked, until: int) -> Iterable[AnyRow]:
    wanted: list[ColumnElement[bool]] = [_ATTEMPT.workspace == asked.workspace]
    wanted += [_ATTEMPT.change > asked.after, _ATTEMPT.change <= until, _ATTEMPT.kind == OwnerKind.TASK.value]
    if asked.job:
        wanted.append(_JOB.name == asked.job)
    if asked.execution:
        wanted.append(_EXECUTION.id == asked.execution)
    return connection.execute(
        select(
            _ATTEMPT.change,
            _ATTEMPT.owner,
            _ATTEMPT.number,
            _ATTEMPT.claimed_at,
            _ATTEMPT.ended_at,
            _JOB.name.label("job"),
            _EXECUTION.id.label("execution"),
            _EXECUTION.state.label("execution_state"),
            _TASK.idx,
            _TASK.state,
            _TASK.reason,
            _TASK.message,
            _TASK.exit_code,
        )
        .join_from(schema.attempt, schema.task, (_TASK.execution == _ATTEMPT.owner) & (_TASK.idx == _ATTEMPT.idx))
        .join(schema.execution, _EXECUTION.key == _ATTEMPT.owner)
        .join(schema.job, _JOB.key == _EXECUTION.job)
        # an older attempt says nothing of how the task is now
        .where(*wanted, _TASK.attempt == _ATTEMPT.number)
        .order_by(_ATTEMPT.change)
        .limit(asked.limit)
    )


def _of_row(row: AnyRow) -> Change:
    return Change(
        number=row.number,
        key=row.key,
        at=row.at,
        job=row.job,
        status=row.status,
        execution=row.execution,
        message=row.message,
    )


def _of_task(row: AnyRow) -> Change:
    state = TaskState(row.state)
    if state is TaskState.PENDING:
        state = rowless_state(ExecutionState(row.execution_state))
    return Change(
        number=row.change,
        key=row.owner,
        at=row.ended_at or row.claimed_at,
        job=row.job,
        status=state.value,
        execution=row.execution,
        message=row.message,
        task=row.idx,
        attempt=row.number,
        reason=row.reason or "",
        exit_code=row.exit_code,
    )
