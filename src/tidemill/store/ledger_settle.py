"""The ledger: how attempts went. One unit takes a batch of a node's events, and its position with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Connection, bindparam, func, insert, select, update

from tidemill.model.execution import LOST_LIMIT, Reason
from tidemill.model.ids import AttemptId, BuildKey, NodeId, OwnerKind
from tidemill.model.lease import Event, EventKind, Outcome, OutcomeKind, Position
from tidemill.model.retry import DEFAULT_POLICY, backoff
from tidemill.model.states import TASK_MOVES, BuildEvent, BuildState, ExecutionState, TaskEvent, TaskState
from tidemill.store import deploys, events, schema, specs
from tidemill.store.deploys import StoredImage
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.ledger import (
    MESSAGE_MAX,
    BuildMove,
    Change,
    Finished,
    TaskMove,
    count,
    finish,
    move_build,
    move_tasks,
)
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

UNIT_EVENTS: Final = 1_000
UNIT_BYTES: Final = 3 << 20

CHARGED: Final[Mapping[OutcomeKind, Reason]] = {
    OutcomeKind.EXIT_CODE: Reason.EXIT_CODE,
    OutcomeKind.SIGNAL: Reason.SIGNAL,
    OutcomeKind.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    OutcomeKind.TIMED_OUT: Reason.TIMEOUT,
    OutcomeKind.LAUNCH_ERROR: Reason.LAUNCH_ERROR,
}
"""The ends that are the task's own, and what its user is told."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TASK: Final = schema.task.c
_EXECUTION: Final = schema.execution.c
_ATTEMPT: Final = schema.attempt.c
_BUILD: Final = schema.build.c


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """What a build left: its image lies in the blob store by now. ``manifest`` is its blaxel.toml's runtime table.

    ``reference`` is what a pull says it has pulled, with its digest.
    """

    digest: str
    size_bytes: int
    manifest: Mapping[str, object] = field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Events of one node, in order. ``position`` is where the node may forget up to once they are committed.

    ``built`` has an entry for each build among them that succeeded. Without a position the events are the server's own
    conclusions.
    """

    node: NodeId
    events: Sequence[Event]
    position: Position | None = None
    built: Mapping[AttemptId, BuiltImage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a report did: attempts that ended by it, and executions that ended with them."""

    attempts: int
    executions: tuple[Finished, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """An attempt's end and what it makes of its task."""

    attempt: AttemptId
    outcome: Outcome
    started_at: datetime | None
    ended_at: datetime
    move: TaskMove | None = None
    charged: bool = False


_FIND: Final = (
    (_ATTEMPT.kind == bindparam("the_kind"))
    & (_ATTEMPT.owner == bindparam("the_owner"))
    & (_ATTEMPT.idx == bindparam("the_index"))
    & (_ATTEMPT.number == bindparam("the_number"))
)

_FACTS: Final = Prepared(
    select(_TASK.execution, _TASK.idx, _TASK.charged, _TASK.lost_in_row, _EXECUTION.state)
    .add_columns(_EXECUTION.max_retries, _EXECUTION.retry_policy, _EXECUTION.timed_out)
    .select_from(PAIRS)
    .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx == SECOND))
    .join(schema.execution, _EXECUTION.key == _TASK.execution)
)

_END_ATTEMPT: Final = Prepared(
    update(schema.attempt)
    .where(_FIND, _ATTEMPT.ended_at.is_(None))
    .values(
        started_at=func.coalesce(_ATTEMPT.started_at, bindparam("new_started_at", type_=schema.Instant())),
        ended_at=bindparam("new_ended_at"),
        outcome=bindparam("new_outcome"),
        message=bindparam("new_message"),
        exit_code=bindparam("new_exit_code"),
        signal=bindparam("new_signal"),
        peak_memory_bytes=bindparam("new_peak"),
        cpu_s=bindparam("new_cpu"),
        charged=bindparam("new_charged"),
        protections=func.coalesce(bindparam("new_protections", type_=BigInteger()), _ATTEMPT.protections),
        change=func.coalesce(bindparam("new_change", type_=BigInteger()), _ATTEMPT.change),
    )
)

_SUPERSEDE: Final = Prepared(
    update(schema.attempt)
    # the same report again, as a new incarnation sends it, is no other word about the attempt
    .where(_FIND, _ATTEMPT.outcome != bindparam("other"))
    .values(superseded=1)
)

_START_ATTEMPT: Final = Prepared(
    update(schema.attempt)
    .where(_FIND, _ATTEMPT.ended_at.is_(None), _ATTEMPT.started_at.is_(None))
    .values(started_at=bindparam("at"), protections=bindparam("had"))
)

