"""What must be told of executions that have ended: written with the end, claimed by whoever sends it, then settled.

A claim is a lease: when its holder dies the row is due again, and what the dead one sent is sent once more. Only the
newest claim of a row settles it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, text, update

from tidemill.model.callback import MESSAGE_MAX, Delivery, code_of
from tidemill.model.errors import IllegalMove, Invalid, NotFound
from tidemill.model.execution import Reason, Stats
from tidemill.model.ids import ID_PREFIX_MIN, JobKey
from tidemill.model.states import DELIVERY_MOVES, DeliveryEvent, DeliveryState, ExecutionState, TaskState
from tidemill.store import schema
from tidemill.store.schema import AnyRow

DELIVERIES: Final = "tidemill_deliveries"
"""A connection's ``info`` has it once there is something more to deliver: whoever waits for that is woken."""
LEASE: Final = timedelta(seconds=60)
REPLAYED_AT_ONCE: Final = 1_000

_OUTBOX: Final = schema.outbox.c
_CALLBACK: Final = schema.callback.c
_TASK: Final = schema.task.c
# as the partial index says it, which serves no parameter; a CHECK says that it is the same as the state
_PENDING: Final = _OUTBOX.due_at.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution that a trigger started and that ends in this unit. ``timed_out``: at its deadline."""

    key: int
    id: str
    workspace: str
    job: int
    trigger: str
    state: ExecutionState
    stats: Stats
    timed_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A receiver of a workspace for which something waits, and when the first of it is due."""

    workspace: str
    receiver: str
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """How much of what is due at a place is to be claimed."""

    workspace: str
    receiver: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A row whose lease one sender has. ``url`` is empty when its trigger has no callback any more.

    ``claim`` is the number of the lease, ``tries`` how many tries there were before. ``older_sealed`` is empty, or the
    secret before the newest one, while that is good.
    """

    execution: int
    claim: int
    execution_id: str
    workspace: str
    receiver: str
    status: ExecutionState
    code: int
    stats: Stats
    tries: int
    url: str
    retries: int
    key: int
    secret_sealed: str = field(repr=False)
    older_sealed: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What becomes of a claimed row. ``event`` None: nothing was tried, somebody else shall.

    ``due_at`` is when it is tried again (RETRY); ``answered`` and ``message`` are those of the try.
    """

    event: DeliveryEvent | None
    due_at: datetime | None = None
    answered: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Which deliveries of a job, newest first, from behind the execution ``after`` on. No ``states``: all."""

    job: JobKey
    states: frozenset[DeliveryState] = frozenset()
    after: int | None = None
    limit: int = 50


def add(connection: Connection, ended: Sequence[Ended], *, now: datetime) -> None:
    """What must be told of these ends, where their triggers have a callback. Three statements at most."""
    if not ended:
        return
    jobs = {each.job for each in ended}
    receivers = {
        (row.job, row.trigger_id): row.receiver
        for row in connection.execute(
            select(_CALLBACK.job, _CALLBACK.trigger_id, _CALLBACK.receiver).where(
                _CALLBACK.job.in_(jobs), _CALLBACK.url != ""
            )
        )
    }
    told = [each for each in ended if (each.job, each.trigger) in receivers]
    if not told:
        return
    failed = [each.key for each in told if each.state is ExecutionState.FAILED and not each.timed_out]
    late = _timed_out(connection, failed) | {each.key for each in told if each.timed_out}
    connection.execute(
        insert(schema.outbox),
        [
            {
                "execution": each.key,
                "execution_id": each.id,
                "workspace": each.workspace,
                "job": each.job,
                "trigger_id": each.trigger,
                "receiver": receivers[each.job, each.trigger],
                "state": DeliveryState.PENDING.value,
                "status": each.state.value,
                "code": code_of(each.state, timed_out=each.key in late),
                "stats": asdict(each.stats),
                "due_at": now,
                "created_at": now,
            }
            for each in told
        ],
    )
    connection.info[DELIVERIES] = True


_PLACES: Final = text(
    """
    WITH RECURSIVE head (execution, workspace, receiver, due_at) AS (
        SELECT * FROM (
            SELECT execution, workspace, receiver, due_at FROM outbox
             WHERE due_at IS NOT NULL ORDER BY workspace, receiver, due_at LIMIT 1) AS first
        UNION ALL
        SELECT o.execution, o.workspace, o.receiver, o.due_at
          FROM head JOIN outbox AS o ON o.execution = coalesce(
            (SELECT n.execution FROM outbox AS n
              WHERE n.due_at IS NOT NULL AND n.workspace = head.workspace AND n.receiver > head.receiver
              ORDER BY n.receiver, n.due_at LIMIT 1),
            (SELECT n.execution FROM outbox AS n
              WHERE n.due_at IS NOT NULL AND n.workspace > head.workspace
              ORDER BY n.workspace, n.receiver, n.due_at LIMIT 1))
    )
    SELECT workspace, receiver, due_at FROM head
    """
).columns(_OUTBOX.workspace, _OUTBOX.receiver, _OUTBOX.due_at)
"""The first of each (workspace, receiver), by outbox_due: two steps each, however much waits for one of them.

