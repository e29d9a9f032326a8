"""What explanations are made of: who holds what, who waits, and how tasks failed. Each answer is bounded."""

from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, Select, bindparam, func, literal, select, text, union_all

from tidemill.model.execution import Execution, Failure, Reason
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.obstacle import Favoured, Occupant
from tidemill.model.outlook import Outlook
from tidemill.model.states import EXECUTION_LIVE, ExecutionState, TaskState
from tidemill.model.why import Facts, TaskFacts, Waiting
from tidemill.store import attempts, executions, ranges, schema, tasks
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.ledger_claim import live_executions
from tidemill.store.schema import AnyRow

PLACES_SHOWN: Final = 10
WAITING_LOOKED_AT: Final = 1_000
QUEUED_COUNTED: Final = 10_000
FAILURES_COUNTED: Final = 20_000

_EXECUTION: Final = schema.execution.c
_ATTEMPT: Final = schema.attempt.c
_TASK: Final = schema.task.c
_BUILD: Final = schema.build.c
_JOB: Final = schema.job.c
_WORKSPACE: Final = schema.workspace.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Of which execution (an id or a prefix, of the named job or of any) and of which of its tasks, if of one."""

    workspace: str
    execution: str
    job: str | None
    task: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that an explanation needs, of one moment. ``task`` is set when one was asked for."""

    execution: Execution
    facts: Facts
    task: TaskFacts | None


_OCCUPANTS: Final = (
    select(
        _ATTEMPT.kind,
        _ATTEMPT.owner,
        _ATTEMPT.idx,
        _ATTEMPT.number,
        _ATTEMPT.node,
        _ATTEMPT.workspace,
        _ATTEMPT.memory_mb,
        _ATTEMPT.alone,
        _ATTEMPT.started_at,
        _EXECUTION.id.label("execution_id"),
        _EXECUTION.timeout_s.label("execution_timeout_s"),
        _JOB.name.label("job_name"),
        _BUILD.timeout_s.label("build_timeout_s"),
    )
    .select_from(schema.attempt)
    .outerjoin(schema.execution, (_ATTEMPT.kind == OwnerKind.TASK.value) & (_EXECUTION.key == _ATTEMPT.owner))
    .outerjoin(schema.build, (_ATTEMPT.kind == OwnerKind.BUILD.value) & (_BUILD.key == _ATTEMPT.owner))
    .outerjoin(schema.job, _JOB.key == _BUILD.job)
    .where(_ATTEMPT.ended_at.is_(None))
)


def gather(connection: Connection, asked: Question, outlook: Outlook) -> Gathered:
    """Everything there is to say why something waits, or how it ended, in one look.

    Fifteen statements at most. Each reads what runs and what is free, never what waits; only the failures of an
    execution that has ended are counted, over an index of nothing else. Raises NotFound, Invalid for several.
    """
    execution = executions.find(connection, asked.workspace, asked.execution, asked.job)
    task = None if asked.task is None else _task_facts(connection, execution, asked.task)
    facts = _framed(connection, execution, outlook)
    match execution.state:
        case ExecutionState.QUEUED:
            facts = replace(
                facts,
                place_ids=_place_ids(connection, execution.workspace),
                queued_before=_queued_before(connection, execution),
            )
        case ExecutionState.PENDING | ExecutionState.RUNNING:
            live = occupants(connection)
            room = execution.parallelism - sum(one.attempt.owner == execution.key for one in live)
            facts = replace(
                facts,
                live=live,
                waiting=_waiting(connection, execution, room),
                rivals=_rivals(connection, execution),
                favoured=_favoured(connection, outlook),
            )
        case ExecutionState.CANCELLING:
            facts = replace(facts, live=occupants(connection))
        case _ if task is None and execution.stats.failed:
            facts = replace(facts, failures=_failures(connection, execution))
    return Gathered(execution=execution, facts=facts, task=task)


_FRAME: Final = (
    select(
        _EXECUTION.image_digest,
        _EXECUTION.force,
        _WORKSPACE.max_parallel_executions,
        _WORKSPACE.max_concurrent_tasks,
        live_executions(_WORKSPACE.name).label("places"),
    )
    .select_from(schema.execution)
    .join(schema.workspace, _WORKSPACE.name == _EXECUTION.workspace)
    .where(_EXECUTION.key == bindparam("the_key"))
)


