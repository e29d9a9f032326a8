"""Why an execution or a task waits, or how it ended: one sentence and its facts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from tidemill.model.execution import LOST_ALONE_AFTER, Execution, Failure, Reason, Task
from tidemill.model.ids import NodeId
from tidemill.model.obstacle import Favoured, Ground, Obstacle, Occupant, Want, Why, not_at_work, obstacle
from tidemill.model.outlook import Outlook
from tidemill.model.protections import Had
from tidemill.model.states import EXECUTION_FINAL, ExecutionState, TaskState
from tidemill.model.wording import (
    HOLDERS_SHOWN,
    because,
    brief,
    count,
    end,
    failure,
    favoured,
    held,
    holders,
    own_tasks,
    time,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A task that has run and waits to run again from ``not_before`` on; what its last attempt left."""

    index: int
    not_before: datetime
    reason: Reason | None
    message: str
    exit_code: int | None
    signal: int | None
    lost_in_row: int
    attempts: int

    @property
    def alone(self) -> bool:
        return self.lost_in_row >= LOST_ALONE_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an explanation is made of; only what the execution's state asks for is filled in.

    ``live`` are all live attempts, whosever. ``waiting`` are the execution's tasks that wait for another try, soonest
    first (a window). ``places`` is how many executions take a place in the workspace, ``place_ids`` the first of them.
    ``rivals`` is how many other executions could have tasks claimed. ``favoured`` is whom nodes are cleared for.
    """

    outlook: Outlook
    live: Sequence[Occupant] = ()
    task_cap: int | None = None
    executions_cap: int = 0
    places: int = 0
    place_ids: Sequence[str] = ()
    queued_before: int = 0
    waiting: Sequence[Waiting] = ()
    rivals: int = 0
    failures: Sequence[Failure] = ()
    force: bool = False
    image_digest: str = ""
    favoured: Sequence[Favoured] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One sentence, the stable word for it, and its facts; what does not apply is empty or None.

    ``holders`` are ids of executions, ``ID/INDEX`` for tasks of the execution itself, ``build/JOB`` for builds: only
    those of the same workspace, at most ten. ``until`` is when at the latest this reason is gone. ``had`` is what the
    newest attempt of a task that was asked for runs or ran with.
    """

    summary: str
    why: Why
    cap: str = ""
    limit: int | None = None
    used: int | None = None
    holders: tuple[str, ...] = ()
    until: datetime | None = None
    since: datetime | None = None
    node: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    condition: str = ""
    failures: tuple[Failure, ...] = ()
    had: Had | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One task: how it reads, its row when it waits for another try, and how many of its execution come before it.

    ``had`` is what its newest attempt runs or ran with, None where nobody has said.
    """

    task: Task
    waiting: Waiting | None
    before: int
    had: Had | None = None


def explain_execution(execution: Execution, facts: Facts, now: datetime) -> Explanation:
    """What the execution as a whole waits for, or how it ended."""
    match execution.state:
        case ExecutionState.QUEUED:
            return _queued("It", execution, facts, now)
        case ExecutionState.PENDING | ExecutionState.RUNNING:
            return _open(execution, facts, now)
        case ExecutionState.CANCELLING:
            return _cancelling(execution, facts, now)
        case ExecutionState.SUCCEEDED | ExecutionState.FAILED | ExecutionState.CANCELLED:
            return _ended(execution, facts)
        case _:
            assert_never(execution.state)


def explain_task(execution: Execution, one: TaskFacts, facts: Facts, now: datetime) -> Explanation:
    """What one task waits for, or how it ended."""
    return replace(_explain_task(execution, one, facts, now), had=one.had)


def _explain_task(execution: Execution, one: TaskFacts, facts: Facts, now: datetime) -> Explanation:
    task, name = one.task, f"Task {one.task.index}"
    match task.state:
        case TaskState.RUNNING:
            return _task_runs(execution, task, facts, now)
        case TaskState.PENDING if execution.state is ExecutionState.QUEUED:
            return _queued(name, execution, facts, now)
        case TaskState.PENDING:
            if one.waiting is not None and one.waiting.not_before > now:
                return _retries(f"{name} waits", [one.waiting])
            wants = [_want(execution, one.waiting)]
            return _blocked(_Waits(subject=f"{name} waits", wants=wants, before=one.before), execution, facts, now)
        case _:
            return _task_ended(execution, task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waits:
    """Who waits, in words, and for what: any of ``wants``. ``before`` tasks of the same execution come first."""

    subject: str
    wants: Sequence[Want]
    before: int = 0


def _want(execution: Execution, waiting: Waiting | None) -> Want:
    return Want(
        execution=execution.key,
        workspace=execution.workspace,
        memory_mb=execution.memory_mb,
        parallelism=execution.parallelism,
        region=execution.region,
        index=None if waiting is None else waiting.index,
        alone=waiting is not None and waiting.alone,
    )


def _queued(name: str, execution: Execution, facts: Facts, now: datetime) -> Explanation:
    """Behind the workspace's quota, or about to be let in."""
    before = count(facts.queued_before, "queued execution of this job comes", "queued executions of this job come")
    limit, used = facts.executions_cap, facts.places
    full = Obstacle(why=Why.WORKSPACE_EXECUTIONS, cap="maxParallelExecutions", limit=limit, used=used)
    if used >= limit:
        runs = (
            f"{name} is queued because workspace {execution.workspace!r} runs {count(used, 'execution', 'executions')}"
        )
        summary = f"{runs} and may run {limit} at once{held(facts.place_ids, others=False)}; {before} before it."
        return _of(full, summary, tuple(facts.place_ids[:HOLDERS_SHOWN]))
    stopped = not_at_work(facts.outlook, now)
    if stopped is not None:
        return _of(stopped, f"{name} is queued because {because(stopped, execution, facts.outlook.looked_at)}.")
    summary = f"{name} is queued and its turn comes: its workspace has room, and {before} before it."
    return Explanation(summary=summary, why=Why.ITS_TURN, cap="maxParallelExecutions", limit=limit, used=used)


