"""Somebody who follows the events of a workspace page by page, and knows by them alone how things are."""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidemill.model.states import ExecutionState, TaskState, rowless_state
from tidemill.store import events
from tidemill.store.database import Database
from tidemill.store.events import Asked, Page


class Reader:
    """Reads when it is told to, as much as its own dice say, and from where it left off."""

    def __init__(self, database: Database, workspace: str) -> None:
        self._database = database
        self._workspace = workspace
        self._dice = random.Random(workspace)  # noqa: S311 - the same in every replay
        self._after = 0
        self._executions: dict[int, str] = {}
        self._tasks: dict[tuple[int, int], str] = {}

    def read(self) -> Iterator[str]:
        """A page; what is wrong with it."""
        limit = self._dice.choice([1, 2, 5, 20, 1_000])
        asked = Asked(workspace=self._workspace, after=self._after, limit=limit)
        page = self._database.read(lambda connection: events.find_page(connection, asked))
        yield from self._take(page)

    def read_all(self) -> Iterator[str]:
        """Pages to the end of the line."""
        newest = self._database.read(events.newest)
        while self._after < newest:
            yield from self.read()

    def misses(self, executions: Mapping[int, Any], tasks: Iterable[Any]) -> Iterator[str]:
        """I8: what is otherwise than this reader was told."""
        mine = {key: row for key, row in executions.items() if row.workspace == self._workspace}
        for key, row in mine.items():
            if self._executions.get(key) != row.state:
                yield f"I8: execution {key} is {row.state}, its events said {self._executions.get(key)}"
        for row in tasks:
            if row.execution not in mine:
                continue
            told, state = self._tasks.get((row.execution, row.idx)), TaskState(row.state)
            if state is TaskState.PENDING:
                # that it ended with its execution, the execution's event has said
                state = rowless_state(ExecutionState(mine[row.execution].state))
                told = state.value if told == TaskState.PENDING else told
            if told != state:
                yield f"I8: task {row.execution}/{row.idx} is {state}, its events said {told}"

    def _take(self, page: Page) -> Iterator[str]:
        numbers = [change.number for change in page.changes]
        if numbers != sorted(set(numbers)) or any(number <= self._after for number in numbers):
            yield f"I8: after {self._after} came the events {numbers}"
        for change in page.changes:
            if change.task is not None:
                self._tasks[change.key, change.task] = change.status
            elif change.execution:
                self._executions[change.key] = change.status
        self._after = page.after
