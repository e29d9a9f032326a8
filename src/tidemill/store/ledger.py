"""The ledger: every move of tasks, executions and builds, through one guarded statement each.

``ledger_claim`` gives work away and ``ledger_settle`` writes down how it ended; both move rows through here only. A
guard names what the decision was made from (the state, and for tasks and builds the attempt as fence): a row that does
not match was moved by somebody else, which is weather; an event that the table of moves forbids is a bug.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, func, select, update

from tidemill.model.errors import IllegalMove, NotFound
from tidemill.model.execution import Reason, Stats
from tidemill.model.ids import BuildKey, ExecutionKey, JobKey
from tidemill.model.states import (
    BUILD_MOVES,
    EXECUTION_FINAL,
    EXECUTION_MOVES,
    TASK_FINAL,
    TASK_MOVES,
    BuildEvent,
    BuildState,
    ExecutionEvent,
    ExecutionState,
    TaskEvent,
    TaskState,
    rowless_state,
)
from tidemill.store import events, jobs, outbox, schema
from tidemill.store.keys import FIRST, PAIRS, pairs
from tidemill.store.outbox import Ended
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

MESSAGE_MAX: Final = 2_000

_TASK: Final = schema.task.c
_EXECUTION: Final = schema.execution.c
_BUILD: Final = schema.build.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What an execution's row counts: rows of tasks, except ``total``."""

    total: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    retried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An execution that has ended: its public id, its final state, and how many of its tasks failed."""

    id: str
    workspace: str
    state: ExecutionState
    failed: int


@dataclass(slots=True)
class Change:
    """What a batch changes in one execution's counters."""

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMove:
    """One event of one task: what its row must be (``seen``, ``fence``) and what it becomes.

    ``attempt``, ``charged`` and ``lost_in_row`` are the new values; ``started_at`` never replaces an earlier one.
    """

    event: TaskEvent
    execution: int
    index: int
    seen: TaskState
    fence: int
    attempt: int
    charged: int
    lost_in_row: int
    not_before: datetime | None = None
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    has_result: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionMove:
    """One event of one execution. ``force`` is only for CANCEL: running tasks are ended too, as by TIME_OUT always."""

    event: ExecutionEvent
    key: int
    seen: ExecutionState
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildMove:
    """One event of one build, like TaskMove."""

    event: BuildEvent
    key: int
    seen: BuildState
    fence: int
    attempt: int
    lost_in_row: int = 0
    not_before: datetime | None = None
    message: str = ""
    started_at: datetime | None = None


_MOVE_TASK: Final = Prepared(
    update(schema.task)
    .where(
        _TASK.execution == bindparam("key"),
        _TASK.idx == bindparam("index"),
        _TASK.state == bindparam("seen"),
        _TASK.attempt == bindparam("fence"),
    )
    .values(
        state=bindparam("target"),
        attempt=bindparam("new_attempt"),
        charged=bindparam("new_charged"),
        lost_in_row=bindparam("new_lost"),
        not_before=bindparam("new_not_before"),
        reason=bindparam("new_reason"),
        message=bindparam("new_message"),
        exit_code=bindparam("new_exit_code"),
        signal=bindparam("new_signal"),
        has_result=bindparam("new_has_result"),
        started_at=func.coalesce(_TASK.started_at, bindparam("new_started_at", type_=schema.Instant())),
        ended_at=bindparam("new_ended_at"),
        updated_at=bindparam("now"),
    )
)

_MOVE_EXECUTION: Final = Prepared(
    update(schema.execution)
    .where(_EXECUTION.key == bindparam("the_key"), _EXECUTION.state == bindparam("seen"))
    .values(
        state=bindparam("target"),
        force=_EXECUTION.force.bitwise_or(bindparam("new_force")),
        timed_out=_EXECUTION.timed_out.bitwise_or(bindparam("new_timed_out")),
        served_at=func.coalesce(bindparam("new_served_at", type_=schema.Instant()), _EXECUTION.served_at),
        started_at=func.coalesce(_EXECUTION.started_at, bindparam("new_started_at", type_=schema.Instant())),
        completed_at=bindparam("new_completed_at"),
        updated_at=bindparam("now"),
    )
)