Not with ``(workspace, receiver) > (…)``: SQLite goes through all rows that are equal to reach the next one.
"""


def places(connection: Connection) -> list[Place]:
    """Where something waits, in the order of workspace and receiver. One statement; see ``_PLACES``."""
    return [
        Place(workspace=row.workspace, receiver=row.receiver, due_at=row.due_at) for row in connection.execute(_PLACES)
    ]


def claim(connection: Connection, picks: Sequence[Pick], *, now: datetime, lease: timedelta = LEASE) -> list[Claimed]:
    """Take what is due at these places for ``lease``. One statement a place, by outbox_due, and one a row."""
    found = list[Claimed]()
    for pick in picks:
        rows = connection.execute(
            select(
                schema.outbox,
                *(_CALLBACK.key, _CALLBACK.url, _CALLBACK.retries),
                *(_CALLBACK.secret_sealed, _CALLBACK.older_sealed, _CALLBACK.older_until),
            )
            .outerjoin_from(
                schema.outbox,
                schema.callback,
                and_(_CALLBACK.job == _OUTBOX.job, _CALLBACK.trigger_id == _OUTBOX.trigger_id),
            )
            .where(
                _PENDING,
                _OUTBOX.workspace == pick.workspace,
                _OUTBOX.receiver == pick.receiver,
                _OUTBOX.due_at <= now,
            )
            .order_by(_OUTBOX.due_at)
            .limit(pick.count)
            .with_for_update(skip_locked=True, of=schema.outbox)
        ).all()
        found += [_claimed(row, now) for row in rows if _take(connection, row, now + lease)]
    return found


def settle(connection: Connection, claimed: Claimed, result: Result, *, now: datetime) -> bool:
    """Write down what became of a claimed row; False when its lease was over and somebody else has it now.

    One statement, by primary key. Raises IllegalMove.
    """
    values: dict[str, object] = {"claimed": 0}
    if result.event is None:
        values |= {"due_at": now}
    else:
        _, target = _move(result.event, DeliveryState.PENDING)
        values |= {
            "state": target.value,
            "tries": claimed.tries + 1,
            "due_at": result.due_at if target is DeliveryState.PENDING else None,
            "settled_at": None if target is DeliveryState.PENDING else now,
            "answered": result.answered,
            "message": result.message[:MESSAGE_MAX],
        }
    done = connection.execute(
        update(schema.outbox)
        .where(_OUTBOX.execution == claimed.execution, _PENDING, _OUTBOX.claims == claimed.claim)
        .values(values)
    )
    return done.rowcount == 1


def release(connection: Connection, *, now: datetime) -> int:
    """Nobody sends anything at this moment: end all leases; how many. One statement, by outbox_due."""
    found = connection.execute(
        update(schema.outbox).where(_PENDING, _OUTBOX.claimed == 1).values(claimed=0, due_at=now)
    )
    return found.rowcount


def find_page(connection: Connection, page: DeliveryPage) -> list[tuple[int, Delivery]]:
    """Up to ``page.limit`` deliveries with their keys. One statement, by outbox_job; for each state by its index."""
    wanted: list[ColumnElement[bool]] = [_OUTBOX.job == page.job]
    if page.states:
        wanted.append(_OUTBOX.state.in_(sorted(state.value for state in page.states)))
    if page.after is not None:
        wanted.append(_OUTBOX.execution < page.after)
    rows = connection.execute(select(schema.outbox).where(*wanted).order_by(_OUTBOX.execution.desc()).limit(page.limit))
    return [(row.execution, _delivery(row)) for row in rows]


def replay(connection: Connection, job: JobKey, execution: str, *, now: datetime) -> Delivery:
    """Deliver that of an execution again from the first try on, now; one that is being sent is left alone.

    ``execution`` is its id, or the beginning of it (8 characters at least). It goes where its trigger's callback goes
    now. Five statements at most, by outbox_job_id and primary key. Raises NotFound, Invalid for several.
    """
    key = _key(connection, job, execution)
    _again(connection, [_OUTBOX.execution == key], now)
    return _delivery(connection.execute(select(schema.outbox).where(_OUTBOX.execution == key)).one())


def replay_parked(connection: Connection, job: JobKey, *, now: datetime) -> int:
    """Deliver up to 1,000 parked ones of the job again, oldest first; how many.

    Three statements, by outbox_job_state and primary key.
    """
    keys = connection.scalars(
        select(_OUTBOX.execution)
        .where(_OUTBOX.job == job, _OUTBOX.state == DeliveryState.PARKED.value)
        .order_by(_OUTBOX.execution)
        .limit(REPLAYED_AT_ONCE)
    ).all()
    if keys:
        _again(connection, [_OUTBOX.execution.in_(keys)], now)
    return len(keys)


def forget(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Delete up to ``limit`` rows that were delivered or parked before ``cutoff``; how many.

    Two statements, by outbox_settled and primary key.
    """
    keys = connection.scalars(
        select(_OUTBOX.execution)
        .where(_OUTBOX.settled_at.is_not(None), _OUTBOX.settled_at < cutoff)
        .order_by(_OUTBOX.settled_at)
        .limit(limit)
    ).all()
    if keys:
        connection.execute(delete(schema.outbox).where(_OUTBOX.execution.in_(keys)))
    return len(keys)


