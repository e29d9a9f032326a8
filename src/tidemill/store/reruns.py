"""Reruns: what is selected of an execution that has ended, and the execution that runs it again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, select

from tidemill.model.errors import Conflict, Invalid, NotFound
from tidemill.model.execution import Execution
from tidemill.model.ids import ExecutionKey, InputSetKey
from tidemill.model.job import MIN_MEMORY_MB
from tidemill.model.region import biggest_in
from tidemill.model.rerun import LATEST, SAME, Selection
from tidemill.model.states import EXECUTION_FINAL, TaskState
from tidemill.store import canaries, executions, ranges, schema, uploads
from tidemill.store.executions import Created, NewExecution
from tidemill.store.inputs import NewInputs
from tidemill.store.prepared import Prepared
from tidemill.store.ranges import Range
from tidemill.store.schema import AnyRow

PAGE_TASKS: Final = 20_000

_EXECUTION: Final = schema.execution.c
_TASK: Final = schema.task.c
_DIRECT: Final = Prepared(
    select(_EXECUTION.id)
    .where(
        _EXECUTION.chain == bindparam("of_chain"),
        _EXECUTION.key > bindparam("of"),
        _EXECUTION.origin == bindparam("of"),
    )
    .order_by(_EXECUTION.key)
    .limit(bindparam("most"))
)
_FROZEN: Final = (
    "revision",
    "image_digest",
    "parallelism",
    "memory_mb",
    "memory_override_mb",
    "region",
    "timeout_s",
    "max_retries",
    "retry_policy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRerun:
    """A request for a rerun of ``total`` tasks of ``origin``; ``revision`` as in ``RerunRequest``."""

    new: NewExecution
    origin: ExecutionKey
    revision: str
    timeout_s: int | None
    total: int


def check_ended(origin: Execution) -> None:
    """Raises Conflict unless it has ended: what is selected must not change any more."""
    if origin.state not in EXECUTION_FINAL:
        raise Conflict(
            f"execution {origin.id} is {origin.state}; only one that has ended can be run again: wait, or cancel it"
        )


def sealed_env(connection: Connection, key: ExecutionKey) -> str:
    """The envelope of an execution's own variables, empty for none. One statement, by primary key."""
    return connection.scalar(select(_EXECUTION.env_sealed).where(_EXECUTION.key == key)) or ""


def input_total(connection: Connection, key: InputSetKey) -> int:
    """How many tasks an input set has. One statement, by primary key. 0 when it is gone."""
    return connection.scalar(select(schema.input_set.c.total).where(schema.input_set.c.key == key)) or 0


def find_ids(connection: Connection, execution: Execution, limit: int) -> list[str]:
    """Ids of the direct reruns, oldest first. One statement, by execution_chain."""
    wanted = {"of_chain": execution.chain, "of": execution.key, "most": limit}
    return list(_DIRECT.run(connection, wanted).scalars())


def selected_rows(
    connection: Connection, origin: Execution, selection: Selection, low: int, high: int
) -> list[tuple[int, int]]:
    """Selected tasks with rows at the positions ``low`` <= p < ``high``, as (index, 1). Two statements at most.

    By primary key. The origin has ended: a row that is pending then reads as cancelled.
    """
    held = ranges.indices(connection, origin, low, min(high, origin.next_index))
    if not held:
        return []
    wanted: list[ColumnElement[bool]] = [_TASK.execution == origin.key, _TASK.idx >= held[0], _TASK.idx <= held[-1]]
    pending = _TASK.state == TaskState.PENDING.value
    if selection.states:
        state = case((pending, TaskState.CANCELLED.value), else_=_TASK.state)
        wanted.append(state.in_([one.value for one in selection.states]))
    if selection.exit_codes:
        wanted.append(_TASK.exit_code.in_(selection.exit_codes))
    if selection.reasons:
        reason = case((pending, origin.cut_short.reason.value), else_=_TASK.reason)
        wanted.append(reason.in_([one.value for one in selection.reasons]))
    rows = connection.scalars(select(_TASK.idx).where(*wanted).order_by(_TASK.idx))
    return list(chosen([(index, 1) for index in rows], selection))