_MOVE_BUILD: Final = (
    update(schema.build)
    .where(
        _BUILD.key == bindparam("the_key"),
        _BUILD.state == bindparam("seen"),
        _BUILD.attempt == bindparam("fence"),
    )
    .values(
        state=bindparam("target"),
        attempt=bindparam("new_attempt"),
        lost_in_row=bindparam("new_lost"),
        not_before=bindparam("new_not_before"),
        message=bindparam("new_message"),
        started_at=func.coalesce(_BUILD.started_at, bindparam("new_started_at", type_=schema.Instant())),
        ended_at=bindparam("new_ended_at"),
        # nobody needs them any more
        credentials_sealed=case(
            (bindparam("new_ended_at", type_=schema.Instant()).is_(None), _BUILD.credentials_sealed), else_=""
        ),
    )
)

_COUNT: Final = Prepared(
    update(schema.execution)
    .where(_EXECUTION.key == bindparam("the_key"))
    .values(
        waiting=_EXECUTION.waiting + bindparam("d_waiting"),
        running=_EXECUTION.running + bindparam("d_running"),
        succeeded=_EXECUTION.succeeded + bindparam("d_succeeded"),
        failed=_EXECUTION.failed + bindparam("d_failed"),
        cancelled=_EXECUTION.cancelled + bindparam("d_cancelled"),
        retried=_EXECUTION.retried + bindparam("d_retried"),
        updated_at=bindparam("now"),
    )
)

_COUNTED: Final = Prepared(
    select(
        _EXECUTION.key,
        _EXECUTION.id,
        _EXECUTION.workspace,
        _EXECUTION.job,
        _EXECUTION.trigger_id,
        _EXECUTION.state,
        _EXECUTION.total,
        _EXECUTION.running,
        _EXECUTION.succeeded,
        _EXECUTION.failed,
        _EXECUTION.cancelled,
        _EXECUTION.retried,
        _EXECUTION.timed_out,
    )
    .select_from(PAIRS)
    .join(schema.execution, _EXECUTION.key == FIRST)
)


def stats_of(state: ExecutionState, counters: Counters) -> Stats:
    """An execution's stats: what its rows count, and by arithmetic the tasks that have no row or a pending one."""
    rest = counters.total - counters.running - counters.succeeded - counters.failed - counters.cancelled
    waits = rowless_state(state) is TaskState.PENDING
    return Stats(
        total=counters.total,
        pending=rest if waits else 0,
        running=counters.running,
        succeeded=counters.succeeded,
        failed=counters.failed,
        cancelled=counters.cancelled if waits else counters.cancelled + rest,
        retried=counters.retried,
    )


def move_tasks(connection: Connection, moves: Sequence[TaskMove], *, now: datetime) -> list[bool]:
    """Move tasks; True for each whose row was as the move says. Raises IllegalMove. One statement; primary key."""
    return _MOVE_TASK.run_each(connection, [_task_row(move, now) for move in moves]) if moves else []


def move_executions(connection: Connection, moves: Sequence[ExecutionMove], *, now: datetime) -> list[bool]:
    """Move executions, and tell of it; True for each whose row was as the move says.

    Raises IllegalMove. Four statements, by primary keys; none without ``moves``.
    """
    if not moves:
        return []
    done = _MOVE_EXECUTION.run_each(connection, [_execution_row(move, now) for move in moves])
    reached = {move.key: EXECUTION_MOVES[move.event][1] for move, hit in zip(moves, done, strict=True) if hit}
    events.add_of_executions(connection, reached, now=now)
    return done


def move_build(connection: Connection, move: BuildMove, *, now: datetime) -> bool:
    """Move a build; False when its row was not as the move says. Raises IllegalMove. One statement, primary key."""
    sources, target = BUILD_MOVES[move.event]
    _check(move.event, move.seen, sources)
    row = {
        "the_key": move.key,
        "seen": move.seen.value,
        "fence": move.fence,
        "target": target.value,
        "new_attempt": move.attempt,
        "new_lost": move.lost_in_row,
        "new_not_before": move.not_before,
        "new_message": move.message[:MESSAGE_MAX],
        "new_started_at": move.started_at,
        "new_ended_at": now if target in {BuildState.SUCCEEDED, BuildState.FAILED} else None,
    }
    return connection.execute(_MOVE_BUILD, row).rowcount == 1