def _open(execution: Execution, facts: Facts, now: datetime) -> Explanation:
    pending = execution.stats.pending
    unclaimed = execution.stats.total - execution.next_index
    due = [one for one in facts.waiting if one.not_before <= now]
    subject = count(pending, "task waits", "tasks wait")
    if unclaimed or due:
        wants = [_want(execution, one) for one in [*([None] if unclaimed else []), *due]]
        return _blocked(_Waits(subject=subject, wants=_kinds(wants, facts)), execution, facts, now)
    if facts.waiting:
        return _retries(subject, facts.waiting)
    return _runs(execution, facts, now)


def _kinds(wants: Sequence[Want], facts: Facts) -> list[Want]:
    """One of each kind that may be placed when the others are not."""
    favoured = {one.waiter for one in facts.favoured}
    kinds = {(want.alone, want.waiter if want.waiter in favoured else None): want for want in reversed(wants)}
    return sorted(kinds.values(), key=lambda want: want.alone)


def _blocked(waits: _Waits, execution: Execution, facts: Facts, now: datetime) -> Explanation:
    ground = Ground(outlook=facts.outlook, live=facts.live, task_cap=facts.task_cap, favoured=facts.favoured)
    obstacles = [obstacle(want, ground, now) for want in waits.wants]
    found = obstacles[0]
    if found is not None and all(obstacles):
        own = found.why is Why.EXECUTION_TASKS
        names = own_tasks(execution, found.holders) if own else holders(found.holders, execution)
        others = any(one.workspace != execution.workspace for one in found.holders)
        told = "" if own else held(names, others=others)
        if found.favoured is not None and found.favoured.workspace == execution.workspace:
            names = (favoured(found, execution),)
        found = replace(found, until=_to_come(found.until, now))
        until = f"; room comes at the latest at {time(found.until)}" if found.until is not None else ""
        reason = because(found, execution, facts.outlook.looked_at)
        return _of(found, f"{waits.subject} because {reason}{told}{until}.", names)
    first = [count(waits.before, "task of its execution comes", "tasks of its execution come")] if waits.before else []
    if facts.rivals:
        first.append(count(facts.rivals, "other execution has its turns", "other executions have their turns"))
    also = f", and {' and '.join(first)} too" if first else ""
    summary = f"{waits.subject} for a turn: there is room, it goes to a node at the scheduler's next look{also}."
    return Explanation(summary=summary, why=Why.ITS_TURN)


