"""The ledger: giving work away. Every claim is checked again inside its unit, so a stale plan does no harm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from tidemill.model.errors import StaleTerm
from tidemill.model.execution import Reason
from tidemill.model.ids import AttemptId, BuildKey, ExecutionKey, JobKey, NodeId, OwnerKind
from tidemill.model.states import (
    EXECUTION_CLAIMABLE,
    EXECUTION_LIVE,
    BuildEvent,
    BuildState,
    ExecutionEvent,
    ExecutionState,
    TaskEvent,
    TaskState,
)
from tidemill.model.trigger import is_ahead
from tidemill.store import deploys, events, ranges, schema
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.ledger import (
    BuildMove,
    Change,
    ExecutionMove,
    TaskMove,
    count,
    move_build,
    move_executions,
    move_tasks,
)
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

_TASK: Final = schema.task.c
_EXECUTION: Final = schema.execution.c
_ATTEMPT: Final = schema.attempt.c
_BUILD: Final = schema.build.c
_TAKES_PLACE: Final = EXECUTION_LIVE - {ExecutionState.QUEUED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClaim:
    """The next ``count`` tasks without a row, in index order, for ``node``."""

    execution: ExecutionKey
    node: NodeId
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryClaim:
    """A task that waits to run again, for ``node``; ``alone``: nothing else may run there meanwhile."""

    execution: ExecutionKey
    index: int
    node: NodeId
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClaim:
    build: BuildKey
    node: NodeId


Claim = TaskClaim | RetryClaim | BuildClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An attempt that is on record from now on, live, to be launched on ``node``."""

    attempt: AttemptId
    node: NodeId
    workspace: str
    job: JobKey


@dataclass(slots=True, kw_only=True)
class _Share:
    """What one execution really gets: nodes for its next row-less tasks, and rows that wait for a retry."""

    row: AnyRow
    fresh: list[NodeId] = field(default_factory=list)
    retries: list[tuple[RetryClaim, AnyRow]] = field(default_factory=list)


_TERM: Final = Prepared(select(func.max(schema.term.c.number).label("number")))

_EXECUTIONS: Final = Prepared(
    select(
        _EXECUTION.key,
        _EXECUTION.workspace,
        _EXECUTION.job,
        _EXECUTION.state,
        _EXECUTION.total,
        _EXECUTION.next_index,
        _EXECUTION.origin,
        _EXECUTION.parallelism,
        _EXECUTION.memory_mb,
        _EXECUTION.due_at,
    )
    .select_from(PAIRS)
    .join(schema.execution, _EXECUTION.key == FIRST)
    .where(_EXECUTION.state.in_([state.value for state in sorted(EXECUTION_CLAIMABLE)]))
)

_LIVE: Final = Prepared(
    select(_ATTEMPT.owner, func.count().label("live"))
    .select_from(PAIRS)
    .join(schema.attempt, _ATTEMPT.owner == FIRST)
    .where(_ATTEMPT.ended_at.is_(None))
    .group_by(_ATTEMPT.owner)
)

_WAITING: Final = Prepared(
    select(_TASK.execution, _TASK.idx, _TASK.attempt, _TASK.charged, _TASK.lost_in_row, _TASK.reason)
    .select_from(PAIRS)
    .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx == SECOND))
    .where(_TASK.state == TaskState.PENDING.value, _TASK.not_before <= bindparam("now"))
)

_TAKE: Final = Prepared(
    update(schema.execution)
    .where(
        _EXECUTION.key == bindparam("the_key"),
        _EXECUTION.state == ExecutionState.RUNNING.value,
        _EXECUTION.next_index == bindparam("seen"),
    )
    .values(next_index=bindparam("next"), served_at=bindparam("now"))
)

_NEW_TASK: Final = Prepared(insert(schema.task), ("execution", "idx", "state", "attempt", "created_at", "updated_at"))

_NEW_ATTEMPT: Final = Prepared(
    insert(schema.attempt),
    (
        *("kind", "owner", "idx", "number", "workspace", "node", "term", "memory_mb", "alone", "claimed_at"),
        "change",
    ),
)


def claim(connection: Connection, claims: Sequence[Claim], *, term: int, now: datetime) -> list[Claimed]:
    """Put attempts on record, as many of ``claims`` as the store still allows.

    Raises StaleTerm when a newer one was taken: who may not give must know it, or would plan the same again for ever.
    At most ten statements for all tasks together, most of them executemany by primary key, and five per build.
    """
    held = _TERM.run(connection, {}).scalar_one()
    if held != term:
        raise StaleTerm(f"the term is {held} by now; {term} is over")
    shares = _started(connection, _shares(connection, claims, now), now)
    claimed = _fresh(connection, shares, now) + _retries(connection, shares, now)
    _record(connection, claimed, term, now)
    builds = [_build(connection, build, term, now) for build in claims if isinstance(build, BuildClaim)]
    return [made for made, _, _ in claimed] + [made for made in builds if made is not None]