def count(connection: Connection, changes: Mapping[int, Change], *, now: datetime) -> None:
    """Change counters of executions, in the unit that changes what they count. One executemany, primary key."""
    rows = [
        {
            "the_key": key,
            "d_waiting": change.waiting,
            "d_running": change.running,
            "d_succeeded": change.succeeded,
            "d_failed": change.failed,
            "d_cancelled": change.cancelled,
            "d_retried": change.retried,
            "now": now,
        }
        for key, change in changes.items()
    ]
    if rows:
        _COUNT.run_many(connection, rows)


def finish(connection: Connection, keys: Sequence[int], *, now: datetime) -> list[Finished]:
    """End those executions whose counters say so; which ones ended, and how. What must be told of it goes with it.

    Two statements, and one or two per job; up to three for executions that triggers have started.
    """
    rows = _COUNTED.run(connection, {"pairs": pairs((key,) for key in sorted(keys))}).all()
    due = [(row, event) for row in rows if (event := _end(row)) is not None]
    moves = [ExecutionMove(event=event, key=row.key, seen=ExecutionState(row.state)) for row, event in due]
    moved = move_executions(connection, moves, now=now)
    ended = [pair for pair, done in zip(due, moved, strict=True) if done]
    outbox.add(connection, [_told(row, EXECUTION_MOVES[event][1]) for row, event in ended if row.trigger_id], now=now)
    for job in sorted({row.job for row, _ in ended}):
        jobs.settle(connection, JobKey(job), now)
    return [
        Finished(id=row.id, workspace=row.workspace, state=EXECUTION_MOVES[event][1], failed=row.failed)
        for row, event in ended
    ]


def cancel_execution(connection: Connection, key: ExecutionKey, *, force: bool, now: datetime) -> ExecutionState:
    """Start no task of this execution any more; with ``force`` end the running ones too. The state it is in then.

    Idempotent; a later ``force`` sharpens an earlier cancel; one that has ended is left alone. Tasks that do not run
    are settled by arithmetic: no row of theirs is touched. Four statements and ``jobs.settle``. Raises NotFound.
    """
    found = connection.execute(
        select(_EXECUTION.state, _EXECUTION.force).where(_EXECUTION.key == key).with_for_update()
    ).one_or_none()
    if found is None:
        raise NotFound(f"no execution with the key {key}")
    state = ExecutionState(found.state)
    if state in EXECUTION_FINAL:
        return state
    if state is not ExecutionState.CANCELLING:
        move_executions(
            connection, [ExecutionMove(event=ExecutionEvent.CANCEL, key=key, seen=state, force=force)], now=now
        )
    elif force and not found.force:
        _sharpen(connection, [key], now)
    ended = finish(connection, [key], now=now)
    return ended[0].state if ended else ExecutionState.CANCELLING


def time_out_executions(connection: Connection, keys: Sequence[ExecutionKey], *, now: datetime) -> list[Finished]:
    """End those of ``keys`` whose deadline has come; which ones had nothing running, and so have ended.

    As a cancel with force does, but such an execution has failed in the end. One that is being cancelled already stays
    so: it is ended by force from now on. Idempotent. Three statements, and those of ``finish``.
    """
    rows = connection.execute(
        select(_EXECUTION.key, _EXECUTION.state)
        .where(
            _EXECUTION.key.in_(keys),
            _EXECUTION.deadline_at <= now,
            _EXECUTION.completed_at.is_(None),
            _EXECUTION.force == 0,
        )
        .with_for_update()
    ).all()
    open_ = [row for row in rows if row.state != ExecutionState.CANCELLING]
    moves = [ExecutionMove(event=ExecutionEvent.TIME_OUT, key=row.key, seen=ExecutionState(row.state)) for row in open_]
    move_executions(connection, moves, now=now)
    _sharpen(connection, [row.key for row in rows if row.state == ExecutionState.CANCELLING], now)
    return finish(connection, [row.key for row in rows], now=now) if rows else []


