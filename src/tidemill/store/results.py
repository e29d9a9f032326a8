"""Results of tasks, read in pages that are bounded in tasks and in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, func, select

from tidemill.model.execution import Execution, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TASK_FINAL, TaskState, rowless_state
from tidemill.store import executions, ranges, schema, tasks
from tidemill.store.keys import FIRST, PAIRS, SECOND, pairs

PAGE_TASKS: Final = 500
PAGE_BYTES: Final = 4 << 20

_RESULT: Final = schema.result.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task, ended but in a chain's results, and the JSON text that it left (None when it left none).

    ``execution`` is the id of the one of the chain that it is a task of, empty in results of one execution.
    """

    task: Task
    result: bytes | None = field(repr=False)
    execution: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPage:
    """Ended tasks in the order of their index; ``next_position`` is where the next page begins.

    ``stopped`` says that the task at ``next_position`` has not ended, and that the caller asked to stop there.
    """

    ended: tuple[Ended, ...]
    next_position: int
    stopped: bool = False


def read_page(connection: Connection, key: ExecutionKey, first: int, *, stop_at_open: bool) -> ResultPage:
    """Tasks from position ``first`` on that have ended: at most 500 tasks looked at, and about 4 MiB of results.

    Tasks that have not ended are left out, or with ``stop_at_open`` end the page. Five statements at most, by primary
    keys.
    """
    execution = executions.find_by_key(connection, key)
    if first >= execution.next_index and rowless_state(execution.state) is TaskState.PENDING:
        # none of what is left has begun, be it a million
        return ResultPage(
            ended=(), next_position=first if stop_at_open else execution.stats.total, stopped=stop_at_open
        )
    looked_at = tasks.tasks_at(connection, execution, first, first + PAGE_TASKS)
    stopped = False
    if stop_at_open:
        waiting = next((place for place, task in enumerate(looked_at) if task.state not in TASK_FINAL), None)
        if waiting is not None:
            looked_at, stopped = looked_at[:waiting], True
    wanted = [(int(key), task.index) for task in looked_at if task.has_result]
    data, refused = _data(connection, wanted)
    cut = next((place for place, task in enumerate(looked_at) if (key, task.index) == refused), len(looked_at))
    found = [task for task in looked_at[:cut] if task.state in TASK_FINAL]
    return ResultPage(
        ended=tuple(Ended(task=task, result=data.get((key, task.index))) for task in found),
        next_position=first + cut,
        stopped=stopped and cut == len(looked_at),
    )


def read_chain(connection: Connection, chain: ExecutionKey, first: int) -> ResultPage:
    """Every index from ``first`` on over a chain of reruns: 500 tasks at most, and about 4 MiB of results.

    Of each index the newest success, else how it is in the newest execution that has it. Three statements and two for
    each execution of the chain, newest first, until all have succeeded; by execution_chain and primary keys.
    """
    best: dict[int, tuple[Execution, Task]] = {}
    missing = set(range(first, first + PAGE_TASKS))
    for execution in executions.find_chain(connection, chain):
        for task in _within(connection, execution, first, first + PAGE_TASKS):
            if task.state is TaskState.SUCCEEDED and task.index in missing:
                missing.discard(task.index)
                best[task.index] = (execution, task)
            best.setdefault(task.index, (execution, task))
        if not missing:
            break
    wanted = [(int(execution.key), index) for index, (execution, task) in sorted(best.items()) if task.has_result]
    data, refused = _data(connection, wanted)
    end = first + PAGE_TASKS if refused is None else refused[1]
    return ResultPage(
        ended=tuple(
            Ended(task=task, result=data.get((execution.key, index)), execution=execution.id)
            for index, (execution, task) in sorted(best.items())
            if index < end
        ),
        next_position=end,
    )


def _within(connection: Connection, execution: Execution, low: int, high: int) -> list[Task]:
    """The tasks of an execution with ``low`` <= index < ``high``."""
    if execution.origin is None:
        return tasks.tasks_at(connection, execution, low, high)
    return tasks.tasks_of(connection, execution, ranges.by_index(connection, execution.key, low, high))


def _data(
    connection: Connection, wanted: Sequence[tuple[int, int]]
) -> tuple[dict[tuple[int, int], bytes], tuple[int, int] | None]:
    """Results by (execution, index), and the first of them that the page has no room for; one is always taken."""
    if not wanted:
        return {}, None
    own = (_RESULT.execution == FIRST) & (_RESULT.idx == SECOND)
    sizes = connection.execute(
        select(_RESULT.execution, _RESULT.idx, func.length(_RESULT.data).label("size"))
        .select_from(PAIRS)
        .join(schema.result, own),
        {"pairs": pairs(wanted)},
    )
    size_of = {(row.execution, row.idx): row.size for row in sizes}
    taken = list[tuple[int, int]]()
    total, refused = 0, None
    for pair in wanted:
        total += size_of.get(pair, 0)
        if taken and total > PAGE_BYTES:
            refused = pair
            break
        taken.append(pair)
    rows = connection.execute(
        select(_RESULT.execution, _RESULT.idx, _RESULT.data).select_from(PAIRS).join(schema.result, own),
        {"pairs": pairs(taken)},
    )
    return {(row.execution, row.idx): row.data for row in rows}, refused