def promote(connection: Connection, keys: Sequence[ExecutionKey], *, now: datetime) -> list[ExecutionKey]:
    """Let queued executions run, as far as their workspaces have room for them; which ones. Two statements each."""
    promoted: list[ExecutionKey] = []
    for key in keys:
        workspace = connection.scalar(select(_EXECUTION.workspace).where(_EXECUTION.key == key))
        room = connection.scalar(
            select(schema.workspace.c.max_parallel_executions - live_executions(schema.workspace.c.name)).where(
                schema.workspace.c.name == workspace
            )
        )
        move = ExecutionMove(event=ExecutionEvent.PROMOTE, key=key, seen=ExecutionState.QUEUED)
        if room is not None and room > 0 and move_executions(connection, [move], now=now)[0]:
            promoted.append(key)
    return promoted


def live_executions(workspace: Any) -> Any:
    """A subquery: how many executions of ``workspace`` (an expression) are live and not queued. By execution_live."""
    return (
        select(func.count())
        .where(
            _EXECUTION.workspace == workspace,
            _EXECUTION.state.in_([state.value for state in sorted(_TAKES_PLACE)]),
            _EXECUTION.completed_at.is_(None),
        )
        .correlate_except(schema.execution)
        .scalar_subquery()
    )


def _shares(connection: Connection, claims: Iterable[Claim], now: datetime) -> list[_Share]:
    """What each execution may still take: it is claimable and due, and live attempts stay within its parallelism."""
    wanted: dict[int, list[TaskClaim | RetryClaim]] = {}
    for claim_ in claims:
        if not isinstance(claim_, BuildClaim):
            wanted.setdefault(claim_.execution, []).append(claim_)
    if not wanted:
        return []
    rows = _executions(connection, list(wanted))
    live = _live(connection, list(wanted))
    retries = [(c.execution, c.index) for all_ in wanted.values() for c in all_ if isinstance(c, RetryClaim)]
    waiting = _waiting(connection, retries, now)
    shares = []
    for row in rows:
        if is_ahead(row.due_at, now):
            continue
        share = _Share(row=row)
        room = row.parallelism - live.get(row.key, 0)
        for claim_ in wanted[row.key]:
            if isinstance(claim_, TaskClaim):
                left = row.total - row.next_index - len(share.fresh)
                share.fresh += [claim_.node] * max(0, min(claim_.count, room, left))
                room -= max(0, min(claim_.count, room, left))
            elif room > 0 and (task := waiting.pop((row.key, claim_.index), None)) is not None:
                share.retries.append((claim_, task))
                room -= 1
        shares.append(share)
    return [share for share in shares if share.fresh or share.retries]


def _executions(connection: Connection, keys: Sequence[int]) -> Sequence[AnyRow]:
    return _EXECUTIONS.run(connection, {"pairs": pairs((key,) for key in sorted(keys))}).all()


def _live(connection: Connection, keys: Sequence[int]) -> dict[int, int]:
    """Live attempts per execution, by attempt_live; naming the kind too would lead through the primary key instead."""
    rows = _LIVE.run(connection, {"pairs": pairs((key,) for key in keys)})
    return {row.owner: row.live for row in rows}


def _waiting(connection: Connection, wanted: Sequence[tuple[int, int]], now: datetime) -> dict[tuple[int, int], AnyRow]:
    if not wanted:
        return {}
    rows = _WAITING.run(connection, {"pairs": pairs(wanted), "now": now})
    return {(row.execution, row.idx): row for row in rows}


def _started(connection: Connection, shares: Sequence[_Share], now: datetime) -> list[_Share]:
    """Move executions that get their first task from pending to running; the shares of those that are running then."""
    new = [share for share in shares if share.row.state == ExecutionState.PENDING]
    moves = [ExecutionMove(event=ExecutionEvent.START, key=share.row.key, seen=ExecutionState.PENDING) for share in new]
    refused = {
        share.row.key for share, done in zip(new, move_executions(connection, moves, now=now), strict=True) if not done
    }
    return [share for share in shares if share.row.key not in refused]


_Record = tuple[Claimed, int, bool]
"""What was claimed, its memory in MB, and whether it runs alone."""


