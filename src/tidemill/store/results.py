"""Results of tasks, read in pages that are bounded in tasks and in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, func, select

from tidemill.model.execution import Execution, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TASK_FINAL
from tidemill.store import executions, schema, tasks

PAGE_TASKS: Final = 500
PAGE_BYTES: Final = 4 << 20

_RESULT: Final = schema.result.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task that has ended, and the JSON text that it left (None when it left none)."""

    task: Task
    result: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPage:
    """Ended tasks in the order of their index; ``next_index`` is where the next page begins.

    ``stopped`` says that the task at ``next_index`` has not ended, and that the caller asked to stop there.
    """

    ended: tuple[Ended, ...]
    next_index: int
    stopped: bool = False


def read_page(connection: Connection, key: ExecutionKey, first: int, *, stop_at_open: bool) -> ResultPage:
    """Tasks from index ``first`` on that have ended: at most 500 tasks looked at, and about 4 MiB of results.

    Tasks that have not ended are left out, or with ``stop_at_open`` end the page. Four statements, by primary keys.
    """
    execution = executions.find_by_key(connection, key)
    looked_at = tasks.tasks_between(connection, execution, first, first + PAGE_TASKS)
    end = first + len(looked_at)
    stopped = False
    if stop_at_open:
        waiting = next((task.index for task in looked_at if task.state not in TASK_FINAL), None)
        if waiting is not None:
            end, stopped = waiting, True
    cut = _cut_by_size(connection, execution, first, end)
    found = [task for task in looked_at if task.index < cut and task.state in TASK_FINAL]
    data = _data(connection, execution, [task.index for task in found if task.has_result])
    return ResultPage(
        ended=tuple(Ended(task=task, result=data.get(task.index)) for task in found),
        next_index=cut,
        stopped=stopped and cut == end,
    )


def _cut_by_size(connection: Connection, execution: Execution, first: int, end: int) -> int:
    """Up to which index (exclusive) results stay under the page's bytes; at least one task is taken."""
    sizes = connection.execute(
        select(_RESULT.idx, func.length(_RESULT.data))
        .where(_RESULT.execution == execution.key, _RESULT.idx >= first, _RESULT.idx < end)
        .order_by(_RESULT.idx)
    )
    total = 0
    for index, size in sizes:
        total += size
        if total > PAGE_BYTES and index > first:
            return int(index)
    return end


def _data(connection: Connection, execution: Execution, indices: Sequence[int]) -> dict[int, bytes]:
    if not indices:
        return {}
    rows = connection.execute(
        select(_RESULT.idx, _RESULT.data).where(
            _RESULT.execution == execution.key, _RESULT.idx >= indices[0], _RESULT.idx <= indices[-1]
        )
    )
    return {row.idx: row.data for row in rows}