def _retries(subject: str, waiting: Sequence[Waiting]) -> Explanation:
    """Nothing but the pause after an attempt that failed or was lost."""
    first = waiting[0]
    lost = first.reason is Reason.NODE_LOST
    after = f"attempt {first.attempts} of task {first.index} {'was lost' if lost else 'failed'}"
    told = f" ({brief(first.message)})" if first.message else ""
    alone = ", alone on its node" if first.alone else ""
    next_ = "the next try" if len(waiting) == 1 else "the first of their next tries"
    return Explanation(
        summary=f"{subject} because {after}{told}; {next_} is due at {time(first.not_before)}{alone}.",
        why=Why.LOST if lost else Why.RETRY,
        until=first.not_before,
        message=first.message,
        exit_code=first.exit_code,
        signal=first.signal,
    )


def _runs(execution: Execution, facts: Facts, now: datetime) -> Explanation:
    """All tasks that have not ended are with their nodes."""
    own = _own(execution, facts)
    if own and all(one.started_at is None for one in own):
        return _starts(count(len(own), "task has", "tasks have"), own[0], facts)
    running, total = execution.stats.running, execution.stats.total
    started = [one.started_at for one in own if one.started_at is not None]
    since = min(started, default=execution.started_at)
    troubled = sorted({one.node for one in own if _trouble(one.node, facts)})
    silent = f"; node {troubled[0]} is in trouble: {_trouble(troubled[0], facts)}" if troubled else ""
    ended = total - running - execution.stats.pending
    summary = (
        f"{count(running, 'task runs', 'tasks run')}, the first since {time(since)}; {ended} of {total} have ended"
    )
    return Explanation(
        summary=f"{summary}{silent}.",
        why=Why.NODE_UNAVAILABLE if own and all(one.node in troubled for one in own) else Why.RUNNING,
        used=running,
        since=since,
        until=_to_come(_last_end(own, facts), now),
        node=troubled[0] if troubled else "",
    )


def _task_runs(execution: Execution, task: Task, facts: Facts, now: datetime) -> Explanation:
    own = [one for one in _own(execution, facts) if one.attempt.index == task.index]
    name = f"Task {task.index}"
    if not own:
        return Explanation(summary=f"{name} runs.", why=Why.RUNNING, since=task.started_at)
    one = own[0]
    if one.started_at is None:
        return _starts(f"{name} has", one, facts)
    end_by = one.ends_by(facts.outlook.grace)
    until = _to_come(end_by, now)
    by = f"at the latest until {time(until)}" if until is not None else f"its time was up at {time(end_by)}"
    trouble = _trouble(one.node, facts)
    silent = f"; that node is in trouble: {trouble}" if trouble else ""
    summary = f"{name} runs on node {one.node} since {time(one.started_at)}, {by}{silent}."
    why = Why.NODE_UNAVAILABLE if trouble else Why.RUNNING
    return Explanation(summary=summary, why=why, since=one.started_at, until=until, node=one.node, message=trouble)


def _starts(who: str, one: Occupant, facts: Facts) -> Explanation:
    """Given to a node, and no process yet."""
    trouble = _trouble(one.node, facts)
    node = facts.outlook.node(one.node)
    if trouble:
        why, rest = Why.NODE_UNAVAILABLE, f"which is in trouble: {trouble}"
    elif node is not None and facts.image_digest not in node.info.images:
        why, rest = Why.IMAGE, "which is getting the job's image ready"
    else:
        why, rest = Why.STARTING, "which is about to start it"
    summary = f"{who} been given to node {one.node}, {rest}."
    return Explanation(summary=summary, why=why, node=one.node, message=trouble)


def _cancelling(execution: Execution, facts: Facts, now: datetime) -> Explanation:
    own = _own(execution, facts)
    until = _to_come(_last_end(own, facts), now)
    doing = "being ended, for its time is over" if execution.timed_out else "being cancelled"
    how = "are being ended by force" if facts.force else "may finish (a cancel by force would end them)"
    by = f", at the latest at {time(until)}" if until is not None else ""
    running = count(execution.stats.running, "task still runs", "tasks still run")
    return Explanation(
        summary=f"It is {doing}: {running}; those {how}{by}.",
        why=Why.CANCELLING,
        used=execution.stats.running,
        holders=own_tasks(execution, own),
        until=until,
    )


