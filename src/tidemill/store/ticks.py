"""Ticks: each due time of a trigger settled once, by an execution or by the reason why there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, literal_column, or_, select, update

from tidemill.model.errors import NotFound, StaleTerm
from tidemill.model.ids import ExecutionKey, InputSetKey, new_execution_id
from tidemill.model.quoted import quoted
from tidemill.model.region import Regions
from tidemill.model.states import ExecutionState
from tidemill.model.trigger import Outcome, Overlap, Skipped
from tidemill.store import canaries, executions, schema, triggers
from tidemill.store.executions import Created, NewExecution
from tidemill.store.inputs import Chunk, NewInputs
from tidemill.store.ledger_claim import live_executions
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow
from tidemill.store.triggers import Bare

# executions of one unit: about 20 ms of the writer
FIRED_AT_ONCE: Final = 200
# who runs a trigger's executions, where a canary's choice is sticky: each trigger is a caller of its own
_CALLER: Final = "trigger/"

_TICK: Final = schema.tick.c
_TRIGGER: Final = schema.job_trigger.c
_JOB: Final = schema.job.c
_REVISION: Final = schema.revision.c
_EXECUTION: Final = schema.execution.c
_WORKSPACE: Final = schema.workspace.c
_SET: Final = schema.input_set.c

_OPEN: Final = Prepared(
    select(
        *(_TICK.job, _TICK.trigger_id, _TICK.due_at),
        *(_TRIGGER.enabled.label("trigger_enabled"), _TRIGGER.overlap, _TRIGGER.input_set, _SET.total),
        *(_JOB.workspace, _JOB.name, _JOB.state),
    )
    .join_from(schema.tick, schema.job, _JOB.key == _TICK.job)
    .outerjoin(schema.job_trigger, and_(_TRIGGER.job == _TICK.job, _TRIGGER.id == _TICK.trigger_id))
    .outerjoin(schema.input_set, _SET.key == _TRIGGER.input_set)
    # one that has no inputs yet waits for them, unless it is skipped anyway
    .where(_TICK.outcome == triggers.IS_DUE, or_(_TRIGGER.input_set.is_not(None), _TRIGGER.job.is_(None)))
    .order_by(_TICK.due_at)
    .limit(bindparam("most"))
)
_SETTLE: Final = Prepared(
    update(schema.tick)
    .where(
        _TICK.job == bindparam("of_job"),
        _TICK.trigger_id == bindparam("of_id"),
        _TICK.due_at == bindparam("at"),
        _TICK.outcome == triggers.IS_DUE,
    )
    .values(
        outcome=bindparam("outcome_"),
        reason=bindparam("reason_"),
        execution=bindparam("execution_"),
        settled_at=bindparam("now"),
    )
)
_TO_FIRE: Final = Prepared(
    select(
        *(_TRIGGER.job, _TRIGGER.id, _TRIGGER.tasks_digest, _TRIGGER.input_set, _SET.total),
        *(_JOB.workspace, _JOB.extra),
    )
    .join_from(schema.job, schema.job_trigger, _TRIGGER.job == _JOB.key)
    .outerjoin(schema.input_set, _SET.key == _TRIGGER.input_set)
    .where(
        _JOB.workspace == bindparam("workspace"),
        _JOB.name == bindparam("name"),
        _JOB.terminated_at.is_(None),
        _TRIGGER.id == bindparam("id"),
    )
)
# two that are fired by hand at the same moment are a tick each
_LEAST: Final = timedelta(microseconds=1)
_A_MOMENT: Final = timedelta(milliseconds=10)
_BY_HAND: Final = Prepared(
    insert(schema.tick),
    ("job", "trigger_id", "due_at", "since", "outcome", "reason", "execution", "settled_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """Who fires: the scheduler's ``term``, keys of executions yet to be made, and the server's regions."""

    term: int
    keys: Iterator[int]
    regions: Regions


@dataclass(slots=True, kw_only=True)
class _Place:
    """What a workspace has room for."""

    left: int
    queue: bool

    def take(self) -> ExecutionState:
        """``pending`` while there is room and nobody waits, else ``queued``."""
        if self.left <= 0 or self.queue:
            return ExecutionState.QUEUED
        self.left -= 1
        return ExecutionState.PENDING


def fire(connection: Connection, firing: Firing, *, now: datetime) -> bool:
    """Settle what is due: executions, or reasons why there are none; whether more may be left: then it is repeated.

    At most about 500 ticks come to be and 200 are settled. Raises StaleTerm when a newer term was taken. A dozen
    statements, however many triggers are due; one more for each job that has a canary.
    """
    held = connection.scalar(select(func.max(schema.term.c.number)))
    if held != firing.term:
        raise StaleTerm(f"the term is {held} by now; {firing.term} is over")
    advanced = triggers.advance(connection, now=now)
    rows = _OPEN.run(connection, {"most": FIRED_AT_ONCE}).all()
    if rows:
        _settle(connection, firing, rows, now)
    return len(rows) == FIRED_AT_ONCE or advanced >= triggers.TICKS_AT_ONCE


def count_due(connection: Connection, at: datetime) -> int:
    """How many triggers are due then; of more than one unit settles, as many as it does. One statement."""
    some = select(_TRIGGER.job).where(_TRIGGER.next_due_at == at).limit(FIRED_AT_ONCE).subquery()
    return connection.scalar(select(func.count()).select_from(some)) or 0


def fire_by_hand(connection: Connection, new: NewExecution, *, now: datetime) -> Created | Bare:
    """Make the execution of ``new.trigger`` that a request asks for, or find the one that it made before; and its tick.

    The trigger itself for one whose inputs are not stored yet: nothing is made then. Raises NotFound, NotRunnable,
    Conflict, and what ``executions.create`` raises. About twelve statements.
    """
    row = _TO_FIRE.run(connection, {"workspace": new.workspace, "name": new.job, "id": new.trigger}).one_or_none()
    if row is None:
        raise NotFound(f"no trigger {quoted(new.trigger)} of a job {quoted(new.job)} in workspace {new.workspace!r}")
    if row.input_set is None:
        return triggers.bare(row)
    stored = NewInputs(key=InputSetKey(row.input_set), workspace=new.workspace, total=row.total, size_bytes=0)
    created = executions.create(connection, new, stored, (), now=now)
    if created.key == new.key:
        _record_by_hand(connection, row.job, new, now)
    return created


def call(
    connection: Connection, new: NewExecution, stored: NewInputs, chunks: Sequence[Chunk], *, now: datetime
) -> Created:
    """Make the execution of ``new.trigger`` that somebody calls with arguments of their own; and its tick.

    As ``executions.create``; three statements more.
    """
    created = executions.create(connection, new, stored, chunks, now=now)
    if created.key == new.key:
        job = connection.scalar(select(_EXECUTION.job).where(_EXECUTION.key == new.key))
        assert job is not None
        _record_by_hand(connection, job, new, now)
    return created


def _record_by_hand(connection: Connection, job: int, new: NewExecution, now: datetime) -> None:
    """A tick at this moment. Two statements."""
    mine = (_TICK.job == job, _TICK.trigger_id == new.trigger)
    last = connection.scalar(
        select(func.max(_TICK.due_at)).where(*mine, _TICK.due_at >= now, _TICK.due_at < now + _A_MOMENT)
    )
    at = (last or now) + _LEAST
    # whole minutes are the clock's own
    at = at if at.microsecond else at + _LEAST
    fired = {"outcome": Outcome.FIRED.value, "reason": "", "execution": new.key, "settled_at": now}
    _BY_HAND.run(connection, {"job": job, "trigger_id": new.trigger, "due_at": at, "since": at, **fired})


def sweep(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Delete up to ``limit`` ticks from before ``cutoff`` whose execution is gone; how many.

    The last of a trigger that is there is kept: it says when it last ran. One statement to find them, by tick_age, and
    one executemany by primary key.
    """
    later = schema.tick.alias("later")
    last = and_(
        exists().where(_TRIGGER.job == _TICK.job, _TRIGGER.id == _TICK.trigger_id),
        ~exists().where(
            later.c.job == _TICK.job, later.c.trigger_id == _TICK.trigger_id, later.c.due_at > _TICK.due_at
        ),
    )
    kept = exists().where(_EXECUTION.key == _TICK.execution)
    rows = connection.execute(
        select(_TICK.job, _TICK.trigger_id, _TICK.due_at)
        .where(_TICK.due_at < cutoff, _TICK.outcome != triggers.IS_DUE, ~kept, ~last)
        .limit(limit)
    ).all()
    if rows:
        connection.execute(
            delete(schema.tick).where(
                _TICK.job == bindparam("of_job"),
                _TICK.trigger_id == bindparam("of_id"),
                _TICK.due_at == bindparam("at"),
            ),
            [{"of_job": row.job, "of_id": row.trigger_id, "at": row.due_at} for row in rows],
        )
    return len(rows)


