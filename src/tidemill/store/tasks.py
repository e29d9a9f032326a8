"""Tasks of an execution as they are read: those with rows, and those that need none yet."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from tidemill.model.errors import NotFound
from tidemill.model.execution import Execution, Reason, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TaskState, rowless_state
from tidemill.store import ranges, schema
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs
from tidemill.store.schema import AnyRow

_TASK: Final = schema.task.c
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    _TASK.execution,
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

# a look-up is ten times as fast as a call of the enum
_STATES: Final = {state.value: state for state in TaskState}


def first_tasks(connection: Connection, executions: Sequence[Execution], count: int) -> dict[ExecutionKey, list[Task]]:
    """The first ``count`` tasks of each execution, in order. Two statements at most, by primary keys."""
    reruns = [execution for execution in executions if execution.origin is not None]
    mapped = ranges.by_position(connection, {execution.key: (0, count) for execution in reruns})
    wanted = {
        execution.key: mapped.get(execution.key, range(min(count, execution.stats.total))) for execution in executions
    }
    rows = connection.execute(
        select(*_COLUMNS)
        .select_from(PAIRS)
        .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx <= SECOND))
        .order_by(_TASK.execution, _TASK.idx),
        {"pairs": pairs((key, indices[-1]) for key, indices in wanted.items() if indices)},
    )
    by_execution: dict[int, dict[int, AnyRow]] = {}
    for row in rows:
        by_execution.setdefault(row.execution, {})[row.idx] = row
    return {
        execution.key: [
            _task(execution, index, by_execution.get(execution.key, {}).get(index)) for index in wanted[execution.key]
        ]
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
    rows = connection.execute(
        select(*_COLUMNS).select_from(PAIRS).join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx == SECOND)),
        {"pairs": pairs((execution.key, index) for index in indices)},
    )
    by_index = {row.idx: row for row in rows}
    return [_task(execution, index, by_index.get(index)) for index in indices]


def tasks_of(connection: Connection, execution: Execution, indices: Sequence[int]) -> list[Task]:
    """The tasks at neighbouring ``indices`` of an execution, in order. One statement, by primary key."""
    if not indices:
        return []
    rows = connection.execute(
        select(*_COLUMNS)
        .where(_TASK.execution == execution.key, _TASK.idx >= indices[0], _TASK.idx <= indices[-1])
        .order_by(_TASK.idx)
    )
    by_index = {row.idx: row for row in rows}
    return [_task(execution, index, by_index.get(index)) for index in indices]


def _task(execution: Execution, index: int, row: AnyRow | None) -> Task:
    if row is None:
        return _rowless(execution, index, rowless_state(execution.state))
    state, waiting_as = _STATES[row.state], rowless_state(execution.state)
    if state is TaskState.PENDING and waiting_as is TaskState.CANCELLED:
        reason: Reason | None = Reason.CANCELLED
        state, ended_at = waiting_as, execution.completed_at
        message = f"the execution was cancelled before this task was tried again, after: {row.message}"
    else:
        reason = Reason(row.reason) if row.reason else None
        ended_at, message = row.ended_at, row.message
    if state is TaskState.PENDING and row.attempt > 0:
        reason = Reason.RETRYING
    return Task(
        index=index,
        state=state,
        attempts=row.attempt,
        reason=reason,
        message=message,
        exit_code=row.exit_code,
        signal=row.signal,
        has_result=bool(row.has_result),
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=ended_at,
        updated_at=row.updated_at,
    )


def _rowless(execution: Execution, index: int, state: TaskState) -> Task:
    cancelled = state is TaskState.CANCELLED
    return Task(
        index=index,
        state=state,
        attempts=0,
        reason=Reason.CANCELLED if cancelled else None,
        message="the execution was cancelled before this task began" if cancelled else "",
        exit_code=None,
        signal=None,
        has_result=False,
        created_at=execution.created_at,
        started_at=None,
        completed_at=execution.completed_at if cancelled else None,
        updated_at=execution.updated_at if cancelled else execution.created_at,
    )
