"""What the scheduler looks at: a window of what may be decided now, and what leases are made of.

Its size follows what runs and what is free, never what waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select

from tidemill.model.execution import LOST_ALONE_AFTER
from tidemill.model.ids import AttemptId, BuildKey, ExecutionKey, InputSetKey, JobKey, NodeId, OwnerKind
from tidemill.model.job import JobSpec
from tidemill.model.states import BuildState, ExecutionState, TaskState
from tidemill.store import schema, specs
from tidemill.store.keys import FIRST, PAIRS, pairs
from tidemill.store.ledger_claim import live_executions
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

PROMOTED_AT_ONCE: Final = 100
TIMED_OUT_AT_ONCE: Final = 100

_EXECUTION: Final = schema.execution.c
_ATTEMPT: Final = schema.attempt.c
_TASK: Final = schema.task.c
_BUILD: Final = schema.build.c
_WORKSPACE: Final = schema.workspace.c


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAttempt:
    """An attempt on record that has not ended. ``cancel_sent``: its node was told to end it."""

    attempt: AttemptId
    node: NodeId
    workspace: str
    memory_mb: int
    alone: bool
    cancel_sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A task that waits to run again from ``not_before`` on."""

    index: int
    not_before: datetime
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """An execution that wants to run more: ``unclaimed`` tasks without a row, and ``retries``, soonest first.

    It runs on nodes of its ``region``, on any for an empty one, and not before ``due_at``. The retries are a window,
    empty where its parallelism leaves no room.
    """

    key: ExecutionKey
    workspace: str
    job: JobKey
    memory_mb: int
    parallelism: int
    unclaimed: int
    served_at: datetime
    region: str = ""
    due_at: datetime | None = None
    retries: tuple[Retry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The oldest queued executions of one job, oldest first."""

    workspace: str
    job: JobKey
    keys: tuple[ExecutionKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBuild:
    key: BuildKey
    memory_mb: int
    not_before: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Deadline:
    """An execution that is to be ended at ``at`` unless it has ended by itself."""

    execution: ExecutionKey
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One consistent look. ``task_caps`` has the workspaces with a limit, ``promotable`` those with room and a queue.

    ``doomed`` are live attempts whose node has not been told yet to end them. ``deadlines`` are the soonest of
    executions that have one, soonest first.
    """

    live: tuple[LiveAttempt, ...]
    claimable: tuple[Claimable, ...]
    builds: tuple[PendingBuild, ...]
    queued: tuple[Queued, ...]
    promotable: Mapping[str, int]
    task_caps: Mapping[str, int]
    doomed: tuple[LiveAttempt, ...]
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFacts:
    """What leases of one execution have in common. ``spec`` is its revision's, with secret values sealed."""

    key: ExecutionKey
    id: str
    workspace: str
    job: JobKey
    job_name: str
    revision: str
    image_digest: str
    input_set: InputSetKey
    env_sealed: str
    memory_mb: int
    timeout_s: int
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """What a build's lease is made of. ``image`` is what is to be pulled, empty for what is to be built."""

    key: BuildKey
    job: JobKey
    source_digest: str
    memory_mb: int
    timeout_s: int
    image: str = ""
    credentials_sealed: str = field(default="", repr=False)


# a look-up is ten times as fast as a call of the enum
_KINDS: Final = {kind.value: kind for kind in OwnerKind}

# in the order in which live_attempts takes them
_LIVE: Final = Prepared(
    select(
        _ATTEMPT.kind,
        _ATTEMPT.owner,
        _ATTEMPT.idx,
        _ATTEMPT.number,
        _ATTEMPT.node,
        _ATTEMPT.workspace,
        _ATTEMPT.memory_mb,
        _ATTEMPT.alone,
        _ATTEMPT.cancel_sent_at.is_not(None).label("cancel_sent"),
    ).where(_ATTEMPT.ended_at.is_(None))
)

_MORE: Final = Prepared(
    select(
        _EXECUTION.key,
        _EXECUTION.workspace,
        _EXECUTION.job,
        _EXECUTION.memory_mb,
        _EXECUTION.region,
        _EXECUTION.parallelism,
        (_EXECUTION.total - _EXECUTION.next_index).label("unclaimed"),
        _EXECUTION.waiting,
        _EXECUTION.served_at,
        _EXECUTION.due_at,
    )
    .where(
        _EXECUTION.workspace.in_(select(_WORKSPACE.name)),
        _EXECUTION.state.in_([ExecutionState.PENDING.value, ExecutionState.RUNNING.value]),
        _EXECUTION.completed_at.is_(None),
        (_EXECUTION.next_index < _EXECUTION.total) | (_EXECUTION.waiting > 0),
    )
    .order_by(_EXECUTION.served_at, _EXECUTION.key)
)

_PENDING_BUILDS: Final = Prepared(
    select(_BUILD.key, _BUILD.memory_mb, _BUILD.not_before, _BUILD.created_at)
    .where(_BUILD.state == BuildState.PENDING.value, _BUILD.ended_at.is_(None))
    .order_by(_BUILD.created_at)
)

_WITH_QUEUE: Final = Prepared(
    select(
        _WORKSPACE.name, (_WORKSPACE.max_parallel_executions - live_executions(_WORKSPACE.name)).label("room")
    ).where(
        select(_EXECUTION.key)
        .where(
            _EXECUTION.workspace == _WORKSPACE.name,
            _EXECUTION.state == ExecutionState.QUEUED.value,
            _EXECUTION.completed_at.is_(None),
        )
        .exists()
    )
)

_FORCED: Final = Prepared(
    select(_EXECUTION.key).where(
        _EXECUTION.workspace.in_(select(_WORKSPACE.name)),
        _EXECUTION.state == ExecutionState.CANCELLING.value,
        _EXECUTION.completed_at.is_(None),
        _EXECUTION.force == 1,
    )
)

_DEADLINES: Final = Prepared(
    select(_EXECUTION.key, _EXECUTION.deadline_at)
    .where(_EXECUTION.deadline_at.is_not(None), _EXECUTION.completed_at.is_(None), _EXECUTION.force == 0)
    .order_by(_EXECUTION.deadline_at)
    .limit(TIMED_OUT_AT_ONCE)
)

_TASK_CAPS: Final = Prepared(
    select(_WORKSPACE.name, _WORKSPACE.max_concurrent_tasks).where(_WORKSPACE.max_concurrent_tasks.is_not(None))
)

_RETRIES: Final = Prepared(
    select(_TASK.idx, _TASK.not_before, _TASK.lost_in_row)
    .where(_TASK.execution == bindparam("execution"), _TASK.state == TaskState.PENDING.value)
    .order_by(_TASK.not_before)
    .limit(bindparam("room"))
)

_FACTS: Final = Prepared(
    select(
        _EXECUTION.key,
        _EXECUTION.id,
        _EXECUTION.workspace,
        _EXECUTION.job,
        schema.job.c.name.label("job_name"),
        _EXECUTION.revision,
        _EXECUTION.image_digest,
        _EXECUTION.input_set,
        _EXECUTION.env_sealed,
        _EXECUTION.memory_mb,
        _EXECUTION.timeout_s,
        schema.revision.c.spec,
    )
    .select_from(PAIRS)
    .join(schema.execution, _EXECUTION.key == FIRST)
    .join(schema.job, schema.job.c.key == _EXECUTION.job)
    .join(schema.revision, (schema.revision.c.job == _EXECUTION.job) & (schema.revision.c.id == _EXECUTION.revision))
)


def look(connection: Connection, *, window: int) -> View:
    """What may be decided now, with room for at most ``window`` more attempts.

    Eight statements, one more for each execution that has tasks waiting for a retry, and one or two for each workspace
    with a queue and room; by attempt_live, execution_live, task_waiting, build_open, execution_queued and
    execution_deadline.
    """
    live = live_attempts(connection)
    caps = _TASK_CAPS.run(connection, {})
    promotable = _promotable(connection)
    return View(
        live=live,
        claimable=_claimable(connection, live, window) if window > 0 else (),
        builds=_builds(connection),
        queued=tuple(queue for name, room in promotable.items() for queue in _queued(connection, name, room)),
        promotable=promotable,
        task_caps={row.name: row.max_concurrent_tasks for row in caps},
        doomed=_doomed(connection, live),
        deadlines=tuple(Deadline(ExecutionKey(row.key), row.deadline_at) for row in _DEADLINES.run(connection, {})),
    )


def live_attempts(connection: Connection) -> tuple[LiveAttempt, ...]:
    """Every attempt on record that has not ended. One statement, by attempt_live alone."""
    return tuple([_live_attempt(row) for row in _LIVE.run(connection, {})])


def _live_attempt(row: AnyRow) -> LiveAttempt:
    # taken apart at once: a look-up of each name would take as long as all the rest
    kind, owner, index, number, node, workspace, memory_mb, alone, cancel_sent = tuple(row)
    return LiveAttempt(
        attempt=AttemptId(_KINDS[kind], owner, index, number),
        node=NodeId(node),
        workspace=workspace,
        memory_mb=memory_mb,
        alone=bool(alone),
        cancel_sent=bool(cancel_sent),
    )


def unclaimable(connection: Connection, attempts: Sequence[AttemptId]) -> frozenset[AttemptId]:
    """Those of ``attempts`` whose owner wants no new start: an execution being cancelled, a build dropped.

    Two statements, by primary keys.
    """
    tasks = {attempt.owner for attempt in attempts if attempt.kind is OwnerKind.TASK}
    builds = {attempt.owner for attempt in attempts if attempt.kind is OwnerKind.BUILD}
    closing = connection.scalars(
        select(_EXECUTION.key).where(_EXECUTION.key.in_(tasks), _EXECUTION.state == ExecutionState.CANCELLING.value)
    )
    dropped = connection.scalars(select(_BUILD.key).where(_BUILD.key.in_(builds), _BUILD.ended_at.is_not(None)))
    closed = {(OwnerKind.TASK, key) for key in closing} | {(OwnerKind.BUILD, key) for key in dropped}
    return frozenset(attempt for attempt in attempts if (attempt.kind, attempt.owner) in closed)


def execution_facts(connection: Connection, keys: Sequence[int]) -> dict[int, ExecutionFacts]:
    """What leases of these executions need. One statement, by primary keys.

    An execution whose revision is not there is not found: a bug.
    """
    rows = _FACTS.run(connection, {"pairs": pairs((key,) for key in keys)})
    return {
        row.key: ExecutionFacts(
            key=ExecutionKey(row.key),
            id=row.id,
            workspace=row.workspace,
            job=JobKey(row.job),
            job_name=row.job_name,
            revision=row.revision,
            image_digest=row.image_digest,
            input_set=InputSetKey(row.input_set),
            env_sealed=row.env_sealed,
            memory_mb=row.memory_mb,
            timeout_s=row.timeout_s,
            spec=specs.decode(row.spec),
        )
        for row in rows
    }


def build_facts(connection: Connection, keys: Sequence[int]) -> dict[int, BuildFacts]:
    """What leases of these builds need. One statement, by primary keys."""
    rows = connection.execute(
        select(
            *(_BUILD.key, _BUILD.job, _BUILD.source_digest, _BUILD.memory_mb, _BUILD.timeout_s),
            *(_BUILD.image, _BUILD.credentials_sealed),
        ).where(_BUILD.key.in_(keys))
    )
    return {
        row.key: BuildFacts(
            key=BuildKey(row.key),
            job=JobKey(row.job),
            source_digest=row.source_digest,
            memory_mb=row.memory_mb,
            timeout_s=row.timeout_s,
            image=row.image,
            credentials_sealed=row.credentials_sealed,
        )
        for row in rows
    }


def _claimable(connection: Connection, live: Sequence[LiveAttempt], window: int) -> tuple[Claimable, ...]:
    """A workspace's quota bounds how many there are: the others are queued."""
    running: dict[int, int] = {}
    for attempt in live:
        running[attempt.attempt.owner] = running.get(attempt.attempt.owner, 0) + 1
    rows = _MORE.run(connection, {})
    found = []
    for row in rows:
        room = min(row.parallelism - running.get(row.key, 0), window)
        found.append(_one_claimable(connection, row, max(0, room)))
    return tuple(found)


def _one_claimable(connection: Connection, row: AnyRow, room: int) -> Claimable:
    retries: tuple[Retry, ...] = ()
    if row.waiting > 0 and room > 0:
        waiting = _RETRIES.run(connection, {"execution": row.key, "room": room})
        retries = tuple(
            Retry(index=task.idx, not_before=task.not_before, alone=task.lost_in_row >= LOST_ALONE_AFTER)
            for task in waiting
        )
    return Claimable(
        key=ExecutionKey(row.key),
        workspace=row.workspace,
        job=JobKey(row.job),
        memory_mb=row.memory_mb,
        parallelism=row.parallelism,
        unclaimed=row.unclaimed,
        served_at=row.served_at,
        region=row.region,
        due_at=row.due_at,
        retries=retries,
    )


def _builds(connection: Connection) -> tuple[PendingBuild, ...]:
    rows = _PENDING_BUILDS.run(connection, {})
    return tuple(
        PendingBuild(
            key=BuildKey(row.key), memory_mb=row.memory_mb, not_before=row.not_before, created_at=row.created_at
        )
        for row in rows
    )


def _promotable(connection: Connection) -> dict[str, int]:
    """Workspaces that have queued executions and room for more."""
    rows = _WITH_QUEUE.run(connection, {})
    return {row.name: row.room for row in rows if row.room > 0}


def _queued(connection: Connection, workspace: str, room: int) -> list[Queued]:
    """The heads of the queue of every job: as many of each as there is room. Two statements and one per job."""
    room = min(room, PROMOTED_AT_ONCE)
    queued = (_EXECUTION.workspace == workspace, _EXECUTION.state == "queued")
    jobs = connection.scalars(select(_EXECUTION.job).where(*queued).distinct()).all()
    found = []
    for job in jobs:
        keys = connection.scalars(
            select(_EXECUTION.key).where(*queued, _EXECUTION.job == job).order_by(_EXECUTION.created_at).limit(room)
        )
        found.append(Queued(workspace=workspace, job=JobKey(job), keys=tuple(ExecutionKey(key) for key in keys)))
    return found


def _doomed(connection: Connection, live: Sequence[LiveAttempt]) -> tuple[LiveAttempt, ...]:
    """Live attempts not told yet, of executions that are cancelled by force and of builds that were dropped."""
    forced = _FORCED.run(connection, {}).scalars()
    builds = [attempt.attempt.owner for attempt in live if attempt.attempt.kind is OwnerKind.BUILD]
    dropped = (
        connection.scalars(select(_BUILD.key).where(_BUILD.key.in_(builds), _BUILD.ended_at.is_not(None))).all()
        if builds
        else ()
    )
    owners = {(OwnerKind.TASK, key) for key in forced} | {(OwnerKind.BUILD, key) for key in dropped}
    return tuple(
        attempt
        for attempt in live
        if not attempt.cancel_sent and (attempt.attempt.kind, attempt.attempt.owner) in owners
    )