def _settle(connection: Connection, firing: Firing, rows: Sequence[AnyRow], now: datetime) -> None:
    """Five statements to look, five to write."""
    jobs = _jobs(connection, {row.job for row in rows})
    places = _places(connection, {row.workspace for row in rows})
    busy = _busy(connection, {row.job for row in rows if row.overlap == Overlap.SKIP})
    made, settled = list[tuple[NewExecution, dict[str, object]]](), list[dict[str, object]]()
    for row in rows:
        trigger = (row.job, row.trigger_id)
        reason = triggers.why_not(jobs[row.job], row.trigger_enabled)
        if reason is None and row.overlap == Overlap.SKIP and trigger in busy:
            reason = Skipped.OVERLAP
        key = None
        if reason is None:
            key = ExecutionKey(next(firing.keys))
            busy.add(trigger)
            new = _new(row, key, firing.regions)
            stored = NewInputs(key=InputSetKey(row.input_set), workspace=row.workspace, total=row.total, size_bytes=0)
            job = canaries.pick(
                connection, jobs[row.job], execution=new.id, caller=f"{_CALLER}{row.trigger_id}"[:64], now=now
            )
            state = places[row.workspace].take()
            made.append((new, executions.new_values(new, stored, job, state, now)))
        settled.append(
            {
                "of_job": row.job,
                "of_id": row.trigger_id,
                "at": row.due_at,
                "outcome_": (Outcome.FIRED if key is not None else Outcome.SKIPPED).value,
                "reason_": "" if reason is None else reason.value,
                "execution_": key,
                "now": now,
            }
        )
    executions.record_all(connection, made, now=now)
    _SETTLE.run_many(connection, settled)