def _timed_out(connection: Connection, failed: Sequence[int]) -> set[int]:
    """Those of the failed executions that failed for want of time alone. One statement, by task_failed."""
    if not failed:
        return set()
    other = connection.scalars(
        select(_TASK.execution)
        .distinct()
        .where(
            _TASK.execution.in_(failed),
            _TASK.state == TaskState.FAILED.value,
            or_(_TASK.reason.is_(None), _TASK.reason != Reason.TIMEOUT.value),
        )
    )
    return set(failed) - set(other)


def _take(connection: Connection, row: AnyRow, until: datetime) -> bool:
    """Another server may have claimed it since it was read: then it is none of ours."""
    done = connection.execute(
        update(schema.outbox)
        .where(_OUTBOX.execution == row.execution, _PENDING, _OUTBOX.claims == row.claims)
        .values(claims=row.claims + 1, claimed=1, due_at=until)
    )
    return done.rowcount == 1


def _claimed(row: AnyRow, now: datetime) -> Claimed:
    overlaps = row.older_until is not None and now < row.older_until
    return Claimed(
        execution=row.execution,
        claim=row.claims + 1,
        execution_id=row.execution_id,
        workspace=row.workspace,
        receiver=row.receiver,
        status=ExecutionState(row.status),
        code=row.code,
        stats=Stats(**row.stats),
        tries=row.tries,
        url=row.url or "",
        retries=row.retries or 0,
        key=row.key or 0,
        secret_sealed=row.secret_sealed or "",
        older_sealed=row.older_sealed if overlaps else "",
    )


def _key(connection: Connection, job: JobKey, text_: str) -> int:
    few = select(_OUTBOX.execution, _OUTBOX.execution_id).where(_OUTBOX.job == job).limit(2)
    rows = connection.execute(few.where(_OUTBOX.execution_id == text_)).all()
    if not rows and len(text_) >= ID_PREFIX_MIN:
        # the highest code point sorts after every character that an id may hold
        behind = text_ + "\U0010ffff"
        rows = connection.execute(few.where(_OUTBOX.execution_id > text_, _OUTBOX.execution_id < behind)).all()
    if not rows:
        raise NotFound(f"no callback is kept of an execution {text_[:64]!r} of this job")
    if len(rows) > 1:
        raise Invalid(f"execution {text_[:64]!r} is not unique: {', '.join(row.execution_id for row in rows)}, ...")
    return int(rows[0].execution)


def _again(connection: Connection, wanted: Sequence[ColumnElement[bool]], now: datetime) -> None:
    sources, target = DELIVERY_MOVES[DeliveryEvent.REPLAY]
    now_at = select(_CALLBACK.receiver).where(
        _CALLBACK.job == _OUTBOX.job, _CALLBACK.trigger_id == _OUTBOX.trigger_id, _CALLBACK.url != ""
    )
    values: Mapping[Any, object] = {
        _OUTBOX.state: target.value,
        _OUTBOX.tries: 0,
        _OUTBOX.due_at: now,
        _OUTBOX.settled_at: None,
    }
    connection.execute(
        update(schema.outbox)
        .where(*wanted, _OUTBOX.state.in_([state.value for state in sources]), _OUTBOX.claimed == 0)
        .values(values)
    )
    connection.execute(update(schema.outbox).where(*wanted, now_at.exists()).values(receiver=now_at.scalar_subquery()))
    connection.info[DELIVERIES] = True


def _move(event: DeliveryEvent, seen: DeliveryState) -> tuple[frozenset[DeliveryState], DeliveryState]:
    sources, target = DELIVERY_MOVES[event]
    if seen not in sources:
        raise IllegalMove(f"the event {event} cannot happen in the state {seen}")
    return sources, target


def _delivery(row: AnyRow) -> Delivery:
    return Delivery(
        execution=row.execution_id,
        trigger=row.trigger_id,
        state=DeliveryState(row.state),
        status=ExecutionState(row.status),
        code=row.code,
        stats=Stats(**row.stats),
        tries=row.tries,
        due_at=row.due_at,
        settled_at=row.settled_at,
        created_at=row.created_at,
        answered=row.answered,
        message=row.message,
    )