def _framed(connection: Connection, execution: Execution, outlook: Outlook) -> Facts:
    """One statement, by primary keys and execution_live."""
    row = connection.execute(_FRAME, {"the_key": execution.key}).one()
    return Facts(
        outlook=outlook,
        image_digest=row.image_digest,
        force=bool(row.force),
        executions_cap=row.max_parallel_executions,
        task_cap=row.max_concurrent_tasks,
        places=row.places,
    )


def occupants(connection: Connection) -> tuple[Occupant, ...]:
    """Every live attempt, whosever: as many as the nodes have slots, at most. One statement, by attempt_live."""
    return tuple(_occupant(row) for row in connection.execute(_OCCUPANTS))


def _favoured(connection: Connection, outlook: Outlook) -> tuple[Favoured, ...]:
    """Whoever nodes are cleared for, but those that exist no more. Two statements at most, by primary keys."""
    waiters = [node.cleared_for for node in outlook.nodes if node.cleared_for is not None]
    tasks_of = {waiter.owner for waiter in waiters if waiter.kind is OwnerKind.TASK}
    builds_of = {waiter.owner for waiter in waiters if waiter.kind is OwnerKind.BUILD}
    found: dict[tuple[OwnerKind, int], AnyRow] = {}
    if tasks_of:
        query = select(_EXECUTION.key, _EXECUTION.id.label("of"), _EXECUTION.workspace)
        rows = connection.execute(query.where(_EXECUTION.key.in_(tasks_of)))
        found |= {(OwnerKind.TASK, row.key): row for row in rows}
    if builds_of:
        builds = select(_BUILD.key, _JOB.name.label("of"), _BUILD.workspace).join(schema.job, _JOB.key == _BUILD.job)
        found |= {
            (OwnerKind.BUILD, row.key): row for row in connection.execute(builds.where(_BUILD.key.in_(builds_of)))
        }
    return tuple(
        Favoured(waiter=waiter, of=row.of, workspace=row.workspace)
        for waiter in waiters
        if (row := found.get((waiter.kind, waiter.owner))) is not None
    )


def _place_ids(connection: Connection, workspace: str) -> tuple[str, ...]:
    """The first ten executions that take a place in the workspace, those served last first. One, by execution_live."""
    taking = [state.value for state in sorted(EXECUTION_LIVE - {ExecutionState.QUEUED})]
    found = connection.scalars(
        select(_EXECUTION.id)
        .where(_EXECUTION.workspace == workspace, _EXECUTION.state.in_(taking), _EXECUTION.completed_at.is_(None))
        .limit(PLACES_SHOWN)
    )
    return tuple(found)


def _queued_before(connection: Connection, execution: Execution) -> int:
    """How many queued executions of the same job are older, 10,000 at most. One statement, by execution_queued."""
    older = (
        select(_EXECUTION.key)
        .where(
            _EXECUTION.workspace == execution.workspace,
            _EXECUTION.state == "queued",
            _EXECUTION.job == execution.job_key,
            _EXECUTION.created_at < execution.created_at,
        )
        .limit(QUEUED_COUNTED)
        .subquery()
    )
    return connection.scalar(select(func.count()).select_from(older)) or 0


_RIVALS: Final = select(func.count()).where(
    _EXECUTION.workspace.in_(select(_WORKSPACE.name)),
    _EXECUTION.state.in_([ExecutionState.PENDING.value, ExecutionState.RUNNING.value]),
    _EXECUTION.completed_at.is_(None),
    _EXECUTION.key != bindparam("the_key"),
    (_EXECUTION.next_index < _EXECUTION.total) | (_EXECUTION.waiting > 0),
)


def _rivals(connection: Connection, execution: Execution) -> int:
    """How many other executions, of any workspace, have tasks that could be claimed. One statement, by execution_live.

    The quotas of workspaces bound how many there are.
    """
    return connection.scalar(_RIVALS, {"the_key": execution.key}) or 0


_WAITING_COLUMNS: Final = (
    _TASK.idx,
    _TASK.not_before,
    _TASK.reason,
    _TASK.message,
    _TASK.exit_code,
    _TASK.signal,
    _TASK.lost_in_row,
    _TASK.attempt,
)


