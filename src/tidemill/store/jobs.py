"""Jobs, their revisions and their events: what may be asked, and the moves of a job's state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from tidemill.model.ids import JobKey
from tidemill.model.job import Job, JobEvent, JobSpec
from tidemill.model.states import ExecutionState, JobState
from tidemill.store import canaries, events, schema, specs
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

KEPT_EVENTS: Final = 100
_SEARCHED: Final = 1_000
# a page of lists has up to 200 jobs
LISTED_EVENTS: Final = 20
# a change of these members of a spec alters nothing of what tasks run: no new revision (docs/wire.md)
UNREVISIONED: Final = frozenset({"triggers", "policies", "githubRunner", "revision"})

_JOB: Final = schema.job.c
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    _JOB.key,
    _JOB.workspace,
    _JOB.name,
    _JOB.state,
    _JOB.display_name,
    _JOB.external_id,
    _JOB.labels,
    _JOB.enabled,
    _JOB.extra,
    _JOB.active_revision,
    _JOB.staged_revision,
    _JOB.previous_revision,
    _JOB.canary_revision,
    _JOB.canary_percent,
    _JOB.sticky_ttl_s,
    _JOB.traffic,
    _JOB.building_until,
    _JOB.executions_total,
    _JOB.revisions_total,
    _JOB.events_total,
    _JOB.created_at,
    _JOB.created_by,
    _JOB.updated_at,
    _JOB.updated_by,
)

_REVISION: Final = schema.revision.c
_EVENT: Final = schema.job_event.c
# rows of jobs, each with the spec of the revision that it shows
_SHOWN: Final = select(*_COLUMNS, _REVISION.spec).outerjoin_from(
    schema.job,
    schema.revision,
    and_(
        _REVISION.job == _JOB.key,
        _REVISION.id == case((_JOB.active_revision != "", _JOB.active_revision), else_=_JOB.staged_revision),
    ),
)
_OF_NAME: Final = (_JOB.workspace == bindparam("workspace"), _JOB.name == bindparam("name"))
_LIVE_OF_NAME: Final = (*_OF_NAME, _JOB.terminated_at.is_(None))
_BY_NAME: Final = select(*_COLUMNS).where(*_LIVE_OF_NAME)
_ENDING: Final = Prepared(
    select(*_COLUMNS).where(
        _JOB.key == bindparam("of"), _JOB.state.in_([JobState.DELETING.value, JobState.DEACTIVATING.value])
    )
)
_BY_KEY: Final = select(*_COLUMNS).where(_JOB.key == bindparam("key"))
_SHOWN_BY_NAME: Final = Prepared(_SHOWN.where(*_LIVE_OF_NAME))
_SHOWN_BY_KEYS: Final = _SHOWN.where(_JOB.key.in_(select(FIRST)))
_COUNT_OF_LIVE: Final = Prepared(select(_JOB.key, _JOB.executions_total).where(*_LIVE_OF_NAME))
_COUNT_OF_LAST: Final = (
    select(_JOB.key, _JOB.executions_total).where(*_OF_NAME).order_by(_JOB.terminated_at.desc()).limit(1)
)
# those of each job whose number is above the second of its pair
_LAST_EVENTS: Final = Prepared(
    select(_EVENT.job, _EVENT.at, _EVENT.type, _EVENT.status, _EVENT.message, _EVENT.revision, _EVENT.canary_revision)
    .select_from(PAIRS)
    .join(schema.job_event, (_EVENT.job == FIRST) & (_EVENT.number > SECOND))
    .order_by(_EVENT.job, _EVENT.number)
)


class JobOrder(StrEnum):
    CREATED = "created"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Which jobs of a workspace. ``after`` is the (created_at or name, key) of the last one seen, exclusive.

    Without ``states`` all but TERMINATED ones.
    """

    workspace: str
    order: JobOrder = JobOrder.CREATED
    descending: bool = True
    after: tuple[datetime | str, int] | None = None
    states: frozenset[JobState] = frozenset()
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A new state of a job and the event that tells of it."""

    state: JobState
    message: str
    revision: str = ""


def row_of(connection: Connection, workspace: str, name: str) -> AnyRow | None:
    """The row of the job that has this name now. One statement, by job_name."""
    return connection.execute(_BY_NAME, {"workspace": workspace, "name": name}).one_or_none()


def row_by_key(connection: Connection, key: JobKey) -> AnyRow:
    """The row of a job that exists. One statement, by primary key."""
    return connection.execute(_BY_KEY, {"key": key}).one()


def find(connection: Connection, workspace: str, name: str, *, now: datetime) -> Job | None:
    """The job of this name as its user sees it, with all events kept. Two statements, by job_name and primary keys."""
    row = _SHOWN_BY_NAME.run(connection, {"workspace": workspace, "name": name}).one_or_none()
    return None if row is None else _jobs_of(connection, [row], KEPT_EVENTS, now)[0]


def find_by_key(connection: Connection, key: JobKey, *, now: datetime) -> Job:
    """A job that exists, as ``find`` shows it. Two statements, by primary keys."""
    row = connection.execute(_SHOWN_BY_KEYS, {"pairs": pairs([(key,)])}).one()
    return _jobs_of(connection, [row], KEPT_EVENTS, now)[0]


def find_count(connection: Connection, workspace: str, name: str) -> AnyRow | None:
    """Whose executions a path means: (key, executions_total) of the job of this name, else of the last one that had it.

    Two statements at most, by job_name and by workspace.
    """
    of_name = {"workspace": workspace, "name": name}
    live = _COUNT_OF_LIVE.run(connection, of_name).one_or_none()
    return live or connection.execute(_COUNT_OF_LAST, of_name).one_or_none()


def find_page(connection: Connection, page: JobPage, *, now: datetime) -> list[Job]:
    """Up to ``page.limit`` jobs in order. Two statements, by job_created or job_name; a page costs the same anywhere.

    With ``states`` rows of other states are passed over; by name the workspace's jobs are sorted then.
    """
    rows = connection.execute(_paged(_SHOWN, page).limit(page.limit)).all()
    return _jobs_of(connection, rows, LISTED_EVENTS, now)


def search_page(connection: Connection, page: JobPage, holds: Callable[[AnyRow], bool], *, now: datetime) -> list[Job]:
    """Up to ``page.limit`` jobs in order that ``holds`` says yes to, by name, display_name and labels.

    Three statements. The first reads those three columns, and no more, of every job from the page's position until
    enough are found: some steps for each of a workspace's jobs, when none is. Capital letters of any script cannot be
    searched inside SQLite.
    """
    keys = list[int]()
    read = _paged(select(_JOB.key, _JOB.name, _JOB.display_name, _JOB.labels), page)
    with connection.execute(read.execution_options(yield_per=_SEARCHED)) as rows:
        for row in rows:
            if holds(row):
                keys.append(row.key)
                if len(keys) == page.limit:
                    break
    found = {row.key: row for row in connection.execute(_SHOWN_BY_KEYS, {"pairs": pairs((key,) for key in keys)})}
    return _jobs_of(connection, [found[key] for key in keys], LISTED_EVENTS, now)


def _paged(query: Select[Any], page: JobPage) -> Select[Any]:
    column: ColumnElement[Any] = _JOB.created_at if page.order is JobOrder.CREATED else _JOB.name
    wanted = [_JOB.workspace == page.workspace]
    if page.states:
        wanted.append(_JOB.state.in_([state.value for state in sorted(page.states)]))
    else:
        wanted.append(_JOB.terminated_at.is_(None))
    if page.after is not None:
        # compared as a pair, which an index can begin at: with OR every row before the page would be read
        place = tuple_(column, _JOB.key)
        # each with its column's type, else a time would be compared as text
        last = tuple_(literal(page.after[0], column.type), literal(page.after[1], _JOB.key.type))
        wanted.append(place < last if page.descending else place > last)
    order = (column.desc(), _JOB.key.desc()) if page.descending else (column.asc(), _JOB.key.asc())
    return query.where(*wanted).order_by(*order)


def _jobs_of(connection: Connection, rows: Sequence[AnyRow], most_events: int, now: datetime) -> list[Job]:
    """Rows of ``_SHOWN`` with the jobs' last events, in the same order. One statement, by primary key."""
    if not rows:
        return []
    events = _events(connection, rows, most_events)
    return [_job(row, events.get(row.key, ()), now) for row in rows]


