"""Tasks of an execution as they are read: those with rows, and those that need none yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, select

from tidemill.model.errors import NotFound
from tidemill.model.execution import Execution, Reason, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TaskState, rowless_state
from tidemill.store import ranges, schema
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.prepared import Prepared
from tidemill.store.schema import AnyRow

_TASK: Final = schema.task.c
# in the order in which _task takes them
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    _TASK.idx,
    _TASK.state,
    _TASK.attempt,
    _TASK.reason,
    _TASK.message,
    _TASK.exit_code,
    _TASK.signal,
    _TASK.has_result,
    _TASK.created_at,
    _TASK.started_at,
    _TASK.ended_at,
    _TASK.updated_at,
)

_FIRST_OF_EACH: Final = Prepared(
    select(*_COLUMNS, _TASK.execution)
    .select_from(PAIRS)
    .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx <= SECOND))
    .order_by(_TASK.execution, _TASK.idx)
)
_AMONG: Final = Prepared(
    select(*_COLUMNS).select_from(PAIRS).join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx == SECOND))
)
_BETWEEN: Final = Prepared(
    select(*_COLUMNS)
    .where(_TASK.execution == bindparam("execution"), _TASK.idx >= bindparam("low"), _TASK.idx <= bindparam("high"))
    .order_by(_TASK.idx)
)

# a look-up is ten times as fast as a call of the enum
_STATES: Final = {state.value: state for state in TaskState}
_REASONS: Final = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTasks:
    """The first tasks of an execution, in order, but the ``skipped`` ones that whoever asks knows already.

    First ``tasks``, which have rows; then one task at each index of ``rowless``: all of these are ``waiting``, but for
    their index.
    """

    skipped: int
    tasks: Sequence[Task]
    rowless: Sequence[int]
    waiting: Task


def first_from(connection: Connection, execution: Execution, skipped: int, count: int) -> FirstTasks:
    """The first ``count`` tasks but the first ``skipped``, all of which must have rows.

    One statement, by primary key; of a rerun three.
    """
    count = min(count, execution.stats.total)
    with_rows = min(count, execution.next_index)
    return FirstTasks(
        skipped=skipped,
        tasks=tasks_at(connection, execution, skipped, with_rows),
        rowless=ranges.indices(connection, execution, with_rows, count) if with_rows < count else (),
        waiting=_rowless(execution, 0, rowless_state(execution.state)),
    )


def first_tasks(connection: Connection, executions: Sequence[Execution], count: int) -> dict[ExecutionKey, list[Task]]:
    """The first ``count`` tasks of each execution, in order. Two statements at most, by primary keys."""
    reruns = [execution for execution in executions if execution.origin is not None]
    mapped = ranges.by_position(connection, {execution.key: (0, count) for execution in reruns})
    wanted = {
        execution.key: mapped.get(execution.key, range(min(count, execution.stats.total))) for execution in executions
    }
    last = pairs((key, indices[-1]) for key, indices in wanted.items() if indices)
    rows = _FIRST_OF_EACH.run(connection, {"pairs": last})
    by_execution: dict[int, list[AnyRow]] = {}
    for row in rows:
        by_execution.setdefault(row[-1], []).append(row)
    return {
        execution.key: _tasks(execution, wanted[execution.key], by_execution.get(execution.key, []))
        for execution in executions
    }


def find(connection: Connection, execution: Execution, index: int) -> Task:
    """One task, by its index. Two statements at most, by primary keys. Raises NotFound."""
    if execution.origin is None:
        known = 0 <= index < execution.stats.total
    else:
        known = bool(ranges.by_index(connection, execution.key, index, index + 1))
    if not known:
        raise NotFound(f"no task {index} in execution {execution.id!r}")
    return tasks_of(connection, execution, [index])[0]


def tasks_at(connection: Connection, execution: Execution, low: int, high: int) -> list[Task]:
    """The tasks at the positions ``low`` <= p < ``high``, in order. Two statements at most, by primary keys."""
    return tasks_of(connection, execution, ranges.indices(connection, execution, low, high))


def tasks_among(connection: Connection, execution: Execution, indices: Sequence[int]) -> list[Task]:
    """The tasks at ``indices``, wherever they are, in this order. One statement, by primary key."""
    rows = _AMONG.run(connection, {"pairs": pairs((execution.key, index) for index in indices)})
    return _tasks(execution, indices, rows)


def tasks_of(connection: Connection, execution: Execution, indices: Sequence[int]) -> list[Task]:
    """The tasks at neighbouring ``indices`` of an execution, in order. One statement, by primary key."""
    if not indices:
        return []
    rows = _BETWEEN.run(connection, {"execution": execution.key, "low": indices[0], "high": indices[-1]})
    return _tasks(execution, indices, rows)


def _tasks(execution: Execution, indices: Sequence[int], rows: Iterable[AnyRow]) -> list[Task]:
    waiting_as = rowless_state(execution.state)
    with_rows = {row[0]: _task(execution, waiting_as, row) for row in rows}
    return [with_rows.get(index) or _rowless(execution, index, waiting_as) for index in indices]


def _task(execution: Execution, waiting_as: TaskState, row: AnyRow) -> Task:
    """``waiting_as``: what a task of the execution is that has no row."""
    # taken apart at once: a look-up of each name would take as long as all the rest
    index, word, attempt, why, message, exit_code, signal, has_result, *times = row[: len(_COLUMNS)]
    created_at, started_at, ended_at, updated_at = times
    state = _STATES[word]
    reason = _REASONS[why] if why else None
    if state is TaskState.PENDING and waiting_as is TaskState.CANCELLED:
        reason, said = execution.cut_short
        state, ended_at = waiting_as, execution.completed_at
        message = f"{said} before this task was tried again, after: {message}"
    elif state is TaskState.PENDING and attempt > 0:
        reason = Reason.RETRYING
    return Task(
        index=index,
        state=state,
        attempts=attempt,
        reason=reason,
        message=message,
        exit_code=exit_code,
        signal=signal,
        has_result=bool(has_result),
        created_at=created_at,
        started_at=started_at,
        completed_at=ended_at,
        updated_at=updated_at,
    )


def _rowless(execution: Execution, index: int, state: TaskState) -> Task:
    cancelled = state is TaskState.CANCELLED
    reason, said = execution.cut_short
    return Task(
        index=index,
        state=state,
        attempts=0,
        reason=reason if cancelled else None,
        message=f"{said} before this task began" if cancelled else "",
        exit_code=None,
        signal=None,
        has_result=False,
        created_at=execution.created_at,
        started_at=None,
        completed_at=execution.completed_at if cancelled else None,
        updated_at=execution.updated_at if cancelled else execution.created_at,
    )