def _waiting(connection: Connection, execution: Execution, limit: int) -> tuple[Waiting, ...]:
    """The tasks of an execution that wait for another try, soonest first: those that the scheduler would look at.

    One statement, by task_waiting.
    """
    rows = connection.execute(
        select(*_WAITING_COLUMNS)
        .where(_TASK.execution == execution.key, _TASK.state == "pending")
        .order_by(_TASK.not_before)
        .limit(max(1, min(limit, WAITING_LOOKED_AT)))
    )
    return tuple(_as_waiting(row) for row in rows)


def _task_facts(connection: Connection, execution: Execution, index: int) -> TaskFacts:
    """One task and what it waits for. Raises NotFound.

    Five statements at most, by primary keys and task_range_index.
    """
    task = tasks.find(connection, execution, index)
    newest = attempts.find_newest(connection, execution.key, index, 1) if task.attempts else []
    had = newest[0].protections if newest else None
    if task.state is not TaskState.PENDING:
        return TaskFacts(task=task, waiting=None, before=0, had=had)
    row = connection.execute(
        select(*_WAITING_COLUMNS).where(
            _TASK.execution == execution.key, _TASK.idx == index, _TASK.state == TaskState.PENDING.value
        )
    ).one_or_none()
    before = 0 if row is not None else ranges.position(connection, execution, index) - execution.next_index
    return TaskFacts(task=task, waiting=None if row is None else _as_waiting(row), before=max(0, before), had=had)


def _failures_of(reason: Reason) -> Select[str, int, int]:
    """How many tasks failed for this reason, up to the bound, and the first of them; by task_failed alone."""
    # written out, not bound: a partial index is only taken for what it says itself
    mine = (_TASK.execution == bindparam("key"), _TASK.state == text("'failed'"), _TASK.reason == reason.value)
    some = select(_TASK.idx).where(*mine).limit(FAILURES_COUNTED).subquery()
    first = select(func.min(_TASK.idx)).where(*mine)
    number = select(func.count()).select_from(some)
    return select(
        literal(reason.value), number.scalar_subquery().label("number"), first.scalar_subquery().label("first")
    )


_FAILURES: Final = union_all(*(_failures_of(reason) for reason in Reason))


def _failures(connection: Connection, execution: Execution) -> tuple[Failure, ...]:
    """The reasons for which its tasks failed, most frequent first, each with the first of its tasks.

    Two statements, by task_failed alone and by primary keys; the first reads 20,000 entries for a reason at most.
    """
    found = {
        reason: (number, first)
        for reason, number, first in connection.execute(_FAILURES, {"key": execution.key})
        if number
    }
    if not found:
        return ()
    rows = connection.execute(
        select(_TASK.idx, _TASK.message, _TASK.exit_code, _TASK.signal)
        .select_from(PAIRS)
        .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx == SECOND)),
        {"pairs": pairs((execution.key, first) for _, first in found.values())},
    )
    firsts = {row.idx: row for row in rows}
    cut = [reason for reason, (number, _) in found.items() if number == FAILURES_COUNTED]
    rest = execution.stats.failed - sum(number for number, _ in found.values())
    failures = [
        Failure(
            reason=reason,
            # what one count leaves out is what all others together do not hold
            count=number + (rest if cut == [reason] else 0),
            more=len(cut) > 1 and reason in cut,
            first_index=first,
            message=firsts[first].message,
            exit_code=firsts[first].exit_code,
            signal=firsts[first].signal,
        )
        for reason, (number, first) in found.items()
    ]
    return tuple(sorted(failures, key=lambda one: (-one.count, one.first_index)))


def _as_waiting(row: AnyRow) -> Waiting:
    return Waiting(
        index=row.idx,
        not_before=row.not_before,
        reason=None if row.reason is None else Reason(row.reason),
        message=row.message,
        exit_code=row.exit_code,
        signal=row.signal,
        lost_in_row=row.lost_in_row,
        attempts=row.attempt,
    )


def _occupant(row: AnyRow) -> Occupant:
    kind = OwnerKind(row.kind)
    task = kind is OwnerKind.TASK
    return Occupant(
        attempt=AttemptId(kind, row.owner, row.idx, row.number),
        of=row.execution_id if task else row.job_name or "",
        node=NodeId(row.node),
        workspace=row.workspace,
        memory_mb=row.memory_mb,
        alone=bool(row.alone),
        started_at=row.started_at,
        timeout_s=(row.execution_timeout_s if task else row.build_timeout_s) or 0,
    )