def live_spec(row: AnyRow, spec: JobSpec) -> JobSpec:
    """The active revision's spec with what the job's own row says of members that need no new revision.

    A job without an active revision shows the staged one as it is.
    """
    if not row.active_revision:
        return spec
    kept: Mapping[str, object] = row.extra.get("spec", {})
    return replace(spec, enabled=bool(row.enabled), rollout=canaries.rollout_of(row), extra=kept)


def move(connection: Connection, row: AnyRow, to: Move, *, now: datetime) -> None:
    """Change the state from the one that ``row`` was read with, and tell of it. Three or four statements.

    The row was read in this unit and units run one after the other: a row that does not match is a bug.
    """
    counted = connection.execute(
        update(schema.job)
        .where(_JOB.key == row.key, _JOB.state.in_(_before(to.state)))
        .values(state=to.state.value, events_total=_JOB.events_total + 1, updated_at=now)
        .returning(_JOB.key, _JOB.events_total, _JOB.canary_revision)
    ).one()
    _add_event(connection, counted, to, now)


def tell(connection: Connection, job: JobKey, event: Move, *, now: datetime) -> None:
    """An event that moves nothing. Two or three statements."""
    counted = connection.execute(
        update(schema.job)
        .where(_JOB.key == job)
        .values(events_total=_JOB.events_total + 1)
        .returning(_JOB.key, _JOB.events_total, _JOB.canary_revision)
    ).one()
    _add_event(connection, counted, event, now)


