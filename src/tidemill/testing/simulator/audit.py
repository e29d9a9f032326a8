"""Looks for broken promises: the checker of the ledger, and what only a world can know that sees both sides."""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select

from tidemill.blobs.logfiles import LogFiles
from tidemill.model.execution import Reason
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import OutcomeKind
from tidemill.model.retry import backoff
from tidemill.model.states import EXECUTION_FINAL, TASK_FINAL, ExecutionState, JobState, TaskState
from tidemill.model.trigger import ON_TIME, Outcome, Schedule, Skipped
from tidemill.store import check, schema
from tidemill.store.ledger_settle import CHARGED
from tidemill.testing.simulator.reader import Reader
from tidemill.testing.simulator.users import NOTHING, SECRET, VISITOR
from tidemill.testing.simulator.world import World

_RESTING: Final = {JobState.DEPLOYED, JobState.FAILED, JobState.DEACTIVATED, JobState.TERMINATED}
_FAIR_MARGIN: Final = 10
_OPEN: Final = {ExecutionState.QUEUED, ExecutionState.PENDING, ExecutionState.RUNNING}
# from a deadline to the look that sees it
_PATIENCE: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All that the ledger holds, as one reader sees it."""

    jobs: list[Any]
    events: list[Any]
    executions: dict[int, Any]
    tasks: list[Any]
    attempts: list[Any]
    results: list[Any]
    blocks: list[Any]
    nodes: list[Any]
    workspaces: dict[str, Any]
    triggers: list[Any]
    ticks: list[Any]
    broken: list[str]

    def names(self) -> dict[AttemptId, Any]:
        """The attempts by their ids."""
        return {AttemptId(OwnerKind(row.kind), row.owner, row.idx, row.number): row for row in self.attempts}


class Audit:
    """Remembers what it has seen: an end that changes later is a broken promise."""

    def __init__(self, world: World) -> None:
        self._read = world.sim.database.read
        self._wall = world.wall.now
        self._engine = world.sim.engine
        self._users = world.users
        self._plays = world.plays
        self._faults = world.faults
        self._logfiles = LogFiles(world.sim.folder / "logs")
        self._ends: dict[object, object] = {}
        self._waits: dict[tuple[int, int, int], datetime] = {}
        self._database = world.sim.database
        self._readers: dict[str, Reader] = {}
        self._before_calm: set[AttemptId] = set()
        self._ended_before: set[AttemptId] | None = None

    def look(self, *, well: bool = False, at_rest: bool = False) -> list[str]:
        """What is broken now.

        ``well``: nothing has gone wrong for so long that no trace of it should be left; with ``at_rest`` nothing should
        be left to do, or to run, either.
        """
        rows = self._read(lambda connection: _read(connection, at_rest=at_rest))
        found = [*rows.broken, *self.glance()]
        mine = (self._fixed, self._waited, self._answered, self._results, self._starts)
        for rule in (_caps, _stats, _verdicts, _unique, _ticks, *mine):
            found += rule(rows)
        found += self._followed(rows, to_the_end=at_rest)
        if well:
            found += self._well(rows)
        if at_rest:
            found += _rested(rows)
            found += self._fair(rows)
            found += self._told()
            found += self._logged(rows)
        return found

    def glance(self) -> list[str]:
        """What shows without a look at the store. I9: no task runs twice at once."""
        # a frozen node sees to nothing; what has expired there is killed when it wakes
        running = Counter(
            (attempt.kind, attempt.owner, attempt.index)
            for node in self._engine.members()
            if node not in self._faults.frozen
            for attempt in self._engine.running(node)
        )
        return [f"I9: {times} attempts of {task} run at once" for task, times in running.items() if times > 1]

    def due(self) -> list[str]:
        """I7: what is due and not settled, in a world whose clock has just looked."""
        rows, now = self._read(lambda connection: _read(connection, at_rest=False)), self._wall()
        late = [row for row in rows.triggers if row.next_due_at is not None and row.next_due_at <= now]
        open_ = [row for row in rows.ticks if row.outcome == Outcome.DUE]
        found = [f"I7: trigger {row.job}/{row.id} was due at {row.next_due_at}" for row in late]
        return found + [f"I7: tick {row.job}/{row.trigger_id} of {row.due_at} is not settled" for row in open_]

    def calm_begins(self) -> None:
        """What began up to now did so in trouble. Times would not tell: clocks have been set back."""
        self._before_calm = set(self._read(lambda connection: _read(connection, at_rest=False)).names())

    def _fixed(self, rows: Rows) -> Iterator[str]:
        """I2: an end never changes, and nothing starts of what was cancelled."""
        ends: dict[object, object] = {}
        tries = Counter(row.owner for row in rows.attempts if row.kind == OwnerKind.TASK)
        for row in rows.executions.values():
            if row.state in EXECUTION_FINAL:
                counts = (row.succeeded, row.failed, row.cancelled, row.total, row.retried)
                ends["execution", row.key] = (row.state, counts, row.completed_at)
            if row.timed_out or row.state in {ExecutionState.CANCELLING, ExecutionState.CANCELLED}:
                ends["starts", row.key] = tries[row.key]
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

    def _waited(self, rows: Rows) -> Iterator[str]:
        """What waits for its time waits so long; what was lost waits as long as its losses in a row say."""
        for row in rows.attempts:
            until = self._waits.get((row.owner, row.idx, row.number - 1))
            if row.kind == OwnerKind.TASK and until is not None and row.claimed_at < until:
                yield f"I4: attempt {row.number} of task {row.owner}/{row.idx} began before its time, {until}"
        for row in rows.tasks:
            if row.state == TaskState.PENDING and row.not_before is not None:
                self._waits[row.execution, row.idx, row.attempt] = row.not_before
                wait = row.not_before - row.updated_at
                if row.reason == Reason.NODE_LOST and wait != backoff(row.lost_in_row):
                    yield f"I4: task {row.execution}/{row.idx}, lost {row.lost_in_row} times in a row, waits {wait}"

    def _answered(self, rows: Rows) -> Iterator[str]:
        """What was answered is true for ever."""
        kept = {row.id for row in rows.executions.values()}
        for request in self._users.requests:
            for answer in sorted(request.answers - kept - {NOTHING}):
                yield f"I1: {request.request_id} was answered with {answer}, which is not there"
        for key in sorted(self._users.cancelled):
            row = rows.executions.get(key)
            if row is None or row.state in _OPEN:
                yield f"I2: execution {key} was cancelled and is {row and row.state}"

    def _followed(self, rows: Rows, *, to_the_end: bool) -> Iterator[str]:
        """I8: who follows events sees them in order, and at the end how everything is."""
        for name in sorted(rows.workspaces):
            reader = self._readers.setdefault(name, Reader(self._database, name))
            yield from reader.read()
            if to_the_end:
                yield from reader.read_all()
                yield from reader.misses(rows.executions, rows.tasks)

    def _results(self, rows: Rows) -> Iterator[str]:
        """I3: a result is what its own attempt left; ends say what the engine said."""
        for row in rows.results:
            attempt = AttemptId(OwnerKind.TASK, row.execution, row.idx, row.attempt)
            if row.data.decode() != f'"{attempt}"':
                yield f"I3: the result of {attempt} is {row.data.decode()}"
        for attempt, row in rows.names().items():
            play = self._plays.get(attempt)
            said = row.outcome in CHARGED or row.outcome == OutcomeKind.SUCCEEDED
            if said and (play is None or row.outcome not in {play.kind, OutcomeKind.TIMED_OUT}):
                yield f"I3: {attempt} is {row.outcome}, and went as {play and play.kind}"

    def _starts(self, rows: Rows) -> Iterator[str]:
        """I9: only what is on record starts, and once."""
        recorded = rows.names()
        for attempt in sorted(self._plays.keys() - recorded.keys()):
            yield f"I9: {attempt} was started and is not on record"
        for attempt, times in self._engine.starts().items():
            # only a launch that comes once more, after its attempt has ended, may start it again
            if times > 1 and not self._faults.launches_late:
                yield f"I9: {attempt} was started {times} times"

    def _well(self, rows: Rows) -> Iterator[str]:
        """I9: no process without a live attempt; nothing is lost on nodes that are well; a cancel by force is over."""
        live = {attempt for attempt, row in rows.names().items() if row.ended_at is None}
        for node in self._engine.members():
            # what has ended is not heard of yet
            known = self._engine.inventory(node).attempts
            for attempt in sorted((self._engine.running(node) & known) - live):
                yield f"I9: {attempt} runs on {node} and is not live"
        for row in rows.executions.values():
            if row.state == ExecutionState.CANCELLING and row.force:
                yield f"I1: execution {row.key} is still being cancelled by force"
            if row.state in _OPEN and row.deadline_at is not None and row.deadline_at < self._wall() - _PATIENCE:
                yield f"I1: execution {row.key} was to end at {row.deadline_at}"
        if self._ended_before is None:
            self._ended_before = set(rows.names()) - live
        for attempt, row in rows.names().items():
            if row.outcome == OutcomeKind.LOST and attempt not in self._ended_before:
                yield f"I4: {attempt} was lost on a node that is well"

    def _logged(self, rows: Rows) -> Iterator[str]:
        """Each line of output is kept once; unless its node has gone for good, it is kept."""
        kept: Counter[AttemptId] = Counter()
        for row in rows.blocks:
            data = self._logfiles.read(row.file, row.offset, row.length)
            for line in zlib.decompress(data).decode().splitlines():
                index, number, *_ = json.loads(line)
                kept[AttemptId(OwnerKind(row.kind), row.owner, index, number)] += 1
        twice = self._faults.launches_late  # then an attempt may have been played twice
        for attempt, times in kept.items():
            if times > 1 and not twice:
                yield f"logs: the line of {attempt} is kept {times} times"
        gone = self._faults.counts["node replaced"] > 0
        for attempt, row in rows.names().items():
            play = self._plays.get(attempt)
            if play is not None and play.output and row.outcome == play.kind and not kept[attempt] and not gone:
                yield f"logs: the line of {attempt} is not kept"

    def _fair(self, rows: Rows) -> Iterator[str]:
        """I12: who has no backlog starts before all that wait, but for what had a claim already."""
        slots = sum(node.slots for node in rows.nodes)
        for row in rows.executions.values():
            if row.workspace != VISITOR:
                continue
            mine = min((one.claimed_at for one in rows.attempts if one.owner == row.key), default=None)
            before = [
                attempt
                for attempt, one in rows.names().items()
                if attempt not in self._before_calm and (mine is None or one.claimed_at < mine)
            ]
            if len(before) > slots + _FAIR_MARGIN:
                yield f"I12: {len(before)} attempts began while {row.id} waited, on {slots} slots"

    def _told(self) -> Iterator[str]:
        """At rest: nothing runs anywhere, and no request is without an answer."""
        for node in self._engine.members():
            for attempt in sorted(self._engine.running(node)):
                yield f"I9: {attempt} runs on {node} and nobody knows"
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
        blocks=rows(schema.log_block) if at_rest else [],
        nodes=rows(schema.node),
        workspaces={row.name: row for row in rows(schema.workspace)},
        triggers=rows(schema.job_trigger),
        ticks=rows(schema.tick),
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


def _ticks(rows: Rows) -> Iterator[str]:
    """I7: no due time of a trigger is without its tick; what fired is there, and nothing is missed that is not late."""
    mine: dict[tuple[int, str], list[Any]] = {}
    for row in rows.ticks:
        mine.setdefault((row.job, row.trigger_id), []).append(row)
        name = f"tick {row.job}/{row.trigger_id} of {row.due_at}"
        if row.execution is not None and row.execution not in rows.executions:
            yield f"I7: {name} fired, and its execution is not there"
        if row.reason == Skipped.MISSED and row.settled_at - row.due_at <= ON_TIME:
            yield f"I7: {name} is called missed at {row.settled_at}"
    for row in rows.triggers:
        if row.planned_at is None or row.next_due_at is None:
            continue
        spans = [(tick.since, tick.due_at) for tick in mine.get((row.job, row.id), [])]
        for due in Schedule.parse(row.schedule, row.timezone).due(row.planned_at, row.next_due_at):
            if due < row.next_due_at and not any(since <= due <= last for since, last in spans):
                yield f"I7: trigger {row.job}/{row.id} was due at {due}, and has no tick"


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
        cancelled = execution.timed_out or execution.state in {ExecutionState.CANCELLING, ExecutionState.CANCELLED}
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