def selected_rowless(
    connection: Connection, origin: Execution, selection: Selection, low: int, high: int
) -> list[tuple[int, int]]:
    """Selected tasks without rows at these positions, as (first index, count). One statement at most.

    They have been cancelled with their execution.
    """
    states, reasons = selection.states, selection.reasons
    if (
        selection.exit_codes
        or (states and TaskState.CANCELLED not in states)
        or (reasons and origin.cut_short.reason not in reasons)
    ):
        return []
    first = max(low, origin.next_index)
    held = ranges.indices(connection, origin, first, high)
    runs = [(held.start, len(held))] if isinstance(held, range) and held else [(index, 1) for index in held]
    return list(chosen(runs, selection))


def chosen(runs: Sequence[tuple[int, int]], selection: Selection) -> Iterator[tuple[int, int]]:
    """What of ``runs`` (first index, count; in order) lies in the indices that a selection names: all for none."""
    if not selection.indices:
        yield from runs
        return
    place = 0
    for first, count in runs:
        end = first + count
        while place < len(selection.indices) and selection.indices[place][1] < first:
            place += 1
        here = place
        while here < len(selection.indices) and selection.indices[here][0] < end:
            low, last = selection.indices[here]
            start = max(first, low)
            yield start, min(end, last + 1) - start
            here += 1


def create(connection: Connection, rerun: NewRerun, last: Sequence[Range], *, now: datetime) -> Created:
    """Make the rerun, or find the one that the same request made before. It is durable when the unit is.

    ``last`` are its ranges when they fit into this unit; empty when they are written already. Raises NotFound,
    NotRunnable, Invalid, OverQuota, Conflict. About fourteen statements, by the indices of ``executions.create``.
    """
    new = rerun.new
    again = executions.repeated(connection, new)
    if again is not None:
        return again
    job = executions.runnable(connection, new.workspace, new.job)
    origin = connection.execute(
        select(_EXECUTION.chain, _EXECUTION.input_set, *(_EXECUTION[name] for name in _FROZEN)).where(
            _EXECUTION.key == rerun.origin, _EXECUTION.job == job.key
        )
    ).one_or_none()
    if origin is None:
        raise NotFound(f"the execution to run again is no longer one of job {new.job!r}")
    inputs = NewInputs(key=InputSetKey(origin.input_set), workspace=new.workspace, total=rerun.total, size_bytes=0)
    revision = _revision(connection, job, rerun.revision)
    values = executions.new_values(new, inputs, revision, executions.first_state(connection, new), now)
    if rerun.revision == SAME:
        values |= {name: getattr(origin, name) for name in _FROZEN}
        if new.memory_mb is not None:
            values |= {"memory_mb": new.memory_mb, "memory_override_mb": new.memory_mb}
    _check_memory(connection, new.memory_mb, str(values["region"]))
    if rerun.timeout_s is not None:
        values["timeout_s"] = rerun.timeout_s
    values |= {"origin": rerun.origin, "chain": origin.chain}
    if last:
        ranges.add(connection, new.key, last)
    return executions.record(connection, new, values, now=now)


def runnable(connection: Connection, workspace: str, name: str, revision: str) -> None:
    """Raises NotFound, NotRunnable when the job takes no rerun with this revision. Two statements at most."""
    _revision(connection, executions.runnable(connection, workspace, name), revision)


def _revision(connection: Connection, job: AnyRow, wanted: str) -> AnyRow:
    """The revision that a rerun begins from, in the shape of ``executions.runnable``. Raises NotFound.

    ``latest`` is the active one, never the canary: who fixed what failed wants the fix to run.
    """
    if wanted in {SAME, LATEST, job.active_revision}:
        return job
    row = canaries.revision_row(connection, job.key, wanted)
    if row is None:
        raise NotFound(
            f"revision is {wanted[:64]!r}, which the job does not keep; it must be 'same', 'latest' or a kept one's id"
        )
    return row


def _check_memory(connection: Connection, memory_mb: int | None, region: str) -> None:
    """A rerun may have more than its job says: what ran out of memory would only do so again."""
    if memory_mb is None:
        return
    most_mb = biggest_in(uploads.biggest_nodes(connection), region)
    if memory_mb < MIN_MEMORY_MB or (most_mb is not None and memory_mb > most_mb):
        limit = "or more" if most_mb is None else f"to {most_mb}, what the biggest node has for tasks"
        raise Invalid(f"memory is {memory_mb}; it must be {MIN_MEMORY_MB} {limit} (MB)")