def drop_build(connection: Connection, build: BuildKey, *, now: datetime) -> bool:
    """A newer upload takes the build's place; False when it had ended. Two statements, primary key.

    An attempt of it that runs stays live until its node says otherwise: the scheduler tells the node to end it.
    """
    row = connection.execute(
        select(_BUILD.state, _BUILD.attempt, _BUILD.lost_in_row).where(_BUILD.key == build).with_for_update()
    ).one_or_none()
    if row is None or BuildState(row.state) not in BUILD_MOVES[BuildEvent.DROP][0]:
        return False
    move = BuildMove(
        event=BuildEvent.DROP,
        key=build,
        seen=BuildState(row.state),
        fence=row.attempt,
        attempt=row.attempt,
        lost_in_row=row.lost_in_row,
        message="a newer upload took its place",
    )
    return move_build(connection, move, now=now)


def _sharpen(connection: Connection, keys: Sequence[int], now: datetime) -> None:
    """What is being cancelled is ended by force from now on. One statement."""
    if keys:
        connection.execute(
            update(schema.execution)
            .where(_EXECUTION.key.in_(keys), _EXECUTION.state == ExecutionState.CANCELLING.value)
            .values(force=1, updated_at=now)
        )


def _end(row: AnyRow) -> ExecutionEvent | None:
    if row.state == ExecutionState.CANCELLING:
        end = ExecutionEvent.TIMED_OUT if row.timed_out else ExecutionEvent.CANCELLED
        return end if row.running == 0 else None
    if row.state != ExecutionState.RUNNING or row.succeeded + row.failed + row.cancelled < row.total:
        return None
    return ExecutionEvent.SUCCEED if row.succeeded == row.total else ExecutionEvent.FAIL


def _told(row: AnyRow, state: ExecutionState) -> Ended:
    counters = Counters(
        total=row.total,
        running=row.running,
        succeeded=row.succeeded,
        failed=row.failed,
        cancelled=row.cancelled,
        retried=row.retried,
    )
    stats = stats_of(state, counters)
    return Ended(
        key=row.key,
        id=row.id,
        workspace=row.workspace,
        job=row.job,
        trigger=row.trigger_id,
        state=state,
        stats=stats,
        timed_out=bool(row.timed_out),
    )


def _check(event: TaskEvent | ExecutionEvent | BuildEvent, seen: object, sources: frozenset[Any]) -> None:
    if seen not in sources:
        raise IllegalMove(f"the event {event} cannot happen in the state {seen}")


def _task_row(move: TaskMove, now: datetime) -> dict[str, object]:
    sources, target = TASK_MOVES[move.event]
    _check(move.event, move.seen, sources)
    return {
        "key": move.execution,
        "index": move.index,
        "seen": move.seen.value,
        "fence": move.fence,
        "target": target.value,
        "new_attempt": move.attempt,
        "new_charged": move.charged,
        "new_lost": move.lost_in_row,
        "new_not_before": move.not_before,
        "new_reason": None if move.reason is None else move.reason.value,
        "new_message": move.message[:MESSAGE_MAX],
        "new_exit_code": move.exit_code,
        "new_signal": move.signal,
        "new_has_result": int(move.has_result),
        "new_started_at": move.started_at,
        "new_ended_at": (move.ended_at or now) if target in TASK_FINAL else None,
        "now": now,
    }


def _execution_row(move: ExecutionMove, now: datetime) -> dict[str, object]:
    sources, target = EXECUTION_MOVES[move.event]
    _check(move.event, move.seen, sources)
    return {
        "the_key": move.key,
        "seen": move.seen.value,
        "target": target.value,
        "new_force": int(move.force or move.event is ExecutionEvent.TIME_OUT),
        "new_timed_out": int(move.event is ExecutionEvent.TIME_OUT),
        # a promoted execution starts to wait for capacity now
        "new_served_at": now if move.event is ExecutionEvent.PROMOTE else None,
        "new_started_at": now if move.event is ExecutionEvent.START else None,
        "new_completed_at": now if target in EXECUTION_FINAL else None,
        "now": now,
    }