def _ended(execution: Execution, facts: Facts) -> Explanation:
    stats, at = execution.stats, time(execution.completed_at)
    if execution.state is ExecutionState.SUCCEEDED:
        every = "its task" if stats.total == 1 else f"all {stats.total} tasks"
        return Explanation(
            summary=f"It succeeded: {every} did, by {at}.", why=Why.SUCCEEDED, since=execution.completed_at
        )
    first = facts.failures[0] if facts.failures else None
    told = f": {'; '.join(failure(one) for one in facts.failures)}" if facts.failures else ""
    if execution.timed_out:
        ended = f"{stats.succeeded} succeeded, {stats.cancelled} cancelled, {stats.failed} failed{told}"
        summary = f"{execution.cut_short.said} and ended at {at}: of {count(stats.total, 'task', 'tasks')} {ended}."
        summary = summary[0].upper() + summary[1:]
    elif execution.state is ExecutionState.FAILED:
        summary = f"It failed at {at}: {stats.failed} of {count(stats.total, 'task', 'tasks')} failed{told}."
    else:
        ended = f"{stats.succeeded} succeeded, {stats.cancelled} cancelled, {stats.failed} failed{told}"
        how = "cancelled by force" if facts.force else "cancelled"
        summary = f"It was {how} and ended at {at}: of {count(stats.total, 'task', 'tasks')} {ended}."
    return Explanation(
        summary=summary,
        why=Why.FAILED if execution.state is ExecutionState.FAILED else Why.CANCELLED,
        since=execution.completed_at,
        failures=tuple(facts.failures),
        message=first.message if first is not None else "",
        exit_code=first.exit_code if first is not None else None,
        signal=first.signal if first is not None else None,
        condition=first.reason if first is not None else "",
    )


def _task_ended(execution: Execution, task: Task) -> Explanation:
    name, at = f"Task {task.index}", time(task.completed_at)
    if task.state is TaskState.SUCCEEDED:
        dropped = f"; its result was dropped: {task.message}" if task.reason is Reason.RESULT_REJECTED else ""
        summary, why = f"{name} succeeded at {at}{dropped}.", Why.SUCCEEDED
    elif task.state is TaskState.FAILED:
        tries = count(task.attempts, "attempt", "attempts")
        summary, why = f"{name} failed at {at} after {tries}: {end(task)}.", Why.FAILED
    elif execution.state in EXECUTION_FINAL or task.completed_at is not None:
        summary, why = f"{name} was cancelled at {at}: {task.message or 'the execution was cancelled'}.", Why.CANCELLED
    else:
        summary, why = f"{name} is not run: its execution is being cancelled.", Why.CANCELLED
    return Explanation(
        summary=summary,
        why=why,
        since=task.completed_at,
        condition="" if task.reason is None else task.reason.value,
        message=task.message,
        exit_code=task.exit_code,
        signal=task.signal,
    )


def _of(found: Obstacle, summary: str, names: tuple[str, ...] = ()) -> Explanation:
    return Explanation(
        summary=summary,
        why=found.why,
        cap=found.cap,
        limit=found.limit,
        used=found.used,
        holders=names,
        until=found.until,
        node=found.node or "",
        message=found.message,
    )


def _own(execution: Execution, facts: Facts) -> list[Occupant]:
    return [one for one in facts.live if one.attempt.owner == execution.key]


def _trouble(node: NodeId, facts: Facts) -> str:
    """Why nothing is known of what runs on a node; empty when it answers."""
    found = facts.outlook.node(node)
    if found is not None:
        return found.trouble
    if facts.outlook.looked_at is None:
        return "the scheduler has not looked at it yet"
    return facts.outlook.engine or "it does not answer"


def _to_come(at: datetime | None, now: datetime) -> datetime | None:
    """A time at which something ends at the latest; one that is up already is no promise."""
    return at if at is not None and at > now else None


def _last_end(own: Sequence[Occupant], facts: Facts) -> datetime | None:
    """When all of them have ended at the latest; None when nobody can say."""
    ends = [one.ends_by(facts.outlook.grace) for one in own]
    known = [at for at in ends if at is not None]
    return max(known) if known and len(known) == len(ends) else None
