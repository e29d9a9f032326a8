"""Executions together with their tasks, both as they are at one moment: what an answer shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from tidemill.model.execution import Execution, Task
from tidemill.store import executions, reruns, task_pages, tasks
from tidemill.store.executions import ExecutionPage
from tidemill.store.task_pages import TaskPage


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An execution and some of its tasks; asked for alone, also the ids of its first reruns."""

    execution: Execution
    tasks: Sequence[Task]
    reruns: Sequence[str] = ()


def find(
    connection: Connection, workspace: str, text: str, job: str | None, *, tasks_shown: int, reruns_shown: int
) -> Shown:
    """An execution by its id or a unique prefix, with its first tasks and reruns. Seven statements at most.

    Raises NotFound, Invalid for several.
    """
    execution = executions.find(connection, workspace, text, job)
    return Shown(
        execution=execution,
        tasks=tasks.first_tasks(connection, [execution], tasks_shown)[execution.key],
        reruns=reruns.find_ids(connection, execution, reruns_shown),
    )


def find_page(connection: Connection, page: ExecutionPage, *, tasks_shown: int) -> list[Shown]:
    """Executions of a job in order, with their first tasks. Three statements at most."""
    found = executions.find_page(connection, page)
    by_key = tasks.first_tasks(connection, found, tasks_shown)
    return [Shown(execution=execution, tasks=by_key[execution.key]) for execution in found]


def find_tasks(connection: Connection, workspace: str, text: str, job: str, page: TaskPage) -> Shown:
    """An execution by its id or a unique prefix, with a page of its tasks. Four statements before those of the page.

    Raises NotFound, Invalid for several.
    """
    execution = executions.find(connection, workspace, text, job)
    return Shown(execution=execution, tasks=task_pages.find_page(connection, execution, page))