def _fresh(connection: Connection, shares: Sequence[_Share], now: datetime) -> list[_Record]:
    """Make the rows of tasks that had none."""
    if not shares:
        return []
    takes = [
        {
            "the_key": share.row.key,
            "seen": share.row.next_index,
            "next": share.row.next_index + len(share.fresh),
            "now": now,
        }
        for share in shares
    ]
    indices = _next_indices(connection, shares)
    records: list[_Record] = []
    changes: dict[int, Change] = {}
    for share, done in zip(shares, _TAKE.run_each(connection, takes), strict=True):
        if done and share.fresh:
            for index, node in zip(indices[share.row.key], share.fresh, strict=True):
                records.append((_claimed(share.row, index, 1, node), share.row.memory_mb, False))
            changes[share.row.key] = Change(running=len(share.fresh))
    if records:
        _NEW_TASK.run_many(
            connection,
            [
                {
                    "execution": made.attempt.owner,
                    "idx": made.attempt.index,
                    "state": TaskState.RUNNING.value,
                    "attempt": 1,
                    "created_at": now,
                    "updated_at": now,
                }
                for made, _, _ in records
            ],
        )
        count(connection, changes, now=now)
    return records


def _next_indices(connection: Connection, shares: Sequence[_Share]) -> dict[int, Sequence[int]]:
    """The indices that each share takes. One statement for all reruns among them."""
    spans = {share.row.key: (share.row.next_index, share.row.next_index + len(share.fresh)) for share in shares}
    reruns = {share.row.key: spans[share.row.key] for share in shares if share.row.origin is not None and share.fresh}
    mapped = ranges.by_position(connection, reruns)
    return {key: mapped.get(key, range(*span)) for key, span in spans.items()}


def _retries(connection: Connection, shares: Sequence[_Share], now: datetime) -> list[_Record]:
    """Take the rows of tasks that waited."""
    chosen = [(share.row, claim_, task) for share in shares for claim_, task in share.retries]
    moves = [
        TaskMove(
            event=TaskEvent.CLAIM,
            execution=task.execution,
            index=task.idx,
            seen=TaskState.PENDING,
            fence=task.attempt,
            attempt=task.attempt + 1,
            charged=task.charged,
            lost_in_row=task.lost_in_row,
        )
        for _, _, task in chosen
    ]
    records: list[_Record] = []
    changes: dict[int, Change] = {}
    for (row, claim_, task), done in zip(chosen, move_tasks(connection, moves, now=now), strict=True):
        if done:
            change = changes.setdefault(row.key, Change())
            change.running += 1
            change.waiting -= 1
            # only a charged failure leaves this reason behind, and this claim takes it away
            change.retried += task.reason == Reason.RETRYING
            made = _claimed(row, task.idx, task.attempt + 1, claim_.node)
            records.append((made, row.memory_mb, claim_.alone))
    count(connection, changes, now=now)
    return records


def _claimed(row: AnyRow, index: int, number: int, node: NodeId) -> Claimed:
    attempt = AttemptId(OwnerKind.TASK, row.key, index, number)
    return Claimed(attempt=attempt, node=node, workspace=row.workspace, job=JobKey(row.job))


def _record(connection: Connection, records: Sequence[_Record], term: int, now: datetime) -> None:
    if records:
        of_tasks = sum(made.attempt.kind is OwnerKind.TASK for made, _, _ in records)
        numbers = iter(events.numbers(connection, of_tasks)) if of_tasks else iter(())
        _NEW_ATTEMPT.run_many(
            connection,
            [
                {
                    "kind": made.attempt.kind.value,
                    "owner": made.attempt.owner,
                    "idx": made.attempt.index,
                    "number": made.attempt.number,
                    "workspace": made.workspace,
                    "node": made.node,
                    "term": term,
                    "memory_mb": memory_mb,
                    "alone": int(alone),
                    "claimed_at": now,
                    "change": next(numbers) if made.attempt.kind is OwnerKind.TASK else None,
                }
                for made, memory_mb, alone in records
            ],
        )


def _build(connection: Connection, claim_: BuildClaim, term: int, now: datetime) -> Claimed | None:
    row = connection.execute(
        select(_BUILD.state, _BUILD.attempt, _BUILD.lost_in_row, _BUILD.workspace, _BUILD.job, _BUILD.memory_mb)
        .where(_BUILD.key == claim_.build, _BUILD.state == BuildState.PENDING.value)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    number = row.attempt + 1
    move = BuildMove(
        event=BuildEvent.CLAIM,
        key=claim_.build,
        seen=BuildState.PENDING,
        fence=row.attempt,
        attempt=number,
        lost_in_row=row.lost_in_row,
        started_at=now,
    )
    if not move_build(connection, move, now=now):
        return None
    attempt = AttemptId(OwnerKind.BUILD, claim_.build, 0, number)
    made = Claimed(attempt=attempt, node=claim_.node, workspace=row.workspace, job=JobKey(row.job))
    _record(connection, [(made, row.memory_mb, False)], term, now)
    if number == 1:
        deploys.build_started(connection, claim_.build, now)
    return made
