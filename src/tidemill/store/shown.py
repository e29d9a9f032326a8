"""Executions together with their tasks, both as they are at one moment: what an answer shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from tidemill.model.execution import Execution, Task
from tidemill.model.ids import ExecutionKey
from tidemill.store import executions, reruns, task_pages, tasks
from tidemill.store.executions import ExecutionPage
from tidemill.store.task_pages import TaskPage
from tidemill.store.tasks import FirstTasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An execution and some of its tasks."""

    execution: Execution
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An execution that was asked for alone: its first tasks, and the ids of its first reruns."""

    execution: Execution
    first: FirstTasks
    reruns: Sequence[str]


def nothing_known(_: ExecutionKey) -> int:
    """For whoever wants all of the first tasks."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of an execution is shown. ``known`` is how many of its first tasks need not be read (``FirstTasks``)."""

    tasks: int
    reruns: int
    known: Callable[[ExecutionKey], int] = nothing_known


def find(connection: Connection, workspace: str, text: str, job: str | None, extent: Extent) -> Opened:
    """An execution by its id or a unique prefix, with its first tasks and reruns. Eight statements at most.

    Raises NotFound, Invalid for several.
    """
    execution = executions.find(connection, workspace, text, job)
    return Opened(
        execution=execution,
        first=tasks.first_from(connection, execution, extent.known(execution.key), extent.tasks),
        reruns=reruns.find_ids(connection, execution, extent.reruns),
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
