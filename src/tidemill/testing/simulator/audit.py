"""Looks for broken promises: the checker of the ledger, and what only a world can know that sees both sides."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from tidemill.engine.fake import FakeEngine, Play
from tidemill.model.execution import Reason
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import EXECUTION_FINAL, TASK_FINAL, ExecutionState, JobState, TaskState
from tidemill.store import check, schema
from tidemill.store.ledger_settle import CHARGED
from tidemill.testing.simulator.users import SECRET, Users

_RESTING: Final = {JobState.DEPLOYED, JobState.FAILED, JobState.DEACTIVATED, JobState.TERMINATED}
_OPEN: Final = {ExecutionState.QUEUED, ExecutionState.PENDING, ExecutionState.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All that the ledger holds, as one reader sees it."""

    jobs: list[Any]
    events: list[Any]
    executions: dict[int, Any]
    tasks: list[Any]
    attempts: list[Any]
    results: list[Any]
    nodes: list[Any]
    workspaces: dict[str, Any]
    broken: list[str]


class Audit:
    """Remembers what it has seen: an end that changes later is a broken promise.

    ``plays`` is how attempts really went, by the engine's own book.
    """

    def __init__(
        self,
        read: Callable[[Callable[[Connection], Rows]], Rows],
        engine: FakeEngine,
        users: Users,
        plays: Mapping[AttemptId, Play],
    ) -> None:
        self._read = read
        self._engine = engine
        self._users = users
        self._plays = plays
        self._ends: dict[object, object] = {}

    def look(self, *, at_rest: bool = False) -> list[str]:
        """What is broken now. With ``at_rest`` nothing should be left to do, or to run."""
        rows = self._read(lambda connection: _read(connection, at_rest=at_rest))
        found = list(rows.broken)
        for rule in (_caps, _stats, _verdicts, _unique, self._fixed, self._answered, self._results, self._starts):
            found += rule(rows)
        if at_rest:
            found += _rested(rows)
            found += self._told(rows)
        return found

    def _fixed(self, rows: Rows) -> Iterator[str]:
        """I2: an end never changes."""
        ends: dict[object, object] = {}
        for row in rows.executions.values():
            if row.state in EXECUTION_FINAL:
                counts = (row.succeeded, row.failed, row.cancelled, row.total, row.retried)
                ends["execution", row.key] = (row.state, counts, row.completed_at)
        for row in rows.tasks:
            if row.state in TASK_FINAL:
                ends["task", row.execution, row.idx] = tuple(row)
        for row in rows.attempts:
            if row.ended_at is not None:
                number = (row.kind, row.owner, row.idx, row.number)
                ends["attempt", *number] = (row.ended_at, row.outcome, row.charged)
        for what, before in self._ends.items():
            if ends.get(what) != before:
                yield f"I2: the end of {what} was {before} and is {ends.get(what)}"
        self._ends.update(ends)

    def _answered(self, rows: Rows) -> Iterator[str]:
        """What was answered is true for ever."""
        kept = {row.id for row in rows.executions.values()}
        for request in self._users.requests:
            for answer in sorted(request.answers - kept - {"nothing"}):
                yield f"I1: {request.request_id} was answered with {answer}, which is not there"
        for key in sorted(self._users.cancelled):
            row = rows.executions.get(key)
            if row is None or row.state in _OPEN:
                yield f"I2: execution {key} was cancelled and is {row and row.state}"

    def _results(self, rows: Rows) -> Iterator[str]:
        """I3: a result is what its own attempt left; ends say what the engine said."""
        for row in rows.results:
            attempt = AttemptId(OwnerKind.TASK, row.execution, row.idx, row.attempt)
            if row.data.decode() != f'"{attempt}"':
                yield f"I3: the result of {attempt} is {row.data.decode()}"
        for row in rows.attempts:
            attempt = AttemptId(OwnerKind(row.kind), row.owner, row.idx, row.number)
            play = self._plays.get(attempt)
            said = row.outcome in CHARGED or row.outcome == OutcomeKind.SUCCEEDED
            if said and (play is None or row.outcome not in {play.kind, OutcomeKind.TIMED_OUT}):
                yield f"I3: {attempt} is {row.outcome}, and went as {play and play.kind}"

    def _starts(self, rows: Rows) -> Iterator[str]:
        """I9: only what is on record starts, and no task runs twice at once."""
        recorded = {AttemptId(OwnerKind(row.kind), row.owner, row.idx, row.number) for row in rows.attempts}
        for attempt in sorted(self._plays.keys() - recorded):
            yield f"I9: {attempt} was started and is not on record"
        ended = {
            AttemptId(OwnerKind(row.kind), row.owner, row.idx, row.number)
            for row in rows.attempts
            if row.ended_at is not None
        }
        running = Counter(
            (attempt.kind, attempt.owner, attempt.index)
            for node in rows.nodes
            for attempt in self._engine.running(NodeId(node.id))
        )
        for (kind, owner, index), times in running.items():
            if times > 1:
                numbers = [one for one in sorted(ended) if (one.kind, one.owner, one.index) == (kind, owner, index)]
                yield f"I9: {times} attempts of {kind}/{owner}/{index} run at once; ended are {numbers}"

    def _told(self, rows: Rows) -> Iterator[str]:
        """At rest: nothing runs anywhere, and no request is without an answer."""
        for node in rows.nodes:
            for attempt in sorted(self._engine.running(NodeId(node.id))):
                yield f"I9: {attempt} runs on {node.id} and nobody knows"
        for request in self._users.unanswered:
            yield f"I1: {request.request_id} was never answered"


