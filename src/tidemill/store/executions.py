"""Executions: made once per request, then read. Their moves are the ledger's."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from tidemill.model.errors import Conflict, Invalid, NotFound, NotRunnable, OverQuota
from tidemill.model.execution import Execution
from tidemill.model.ids import ID_PREFIX_MIN, ExecutionKey, InputSetKey, JobKey
from tidemill.model.job import MIN_MEMORY_MB
from tidemill.model.quoted import quoted
from tidemill.model.region import Regions, biggest_in
from tidemill.model.states import ExecutionState, JobState
from tidemill.store import canaries, events, inputs, jobs, schema, specs, uploads
from tidemill.store.events import Named
from tidemill.store.inputs import Chunk, NewInputs
from tidemill.store.keys import TEXTS
from tidemill.store.ledger import Counters, stats_of
from tidemill.store.ledger_claim import live_executions
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

_AMBIGUOUS_SHOWN: Final = 5
_EXECUTION: Final = schema.execution.c
_ORIGIN: Final = schema.execution.alias("origin_row")
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    _EXECUTION.key,
    _EXECUTION.id,
    _EXECUTION.workspace,
    _EXECUTION.revision,
    _EXECUTION.state,
    _EXECUTION.input_set,
    _EXECUTION.request_id,
    _EXECUTION.env_names,
    _EXECUTION.extra,
    _EXECUTION.parallelism,
    _EXECUTION.memory_mb,
    _EXECUTION.memory_override_mb,
    _EXECUTION.region,
    _EXECUTION.timeout_s,
    _EXECUTION.max_retries,
    _EXECUTION.total,
    _EXECUTION.next_index,
    _EXECUTION.origin,
    _EXECUTION.chain,
    select(_ORIGIN.c.id).where(_ORIGIN.c.key == _EXECUTION.origin).scalar_subquery().label("rerun_of"),
    _EXECUTION.running,
    _EXECUTION.succeeded,
    _EXECUTION.failed,
    _EXECUTION.cancelled,
    _EXECUTION.retried,
    _EXECUTION.created_at,
    _EXECUTION.started_at,
    _EXECUTION.completed_at,
    _EXECUTION.updated_at,
    _EXECUTION.trigger_id,
    _EXECUTION.due_at,
    _EXECUTION.deadline_at,
    _EXECUTION.timed_out,
    schema.job.c.name.label("job_name"),
    schema.job.c.key.label("job_key"),
)

_WITH_JOB: Final = select(*_COLUMNS).join(schema.job, schema.job.c.key == _EXECUTION.job)
_BY_KEY: Final = _WITH_JOB.where(_EXECUTION.key == bindparam("key"))


def _by_text(scope: ColumnElement[bool]) -> tuple[Prepared, Prepared]:
    """Executions of ``scope`` with the id ``text``, and those whose id begins so: between ``text`` and ``behind``."""
    few = _WITH_JOB.where(scope).order_by(_EXECUTION.id).limit(_AMBIGUOUS_SHOWN + 1)
    id_, text = _EXECUTION.id, bindparam("text", type_=_EXECUTION.id.type)
    return Prepared(few.where(id_ == text)), Prepared(few.where(id_ > text, id_ < bindparam("behind")))


_OF_JOB: Final = _by_text(_EXECUTION.job == bindparam("of_job"))
_OF_WORKSPACE: Final = _by_text(_EXECUTION.workspace == bindparam("of_workspace"))

_JOB: Final = schema.job.c
_REVISION: Final = schema.revision.c
_ALIAS: Final = schema.execution_alias.c
_WORKSPACE: Final = schema.workspace.c
_RUNNABLE: Final = select(
    *(_JOB.key, _JOB.state, _JOB.enabled, _JOB.active_revision),
    *(_JOB.canary_revision, _JOB.canary_percent, _JOB.sticky_ttl_s, _JOB.traffic),
    *(_REVISION.spec, _REVISION.image_digest),
).outerjoin_from(schema.job, schema.revision, and_(_REVISION.job == _JOB.key, _REVISION.id == _JOB.active_revision))
_JOB_TO_RUN: Final = Prepared(
    _RUNNABLE.where(
        _JOB.workspace == bindparam("workspace"), _JOB.name == bindparam("name"), _JOB.terminated_at.is_(None)
    )
)
_KNOWN: Final = Prepared(
    select(_EXECUTION.key, _EXECUTION.id, _EXECUTION.request_id, _EXECUTION.request_digest).where(
        or_(
            _EXECUTION.key.in_(
                select(_ALIAS.execution).where(_ALIAS.job == bindparam("of_job"), _ALIAS.alias.in_(TEXTS))
            ),
            # one that the trigger clock has made has no other name
            and_(_EXECUTION.job == bindparam("of_job"), _EXECUTION.id == bindparam("of_id")),
        )
    )
)
# the quota of a workspace, how many executions it counts, and whether any waits behind it
_PLACE: Final = Prepared(
    select(
        _WORKSPACE.max_parallel_executions.label("most"),
        live_executions(_WORKSPACE.name).label("busy"),
        exists()
        .where(
            _EXECUTION.workspace == _WORKSPACE.name,
            _EXECUTION.completed_at.is_(None),
            _EXECUTION.state == ExecutionState.QUEUED.value,
        )
        .label("queue"),
    ).where(_WORKSPACE.name == bindparam("name"))
)
_NEW_COLUMNS: Final = (
    *("key", "id", "workspace", "job", "revision", "image_digest", "state", "input_set", "request_id"),
    *("request_digest", "env_names", "env_sealed", "extra", "parallelism", "memory_mb", "memory_override_mb"),
    *("region", "timeout_s", "max_retries", "retry_policy", "origin", "chain", "trigger_id", "due_at", "total"),
    *("deadline_at", "created_at", "served_at", "updated_at"),
)
_INSERT: Final = Prepared(insert(schema.execution), _NEW_COLUMNS)
_INSERT_ALIAS: Final = Prepared(insert(schema.execution_alias), ("job", "alias", "execution"))
_COUNT_ONE_MORE: Final = Prepared(
    update(schema.job).where(_JOB.key == bindparam("of_job")).values(executions_total=_JOB.executions_total + 1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExecution:
    """A request for an execution. ``aliases`` are the names under which the same request may come again.

    ``env_sealed`` is one envelope of all its variables, empty for none. ``digest`` is that of the request's content,
    ``caller`` the principal's id. ``regions`` are the server's. ``trigger``, ``due_at`` and ``deadline_at`` as in
    ``Execution``.
    """

    key: ExecutionKey
    id: str
    workspace: str
    job: str
    request_id: str
    aliases: tuple[str, ...]
    digest: str
    env_names: tuple[str, ...] = ()
    env_sealed: str = field(default="", repr=False)
    memory_mb: int | None = None
    allow_queue: bool = True
    caller: str = ""
    regions: Regions = field(default_factory=Regions)
    extra: Mapping[str, object] = field(default_factory=dict)
    trigger: str = ""
    due_at: datetime | None = None
    deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The execution that answers a request: a new one, or the one that the same request made before."""

    key: ExecutionKey
    id: str
    request_id: str
    job: str
    workspace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Whose executions are meant, and how many of them are kept."""

    job: JobKey
    total: int


class ExecutionOrder(StrEnum):
    CREATED = "created"
    ID = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPage:
    """Which executions of a job. ``after`` is the (created_at or id, key) of the last one seen, exclusive.

    ``text`` is a part of the id, in lower case. ``offset`` is for clients that know no cursor.
    """

    job: JobKey
    order: ExecutionOrder = ExecutionOrder.CREATED
    descending: bool = True
    after: tuple[datetime | str, int] | None = None
    text: str = ""
    limit: int = 20
    offset: int = 0


def repeated(connection: Connection, new: NewExecution) -> Created | None:
    """The execution that this request made before. Raises NotFound for no job, Conflict for other content.

    Two statements, by job_name, and by the primary keys of execution_alias and execution and execution_id.
    """
    return _repeated(connection, _job_to_run(connection, new.workspace, new.job).key, new)


def look_ahead(connection: Connection, new: NewExecution) -> Created | None:
    """What ``repeated`` finds. Raises NotFound, Conflict, and NotRunnable when nothing may be made. Two statements."""
    job = _job_to_run(connection, new.workspace, new.job)
    again = _repeated(connection, job.key, new)
    if again is None:
        _check_runs(job, new.job)
    return again


def _repeated(connection: Connection, job: int, new: NewExecution) -> Created | None:
    found = _KNOWN.run(connection, {"of_job": job, "of_id": new.id, "texts": json.dumps(new.aliases)}).all()
    if not found:
        return None
    if len(found) != 1 or found[0].request_digest != new.digest:
        taken = ", ".join(sorted(row.id for row in found))
        raise Conflict(f"execution {taken} of job {new.job!r} has this id or key already, with another content")
    row = found[0]
    return Created(
        key=ExecutionKey(row.key), id=row.id, request_id=row.request_id, job=new.job, workspace=new.workspace
    )


def create(
    connection: Connection, new: NewExecution, stored: NewInputs, chunks: Sequence[Chunk], *, now: datetime
) -> Created:
    """Make the execution, or find the one that the same request made before. It is durable when the unit is.

    ``chunks`` are those of ``stored`` when they fit into this unit; empty when the set is written already.
    Raises NotFound, NotRunnable, Invalid, OverQuota, Conflict. Ten statements, by primary keys, job_name and
    execution_live; and those of ``canaries.pick``.
    """
    job = _job_to_run(connection, new.workspace, new.job)
    again = _repeated(connection, job.key, new)
    if again is not None:
        return again
    _check_runs(job, new.job)
    job = canaries.pick(connection, job, execution=new.id, caller=new.caller, now=now)
    spec = specs.decode(job.spec)
    most_mb = spec.runtime.memory_mb
    if new.memory_mb is not None and not MIN_MEMORY_MB <= new.memory_mb <= most_mb:
        raise Invalid(f"memory is {quoted(new.memory_mb)}; it must be {MIN_MEMORY_MB} to {most_mb}, the job's own (MB)")
    if not new.allow_queue:
        region = new.regions.placed(spec.region)
        _check_fits(connection, most_mb if new.memory_mb is None else new.memory_mb, region)
    state = first_state(connection, new)
    if chunks:
        inputs.add(connection, stored, chunks, now=now)
    return record(connection, new, new_values(new, stored, job, state, now), now=now)


def record(connection: Connection, new: NewExecution, values: Mapping[str, object], *, now: datetime) -> Created:
    """Insert the row of a new execution with the names of its request, count it and tell of it. Five statements."""
    record_all(connection, [(new, values)], now=now)
    return Created(key=new.key, id=new.id, request_id=new.request_id, job=new.job, workspace=new.workspace)


def record_all(
    connection: Connection, every: Sequence[tuple[NewExecution, Mapping[str, object]]], *, now: datetime
) -> None:
    """What ``record`` does, for many. Five statements for all of them."""
    if not every:
        return
    _INSERT.run_many(connection, [values for _, values in every])
    aliases = [
        {"job": values["job"], "alias": alias, "execution": new.key} for new, values in every for alias in new.aliases
    ]
    if aliases:
        _INSERT_ALIAS.run_many(connection, aliases)
    _COUNT_ONE_MORE.run_many(connection, [{"of_job": values["job"]} for _, values in every])
    told = [
        Named(key=new.key, workspace=new.workspace, job=new.job, id=new.id, state=ExecutionState(str(values["state"])))
        for new, values in every
    ]
    events.add_of_named(connection, told, now=now)


def runnable(connection: Connection, workspace: str, name: str) -> AnyRow:
    """The job (key, active_revision, its canary) with its active revision (spec, image_digest).

    One statement, by job_name.

    Raises NotFound, and NotRunnable with the reason when the job takes no executions.
    """
    row = _job_to_run(connection, workspace, name)
    _check_runs(row, name)
    return row


def runnable_rows(connection: Connection, keys: Iterable[int]) -> Sequence[AnyRow]:
    """Jobs in the shape of ``runnable``, whether they take executions or not. One statement, by primary keys."""
    return connection.execute(_RUNNABLE.where(_JOB.key.in_(keys))).all()


def _job_to_run(connection: Connection, workspace: str, name: str) -> AnyRow:
    row = _JOB_TO_RUN.run(connection, {"workspace": workspace, "name": name}).one_or_none()
    if row is None:
        raise NotFound(f"no job {name!r} in workspace {workspace!r}")
    return row


def _check_runs(row: AnyRow, name: str) -> None:
    if row.state == JobState.DELETING:
        raise NotRunnable(f"job {name!r} is being deleted")
    if not row.active_revision:
        raise NotRunnable(f"job {name!r} has nothing to run yet (it is {row.state}): deploy it first")
    if not row.enabled:
        raise NotRunnable(f"job {name!r} is disabled: set spec.enabled to true first")
    if row.traffic == 0:
        raise NotRunnable(f"job {name!r} is paused: set spec.revision.traffic to 100 first")


def find(connection: Connection, workspace: str, text: str, job: str | None = None) -> Execution:
    """The execution with this id, or the only one whose id begins with ``text`` (8 characters at least).

    With ``job``, of the job that has this name or had it last. Four statements at most, two for an id in full, by
    execution_id or execution_workspace_id. Raises NotFound, Invalid for several.
    """
    wanted: dict[str, object] = {"text": text}
    if job is None:
        exact, prefix = _OF_WORKSPACE
        wanted["of_workspace"] = workspace
    else:
        exact, prefix = _OF_JOB
        wanted["of_job"] = history(connection, workspace, job).job
    rows = exact.run(connection, wanted).all()
    if not rows and len(text) >= ID_PREFIX_MIN:
        # the highest code point sorts after every character that an id may hold
        rows = prefix.run(connection, {**wanted, "behind": text + "\U0010ffff"}).all()
    if not rows:
        hint = "" if len(text) >= ID_PREFIX_MIN else f"; a prefix needs {ID_PREFIX_MIN} characters or more"
        raise NotFound(f"no execution {text[:64]!r} in workspace {workspace!r}{hint}")
    if len(rows) > 1:
        listed = ", ".join(row.id for row in rows[:_AMBIGUOUS_SHOWN])
        more = ", ..." if len(rows) > _AMBIGUOUS_SHOWN else ""
        raise Invalid(f"execution {text[:64]!r} is not unique: {listed}{more}")
    return _execution(rows[0])


def find_by_key(connection: Connection, key: ExecutionKey) -> Execution:
    """An execution as it is now. One statement, by primary key. Raises NotFound for one that is kept no longer."""
    row = connection.execute(_BY_KEY, {"key": key}).one_or_none()
    if row is None:
        raise NotFound("the execution is kept no longer")
    return _execution(row)


def find_chain(connection: Connection, chain: ExecutionKey) -> list[Execution]:
    """An execution and all that descends from it, newest first. One statement, by execution_chain."""
    rows = connection.execute(_WITH_JOB.where(_EXECUTION.chain == chain).order_by(_EXECUTION.key.desc()))
    return [_execution(row) for row in rows]


def history(connection: Connection, workspace: str, name: str) -> History:
    """The executions of the job that has this name, or had it last. Two statements at most. Raises NotFound."""
    job = jobs.find_count(connection, workspace, name)
    if job is None:
        raise NotFound(f"no job {name[:64]!r} in workspace {workspace!r}")
    return History(job=JobKey(job.key), total=job.executions_total)


def find_page(connection: Connection, page: ExecutionPage) -> list[Execution]:
    """Up to ``page.limit`` executions in order. One statement, by execution_created or execution_id."""
    by_time = page.order is ExecutionOrder.CREATED
    column: ColumnElement[Any] = _EXECUTION.created_at if by_time else _EXECUTION.id
    wanted: list[ColumnElement[bool]] = [_EXECUTION.job == page.job]
    if page.text:
        wanted.append(func.lower(_EXECUTION.id).contains(page.text, autoescape=True))
    if page.after is not None:
        # compared as a pair, which an index can begin at: with OR every row before the page would be read
        place = tuple_(column, _EXECUTION.key)
        # each with its column's type, else a time would be compared as text
        last = tuple_(literal(page.after[0], column.type), literal(page.after[1], _EXECUTION.key.type))
        wanted.append(place < last if page.descending else place > last)
    order = (column.desc(), _EXECUTION.key.desc()) if page.descending else (column.asc(), _EXECUTION.key.asc())
    rows = connection.execute(_WITH_JOB.where(*wanted).order_by(*order).limit(page.limit).offset(page.offset))
    return [_execution(row) for row in rows]


def new_values(
    new: NewExecution, stored: NewInputs, job: AnyRow, state: ExecutionState, now: datetime
) -> dict[str, object]:
    """The row of a new execution: what its revision says now is frozen into it."""
    spec = specs.decode(job.spec)
    runtime = spec.runtime
    return {
        "key": new.key,
        "id": new.id,
        "workspace": new.workspace,
        "job": job.key,
        "revision": job.active_revision,
        "image_digest": job.image_digest,
        "state": state.value,
        "input_set": stored.key,
        "request_id": new.request_id,
        "request_digest": new.digest,
        "env_names": list(new.env_names),
        "env_sealed": new.env_sealed,
        "extra": dict(new.extra),
        "parallelism": runtime.max_concurrent_tasks,
        "memory_mb": runtime.memory_mb if new.memory_mb is None else new.memory_mb,
        "memory_override_mb": new.memory_mb,
        "region": new.regions.placed(spec.region),
        "timeout_s": runtime.timeout_s,
        "max_retries": runtime.max_retries,
        "retry_policy": specs.encode_retry(runtime.retry),
        "origin": None,
        "chain": new.key,
        "trigger_id": new.trigger,
        "due_at": new.due_at,
        "deadline_at": new.deadline_at,
        "total": stored.total,
        "created_at": now,
        "served_at": now,
        "updated_at": now,
    }


def first_state(connection: Connection, new: NewExecution) -> ExecutionState:
    """``pending``, or ``queued`` behind the workspace's quota. Raises OverQuota, Invalid for who may not wait.

    One statement, by execution_live; the quota bounds how many it counts.
    """
    place = _PLACE.run(connection, {"name": new.workspace}).one()
    limit, busy = place.most, place.busy
    if busy < limit and not place.queue:
        return ExecutionState.PENDING
    if new.allow_queue:
        return ExecutionState.QUEUED
    if limit == 0:
        raise Invalid(f"workspace {new.workspace!r} may run no executions at all (maxParallelExecutions is 0)")
    raise OverQuota(
        f"workspace {new.workspace!r} runs {busy} of {limit} executions at once; send it later, or with allowQueue"
    )


def _check_fits(connection: Connection, memory_mb: int, region: str) -> None:
    """Whether any node of the region that was ever seen could hold such a task. Raises Invalid."""
    biggest_mb = biggest_in(uploads.biggest_nodes(connection), region)
    if biggest_mb is not None and memory_mb > biggest_mb:
        raise Invalid(
            f"a task needs {memory_mb} MB, but the biggest node has {biggest_mb}; with allowQueue it may wait"
        )


def _execution(row: AnyRow) -> Execution:
    state = ExecutionState(row.state)
    counters = Counters(
        total=row.total,
        running=row.running,
        succeeded=row.succeeded,
        failed=row.failed,
        cancelled=row.cancelled,
        retried=row.retried,
    )
    return Execution(
        key=ExecutionKey(row.key),
        id=row.id,
        job=row.job_name,
        job_key=JobKey(row.job_key),
        workspace=row.workspace,
        revision=row.revision,
        state=state,
        stats=stats_of(state, counters),
        input_set=InputSetKey(row.input_set),
        request_id=row.request_id,
        parallelism=row.parallelism,
        memory_mb=row.memory_mb,
        memory_override_mb=row.memory_override_mb,
        region=row.region,
        timeout_s=row.timeout_s,
        max_retries=row.max_retries,
        env_names=tuple(row.env_names),
        extra=row.extra,
        next_index=row.next_index,
        origin=None if row.origin is None else ExecutionKey(row.origin),
        chain=ExecutionKey(row.chain),
        rerun_of=row.rerun_of or "",
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        updated_at=row.updated_at,
        trigger=row.trigger_id,
        due_at=row.due_at,
        deadline_at=row.deadline_at,
        timed_out=bool(row.timed_out),
    )
