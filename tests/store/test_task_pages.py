"""Pages of tasks: the same as reading every task, at a price that does not follow how many there are."""

import random
from typing import Final

import pytest
from sqlalchemy import Connection, insert, update

from tidemill.model.execution import Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import ExecutionState, TaskState
from tidemill.store import executions, ranges, task_pages, tasks
from tidemill.store.schema import execution as execution_table
from tidemill.store.schema import task as task_table
from tidemill.store.task_pages import TaskPage
from tidemill.testing.sim import BEGINNING, Given, Sim

STATES: Final = tuple(TaskState)
ENDED: Final = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})


def filled(
    sim: Sim, indices: list[int], rows: dict[int, TaskState], *, state: ExecutionState, rerun: bool
) -> ExecutionKey:
    """An execution that has tasks at ``indices``, the first of them with rows as told."""
    key = sim.submit(Given(tasks=1))
    values = [
        {
            "execution": key,
            "idx": index,
            "state": rows[index].value,
            "attempt": 1,
            "created_at": BEGINNING,
            "updated_at": BEGINNING,
            "ended_at": BEGINNING if rows[index] in ENDED else None,
        }
        for index in sorted(rows)
    ]

    def write(connection: Connection) -> None:
        if values:
            connection.execute(insert(task_table), values)
        change: dict[str, object] = {"total": len(indices), "next_index": len(rows), "state": state.value}
        if rerun:
            numbered = list(ranges.number((index, 1) for index in indices))
            ranges.add(connection, key, numbered)
            change["origin"] = key
        connection.execute(update(execution_table).where(execution_table.c.key == key).values(change))

    sim.database.write(write)
    return key


def wanted(every: list[Task], page: TaskPage) -> list[Task]:
    """The page, from all tasks."""
    found = [
        task for task in every if page.text in f"task-{task.index}" and (not page.states or task.state in page.states)
    ]
    if page.descending:
        behind = [task for task in found[::-1] if page.after is None or task.index < page.after]
    else:
        behind = [task for task in found if page.after is None or task.index > page.after]
    return behind[: page.limit]


# the last ones cross what one statement looks at: some thousands of runs, 10,000 indices, 1,000 ranges
@pytest.mark.parametrize(
    ("seed", "total"),
    [*((seed, (1, 20, 700)[seed % 3]) for seed in range(36)), (100, 30_000), (103, 30_000)],
)
def test_a_page_is_what_reading_every_task_would_find(sim: Sim, seed: int, total: int) -> None:
    dice = random.Random(seed)
    rerun = dice.random() < 0.6
    indices = sorted(dice.sample(range(total * 2), total)) if rerun else list(range(total))
    with_rows = dice.choice([0, total // 2, total])
    rows = {index: dice.choice(STATES) for index in indices[:with_rows]}
    state = dice.choice([ExecutionState.RUNNING, ExecutionState.CANCELLED])
    key = filled(sim, indices, rows, state=state, rerun=rerun)

    def compare(connection: Connection) -> None:
        execution = executions.find_by_key(connection, key)
        every = tasks.tasks_of(connection, execution, indices)
        for _ in range(30):
            page = TaskPage(
                descending=dice.random() < 0.5,
                after=dice.choice([None, dice.randrange(total * 2)]),
                text=dice.choice(["", "", "1", "12", "99", "00", "119999", "task-1", "-0", "sk-", "none"]),
                states=frozenset(dice.sample(STATES, dice.choice([0, 0, 1, 2, 5]))),
                limit=dice.choice([1, 3, 201]),
            )
            assert task_pages.find_page(connection, execution, page) == wanted(every, page), page

    sim.database.read(compare)