def _read(connection: Connection, *, at_rest: bool) -> Rows:
    def rows(table: Any) -> list[Any]:
        return list(connection.execute(select(table)))

    return Rows(
        jobs=rows(schema.job),
        events=rows(schema.job_event),
        executions={row.key: row for row in rows(schema.execution)},
        tasks=rows(schema.task),
        attempts=rows(schema.attempt),
        results=rows(schema.result),
        nodes=rows(schema.node),
        workspaces={row.name: row for row in rows(schema.workspace)},
        broken=check.violations(connection, at_rest=at_rest),
    )


def _caps(rows: Rows) -> Iterator[str]:
    """I5, counted anew."""
    live = [row for row in rows.attempts if row.ended_at is None]
    for owner, count in Counter(row.owner for row in live if row.kind == OwnerKind.TASK).items():
        if count > rows.executions[owner].parallelism:
            yield f"I5: {count} attempts of execution {owner} are live"
    for name, count in Counter(row.workspace for row in live if row.kind == OwnerKind.TASK).items():
        cap = rows.workspaces[name].max_concurrent_tasks
        if cap is not None and count > cap:
            yield f"I5: {count} attempts of workspace {name} are live; it may have {cap}"
    for node in rows.nodes:
        here = [row for row in live if row.node == node.id]
        if len(here) > node.slots or sum(row.memory_mb for row in here) > node.memory_mb:
            yield f"I5: {len(here)} attempts are live on {node.id}"


def _stats(rows: Rows) -> Iterator[str]:
    """I6: counters are never negative, and never more than there are tasks."""
    for row in rows.executions.values():
        counts = (row.running, row.succeeded, row.failed, row.cancelled, row.waiting, row.retried)
        if min(counts) < 0 or row.running + row.succeeded + row.failed + row.cancelled > row.total:
            yield f"I6: the counters of execution {row.key} are {counts} of {row.total}"


def _verdicts(rows: Rows) -> Iterator[str]:
    """I4: what failed had all its tries; what was lost is not held against it; what failed and has tries left waits."""
    for task in rows.tasks:
        execution = rows.executions[task.execution]
        own = task.reason in {reason.value for reason in CHARGED.values()}
        cancelled = execution.state in {ExecutionState.CANCELLING, ExecutionState.CANCELLED}
        name = f"task {task.execution}/{task.idx}"
        if task.state == TaskState.FAILED and own and not cancelled and task.charged != 1 + execution.max_retries:
            yield f"I4: {name} failed after {task.charged} charged attempts of {1 + execution.max_retries}"
        if task.state == TaskState.FAILED and not own and task.reason != Reason.NODE_LOST:
            yield f"I4: {name} failed for {task.reason}"
        if task.state == TaskState.PENDING and task.not_before is None:
            yield f"I4: {name} waits for nothing"


def _unique(rows: Rows) -> Iterator[str]:
    """I10: the same request is the same execution. I8: a job's events have no gap."""
    for (job, request), count in Counter((row.job, row.request_id) for row in rows.executions.values()).items():
        if count > 1:
            yield f"I10: {request} of job {job} made {count} executions"
    numbers: dict[int, list[int]] = {}
    for event in rows.events:
        numbers.setdefault(event.job, []).append(event.number)
    for job in rows.jobs:
        found = sorted(numbers.get(job.key, []))
        if found and (found != list(range(found[0], found[-1] + 1)) or found[-1] != job.events_total):
            yield f"I8: the events of job {job.key} are {found} of {job.events_total}"
    for event in rows.events:
        if SECRET in event.message:
            yield f"I11: an event of job {event.job} tells a secret"
    for row in (*rows.attempts, *rows.tasks):
        if SECRET in row.message:
            yield "I11: a message tells a secret"


def _rested(rows: Rows) -> Iterator[str]:
    """I1: jobs come to rest too."""
    for job in rows.jobs:
        if job.state not in _RESTING:
            yield f"I1: job {job.workspace}/{job.name} is {job.state} though nothing is under way"