def _new(row: AnyRow, key: ExecutionKey, regions: Regions) -> NewExecution:
    # nobody sent a request: it has no name of its own, and none under which it may come again
    execution_id = request_id = new_execution_id()
    return NewExecution(
        key=key,
        id=execution_id,
        workspace=row.workspace,
        job=row.name,
        request_id=request_id,
        aliases=(),
        digest="",
        regions=regions,
        trigger=row.trigger_id,
        due_at=row.due_at,
    )


def _jobs(connection: Connection, keys: set[int]) -> dict[int, AnyRow]:
    """The jobs, each with its active revision, in the shape of ``executions.runnable``."""
    return {row.key: row for row in executions.runnable_rows(connection, keys)}


def _places(connection: Connection, names: set[str]) -> dict[str, _Place]:
    """One statement, by execution_live; the quotas bound how many it counts."""
    queue = exists().where(
        _EXECUTION.workspace == _WORKSPACE.name,
        _EXECUTION.completed_at.is_(None),
        _EXECUTION.state == ExecutionState.QUEUED.value,
    )
    rows = connection.execute(
        select(
            _WORKSPACE.name,
            (_WORKSPACE.max_parallel_executions - live_executions(_WORKSPACE.name)).label("left"),
            queue.label("queue"),
        ).where(_WORKSPACE.name.in_(names))
    )
    return {row.name: _Place(left=row.left, queue=bool(row.queue)) for row in rows}


def _busy(connection: Connection, jobs: set[int]) -> set[tuple[int, str]]:
    """The triggers of these jobs that have started what has not ended. One statement, by execution_of_trigger."""
    if not jobs:
        return set()
    rows = connection.execute(
        select(_EXECUTION.job, _EXECUTION.trigger_id)
        .where(
            _EXECUTION.job.in_(jobs),
            _EXECUTION.trigger_id != literal_column("''"),
            _EXECUTION.completed_at.is_(None),
        )
        .distinct()
    )
    return {(row.job, row.trigger_id) for row in rows}
