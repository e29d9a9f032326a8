"""Tasks of an execution as they are read: those with rows, and those that need none yet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from tidemill.model.execution import Execution, Reason, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TaskState, rowless_state
from tidemill.store import schema
from tidemill.store.schema import AnyRow

NAME_PREFIX: Final = "task-"

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
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """Which tasks of an execution, by index. ``after`` is the last index seen, exclusive; None at the beginning.

    ``text`` is a part of the name ``task-INDEX``, in lower case; empty for no filter. Empty ``states``: all.
    """

    descending: bool = False
    after: int | None = None
    text: str = ""
    states: frozenset[TaskState] = frozenset()
    limit: int = 50


def find_page(connection: Connection, execution: Execution, page: TaskPage) -> list[Task]:
    """Up to ``page.limit`` tasks in the order of their index. One statement per 1,000 rows looked at, by primary key.

    Without filters that is one. With filters it may walk the whole execution: bounded by its million tasks.
    """
    found: list[Task] = []
    for indices in _spans(execution.stats.total, page):
        found.extend(_filtered(connection, execution, page, indices))
        if len(found) >= page.limit:
            break
    return found[: page.limit]


def first_tasks(connection: Connection, executions: Sequence[Execution], count: int) -> dict[ExecutionKey, list[Task]]:
    """The first ``count`` tasks of each execution, in order. One statement, by primary key."""
    rows = connection.execute(
        select(*_COLUMNS)
        .where(_TASK.execution.in_([execution.key for execution in executions]), _TASK.idx < count)
        .order_by(_TASK.execution, _TASK.idx)
    )
    by_execution: dict[int, dict[int, AnyRow]] = {}
    for row in rows:
        by_execution.setdefault(row.execution, {})[row.idx] = row
    return {
        execution.key: [
            _task(execution, index, by_execution.get(execution.key, {}).get(index))
            for index in range(min(count, execution.stats.total))
        ]
        for execution in executions
    }


def tasks_between(connection: Connection, execution: Execution, low: int, high: int) -> list[Task]:
    """The tasks with ``low`` <= index < ``high``, in order. One statement, by primary key."""
    rows = connection.execute(
        select(*_COLUMNS)
        .where(_TASK.execution == execution.key, _TASK.idx >= low, _TASK.idx < high)
        .order_by(_TASK.idx)
    )
    by_index = {row.idx: row for row in rows}
    return [_task(execution, index, by_index.get(index)) for index in range(low, min(high, execution.stats.total))]


def _spans(total: int, page: TaskPage) -> Iterator[range]:
    """The indices after ``page.after`` in the page's order, cut into pieces."""
    size = _BATCH if page.states or page.text else page.limit
    if page.descending:
        high = total if page.after is None else min(page.after, total)
        while high > 0:
            yield range(high - 1, max(high - size, 0) - 1, -1)
            high -= size
    else:
        low = 0 if page.after is None else page.after + 1
        while low < total:
            yield range(low, min(low + size, total))
            low += size


def _filtered(connection: Connection, execution: Execution, page: TaskPage, indices: range) -> Iterable[Task]:
    named = [index for index in indices if page.text in f"{NAME_PREFIX}{index}"] if page.text else indices
    if not named:
        return []
    low, high = min(named[0], named[-1]), max(named[0], named[-1])
    # past the last row nothing needs to be read, and all are in the same state
    if low >= execution.next_index and page.states and rowless_state(execution.state) not in page.states:
        return []
    tasks = {task.index: task for task in tasks_between(connection, execution, low, high + 1)}
    return [tasks[index] for index in named if not page.states or tasks[index].state in page.states]


def _task(execution: Execution, index: int, row: AnyRow | None) -> Task:
    waiting_as = rowless_state(execution.state)
    if row is None:
        return _rowless(execution, index, waiting_as)
    state = TaskState(row.state)
    if state is TaskState.PENDING and waiting_as is TaskState.CANCELLED:
        reason: Reason | None = Reason.CANCELLED
        state, ended_at = waiting_as, execution.completed_at
    else:
        reason = Reason(row.reason) if row.reason else None
        ended_at = row.ended_at
    if state is TaskState.PENDING and row.attempt > 0:
        reason = Reason.RETRYING
    return Task(
        index=index,
        state=state,
        attempts=row.attempt,
        reason=reason,
        message=row.message,
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