_START_TASK: Final = Prepared(
    update(schema.task)
    .where(
        _TASK.execution == bindparam("the_owner"),
        _TASK.idx == bindparam("the_index"),
        _TASK.state == TaskState.RUNNING.value,
        _TASK.attempt == bindparam("the_number"),
    )
    .values(
        started_at=func.coalesce(_TASK.started_at, bindparam("at", type_=schema.Instant())), updated_at=bindparam("now")
    )
)

_KEEP_RESULT: Final = Prepared(insert(schema.result), ("execution", "idx", "attempt", "data"))

_READ_UP_TO: Final = Prepared(
    update(schema.node)
    .where(schema.node.c.id == bindparam("node"))
    .values(incarnation=bindparam("new_incarnation"), events_after=bindparam("number"))
)


def units(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Cut a batch into what one unit of work may write: 1,000 events, about 4 MiB of results."""
    first, size = 0, 0
    for index, event in enumerate(events):
        weight = len(event.outcome.result or "") if event.outcome is not None else 0
        if index > first and (index - first == UNIT_EVENTS or size + weight > UNIT_BYTES):
            yield events[first:index]
            first, size = index, 0
        size += weight
    if first < len(events):
        yield events[first:]


def settle(connection: Connection, report: Report, *, now: datetime, jitter: Callable[[], float]) -> Settled:
    """Write down what a node reported: ends, retries, counters, results, ended executions, and its position.

    Every event is safe to see twice, late or out of place: only an attempt that is live ends, only the current attempt
    moves its task. ``jitter`` gives numbers from 0 to 1 for the waits of retries. About ten statements for the batch,
    most of them executemany by primary key; about fifteen more for each build that ended.
    """
    ends = _ends(connection, report.events, now, jitter)
    _start(connection, [event for event in report.events if event.kind is EventKind.STARTED], ends, now)
    done = _end_attempts(connection, list(ends.values()))
    changes = _move(connection, [end for end in done if end.move is not None], now)
    count(connection, changes, now=now)
    ended = finish(connection, list(changes), now=now) if changes else []
    for end in done:
        if end.attempt.kind is OwnerKind.BUILD:
            _settle_build(connection, end, report.built.get(end.attempt), now)
    if report.position is not None:
        read = {"node": report.node, "new_incarnation": report.position.incarnation, "number": report.position.number}
        _READ_UP_TO.run(connection, read)
    return Settled(attempts=len(done), executions=tuple(ended))


def _ends(
    connection: Connection, events: Sequence[Event], now: datetime, jitter: Callable[[], float]
) -> dict[AttemptId, _End]:
    """What the ends among ``events`` mean, from what the store says of their tasks. One statement, by primary keys."""
    outcomes: dict[AttemptId, Outcome] = {}
    for event in events:
        if event.outcome is not None:
            outcomes.setdefault(event.attempt, event.outcome)
    tasks = _tasks(connection, [attempt for attempt in outcomes if attempt.kind is OwnerKind.TASK])
    ends: dict[AttemptId, _End] = {}
    for attempt, outcome in outcomes.items():
        row = tasks.get((attempt.owner, attempt.index)) if attempt.kind is OwnerKind.TASK else None
        move = None if row is None else _move_of(attempt, outcome, row, _Draw(now=now, jitter=jitter))
        ends[attempt] = _End(
            attempt=attempt,
            outcome=outcome,
            started_at=_instant(outcome.started_at),
            ended_at=_instant(outcome.ended_at) or now,
            move=move,
            charged=move is not None and outcome.kind in CHARGED,
        )
    return ends


def _tasks(connection: Connection, attempts: Sequence[AttemptId]) -> dict[tuple[int, int], AnyRow]:
    if not attempts:
        return {}
    wanted = pairs((attempt.owner, attempt.index) for attempt in attempts)
    rows = _FACTS.run(connection, {"pairs": wanted})
    return {(row.execution, row.idx): row for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    now: datetime
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What becomes of a task: the event, and what its row says then."""

    event: TaskEvent
    charged: int
    lost_in_row: int = 0
    not_before: datetime | None = None
    reason: Reason | None = None
    message: str = ""


def _move_of(attempt: AttemptId, outcome: Outcome, row: AnyRow, draw: _Draw) -> TaskMove:
    verdict = _verdict(outcome, row, draw)
    final = verdict.event in {TaskEvent.SUCCEED, TaskEvent.FAIL}
    return TaskMove(
        event=verdict.event,
        execution=attempt.owner,
        index=attempt.index,
        seen=TaskState.RUNNING,
        fence=attempt.number,
        attempt=attempt.number,
        charged=verdict.charged,
        lost_in_row=verdict.lost_in_row,
        not_before=verdict.not_before,
        reason=verdict.reason,
        message=verdict.message,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        has_result=final and outcome.result is not None,
        started_at=_instant(outcome.started_at),
        ended_at=_instant(outcome.ended_at),
    )


def _verdict(outcome: Outcome, row: AnyRow, draw: _Draw) -> _Verdict:
    cancelling = row.state == ExecutionState.CANCELLING
    if outcome.kind is OutcomeKind.SUCCEEDED:
        rejected = outcome.result_error is not None
        return _Verdict(
            event=TaskEvent.SUCCEED,
            charged=row.charged,
            reason=Reason.RESULT_REJECTED if rejected else None,
            message=outcome.result_error or "",
        )
    if outcome.kind in CHARGED:
        return _failed(outcome, row, draw, cancelling=cancelling)
    if cancelling:
        return _Verdict(
            event=TaskEvent.CANCEL,
            charged=row.charged,
            reason=Reason.TIMEOUT if row.timed_out else Reason.CANCELLED,
            message="ended with its execution, whose time was over" if row.timed_out else _cancelled(outcome),
        )
    if outcome.kind is OutcomeKind.WITHDRAWN:
        return _Verdict(event=TaskEvent.WITHDRAW, charged=row.charged, lost_in_row=row.lost_in_row, not_before=draw.now)
    # an attempt that was killed though nobody wished it is the platform's fault as well
    return _lost(outcome, row, draw.now)


def _cancelled(outcome: Outcome) -> str:
    return outcome.message or "the execution was cancelled"


def _failed(outcome: Outcome, row: AnyRow, draw: _Draw, *, cancelling: bool) -> _Verdict:
    charged, reason, message = row.charged + 1, CHARGED[outcome.kind], outcome.message
    if cancelling or charged > row.max_retries:
        return _Verdict(event=TaskEvent.FAIL, charged=charged, reason=reason, message=message)
    policy = specs.decode_retry(row.retry_policy) or DEFAULT_POLICY
    never = policy.never(reason, outcome.exit_code)
    if never is not None:
        said = f"not tried again, for retryPolicy.neverOn has {never}: {message}"
        return _Verdict(event=TaskEvent.FAIL, charged=charged, reason=reason, message=said)
    return _Verdict(
        event=TaskEvent.RETRY,
        charged=charged,
        not_before=draw.now + backoff(charged, policy) * draw.jitter(),
        reason=Reason.RETRYING,
        message=message,
    )


def _lost(outcome: Outcome, row: AnyRow, now: datetime) -> _Verdict:
    if outcome.planned:
        return _Verdict(
            event=TaskEvent.LOSE,
            charged=row.charged,
            lost_in_row=row.lost_in_row,
            not_before=now,
            reason=Reason.NODE_LOST,
            message=outcome.message,
        )
    lost = row.lost_in_row + 1
    over = lost >= LOST_LIMIT
    return _Verdict(
        event=TaskEvent.FAIL if over else TaskEvent.LOSE,
        charged=row.charged,
        lost_in_row=lost,
        not_before=None if over else now + backoff(lost),
        reason=Reason.NODE_LOST,
        message=f"lost {lost} times in a row: {outcome.message}" if over else outcome.message,
    )


def _start(connection: Connection, events: Sequence[Event], ends: Mapping[AttemptId, _End], now: datetime) -> None:
    """Note when attempts started, but those that this batch ends as well: their outcome says it."""
    starts = {event.attempt: event for event in events if event.attempt not in ends}
    rows = [
        {**_key(attempt), "at": _instant(event.at), "had": event.protections, "now": now}
        for attempt, event in starts.items()
    ]
    if rows:
        _START_ATTEMPT.run_many(connection, rows)
    tasks = [row for row in rows if row["the_kind"] == OwnerKind.TASK]
    if tasks:
        _START_TASK.run_many(connection, tasks)


def _end_attempts(connection: Connection, ends: Sequence[_End]) -> list[_End]:
    """End live attempts; the ends that counted. A report of any other attempt is noted if it says something else."""
    # each takes a number, those of builds and late ones too: it stays without an event
    numbers = events.numbers(connection, len(ends)) if ends else range(0)
    rows = [
        {
            **_key(end.attempt),
            "new_change": number if end.attempt.kind is OwnerKind.TASK else None,
            "new_started_at": end.started_at,
            "new_ended_at": end.ended_at,
            "new_outcome": end.outcome.kind.value,
            "new_message": end.outcome.message[:MESSAGE_MAX],
            "new_exit_code": end.outcome.exit_code,
            "new_signal": end.outcome.signal,
            "new_peak": end.outcome.peak_memory_bytes,
            "new_cpu": end.outcome.cpu_s,
            "new_charged": int(end.charged),
            "new_protections": end.outcome.protections,
        }
        for end, number in zip(ends, numbers, strict=True)
    ]
    hits = _END_ATTEMPT.run_each(connection, rows) if rows else []
    late = [
        {**_key(end.attempt), "other": end.outcome.kind.value} for end, hit in zip(ends, hits, strict=True) if not hit
    ]
    if late:
        _SUPERSEDE.run_many(connection, late)
    return [end for end, hit in zip(ends, hits, strict=True) if hit]


def _move(connection: Connection, ends: Sequence[_End], now: datetime) -> dict[int, Change]:
    """Move the tasks of attempts that ended, keep their results; what changes in their executions' counters."""
    moves = [end.move for end in ends if end.move is not None]
    moved = move_tasks(connection, moves, now=now)
    changes: dict[int, Change] = {}
    results: list[dict[str, object]] = []
    for end, move, done in zip(ends, moves, moved, strict=True):
        if done:
            _tally(changes.setdefault(move.execution, Change()), move.event)
            if move.has_result and end.outcome.result is not None:
                results.append(
                    {
                        "execution": move.execution,
                        "idx": move.index,
                        "attempt": move.attempt,
                        "data": end.outcome.result.encode(),
                    }
                )
    if results:
        _KEEP_RESULT.run_many(connection, results)
    return changes


def _tally(change: Change, event: TaskEvent) -> None:
    change.running -= 1
    match TASK_MOVES[event][1]:
        case TaskState.PENDING:
            change.waiting += 1
        case TaskState.SUCCEEDED:
            change.succeeded += 1
        case TaskState.FAILED:
            change.failed += 1
        case _:
            change.cancelled += 1


def _settle_build(connection: Connection, end: _End, built: BuiltImage | None, now: datetime) -> None:
    """A build that was dropped, or has another attempt by now, is left as it is."""
    key = BuildKey(end.attempt.owner)
    row = connection.execute(select(_BUILD.lost_in_row).where(_BUILD.key == key).with_for_update()).one_or_none()
    if row is None:
        return
    move = _build_move(end, built, row.lost_in_row, now)
    if not move_build(connection, move, now=now):
        return
    if move.event is BuildEvent.SUCCEED and built is not None:
        deploys.finish_build(
            connection,
            key,
            image=StoredImage(digest=built.digest, size_bytes=built.size_bytes, reference=built.reference),
            manifest=built.manifest,
            now=now,
        )
    elif move.event is BuildEvent.FAIL:
        deploys.fail_build(connection, key, message=move.message, now=now)


def _build_move(end: _End, built: BuiltImage | None, lost_before: int, now: datetime) -> BuildMove:
    outcome, number = end.outcome, end.attempt.number
    event, message, lost, not_before = BuildEvent.FAIL, outcome.message, 0, None
    if outcome.kind is OutcomeKind.SUCCEEDED:
        event = BuildEvent.FAIL if built is None else BuildEvent.SUCCEED
        message = "the build left no image" if built is None else ""
    elif outcome.kind is OutcomeKind.WITHDRAWN or outcome.planned:
        event, lost, not_before = BuildEvent.WITHDRAW, lost_before, now
    elif outcome.kind not in CHARGED:
        lost = lost_before + 1
        if lost >= LOST_LIMIT:
            message = f"lost {lost} times in a row: {outcome.message}"
        else:
            event, not_before = BuildEvent.LOSE, now + backoff(lost)
    return BuildMove(
        event=event,
        key=end.attempt.owner,
        seen=BuildState.RUNNING,
        fence=number,
        attempt=number,
        lost_in_row=lost,
        not_before=not_before,
        message=message,
    )


def _key(attempt: AttemptId) -> dict[str, object]:
    return {
        "the_kind": attempt.kind.value,
        "the_owner": attempt.owner,
        "the_index": attempt.index,
        "the_number": attempt.number,
    }


def _instant(seconds: float | None) -> datetime | None:
    # whole microseconds: what the store keeps
    return None if seconds is None else _EPOCH + timedelta(microseconds=round(seconds * 1e6))