def has_live_executions(connection: Connection, job: JobKey, workspace: str) -> bool:
    """One statement, by execution_live."""
    execution = schema.execution.c
    live = exists().where(execution.workspace == workspace, execution.job == job, execution.completed_at.is_(None))
    return bool(connection.scalar(select(live)))


def resting(connection: Connection, row: AnyRow, *, enabled: bool) -> JobState:
    """The state of a job with an active revision and nothing under way. One statement at most."""
    if enabled:
        return JobState.DEPLOYED
    busy = has_live_executions(connection, JobKey(row.key), row.workspace)
    return JobState.DEACTIVATING if busy else JobState.DEACTIVATED


def settle(connection: Connection, job: JobKey, now: datetime) -> None:
    """After an execution has ended: DELETING to TERMINATED, DEACTIVATING to DEACTIVATED when none is live.

    One statement when there is nothing to do.
    """
    row = _ENDING.run(connection, {"of": job}).one_or_none()
    if row is None or has_live_executions(connection, job, row.workspace):
        return
    if row.state == JobState.DEACTIVATING:
        move(connection, row, Move(state=JobState.DEACTIVATED, message="the last execution has ended"), now=now)
        return
    move(connection, row, Move(state=JobState.TERMINATED, message="deleted"), now=now)
    connection.execute(update(schema.job).where(_JOB.key == job).values(terminated_at=now))
    connection.execute(
        update(schema.workspace)
        .where(schema.workspace.c.name == row.workspace)
        .values(jobs_total=schema.workspace.c.jobs_total - 1)
    )


def live_executions(connection: Connection, row: AnyRow, limit: int) -> list[int]:
    """Keys of executions of the job that have not ended and are not being cancelled by force, at most ``limit``."""
    execution = schema.execution.c
    return list(
        connection.scalars(
            select(execution.key)
            .where(
                execution.workspace == row.workspace,
                execution.job == row.key,
                execution.completed_at.is_(None),
                or_(execution.state != ExecutionState.CANCELLING.value, execution.force == 0),
            )
            .limit(limit)
        )
    )


def _before(state: JobState) -> list[str]:
    """From where a job may come to ``state``: from anywhere but the end, and nothing but the end follows DELETING."""
    if state is JobState.TERMINATED:
        return [JobState.DELETING.value]
    ends = {JobState.TERMINATED, JobState.DELETING}
    return [other.value for other in JobState if other not in ends]


def _add_event(connection: Connection, counted: AnyRow, event: Move, now: datetime) -> None:
    """``counted`` is (key, events_total, canary_revision) of the job, this event included."""
    table, number = schema.job_event, counted.events_total
    connection.execute(
        insert(table).values(
            job=counted.key,
            number=number,
            at=now,
            type="deployment",
            status=event.state.value,
            message=event.message,
            revision=event.revision,
            canary_revision=counted.canary_revision,
        )
    )
    events.add_of_job(connection, JobKey(counted.key), event.state.value, event.message, now=now)
    if number > KEPT_EVENTS:
        connection.execute(delete(table).where(table.c.job == counted.key, table.c.number <= number - KEPT_EVENTS))


def _events(connection: Connection, jobs: Iterable[AnyRow], most: int) -> dict[int, tuple[JobEvent, ...]]:
    """The last ``most`` events of each job, oldest first. One statement, by primary key."""
    after = pairs((job.key, job.events_total - most) for job in jobs)
    found: dict[int, list[JobEvent]] = {}
    for row in _LAST_EVENTS.run(connection, {"pairs": after}):
        event = JobEvent(
            at=row.at,
            type=row.type,
            status=row.status,
            message=row.message,
            revision=row.revision,
            canary=row.canary_revision,
        )
        found.setdefault(row.job, []).append(event)
    return {job: tuple(events) for job, events in found.items()}


def _job(row: AnyRow, events: tuple[JobEvent, ...], now: datetime) -> Job:
    """``row`` is one of ``_SHOWN``; a job without any revision has no spec."""
    state = JobState(row.state)
    held = row.building_until is not None and now < row.building_until
    if held and state in {JobState.DEPLOYING, JobState.DEPLOYED, JobState.FAILED}:
        state = JobState.BUILDING
    return Job(
        key=JobKey(row.key),
        workspace=row.workspace,
        name=row.name,
        display_name=row.display_name,
        external_id=row.external_id,
        labels=row.labels,
        extra=row.extra.get("metadata", {}),
        state=state,
        spec=live_spec(row, JobSpec() if row.spec is None else specs.decode(row.spec)),
        active_revision=row.active_revision,
        staged_revision=row.staged_revision,
        events=events,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
