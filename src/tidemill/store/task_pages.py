"""Pages of an execution's tasks, by index: what a page costs follows its length, never how many tasks there are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final

from sqlalchemy import Connection, Select, select, union_all

from tidemill.model.execution import Execution, Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TaskState, rowless_state
from tidemill.store import ranges, schema, tasks
from tidemill.store.keys import FIRST, PAIRS, SECOND, THIRD, pairs
from tidemill.store.task_names import runs

_TASK: Final = schema.task.c
# what one statement looks at: few runs of indices at first, which mostly fill a page; and so many indices in all
_FIRST_RUNS: Final = 250
_MOST_RUNS: Final = 4_000
_INDICES: Final = 10_000
_BEHIND_ALL: Final = 1 << 31


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
    """Up to ``page.limit`` tasks in the order of their index. ``execution`` is as it is in this transaction.

    One statement without filters, by primary key, and two with ``states``, by task_state; a rerun takes up to three
    more, by task_range_index. Where ``text`` meets ``states`` or a rerun there is a further one for each 10,000 indices
    or some thousands of their runs that it finds in vain: about ten in a million tasks.
    """
    span = _span(connection, execution, page)
    indices = _in_states(connection, execution, span, page) if page.states else _own(connection, execution, span)
    return tasks.tasks_among(connection, execution, list(islice(indices, page.limit)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """The indices ``low`` <= i < ``high`` that ``text`` finds, in a page's order."""

    low: int
    high: int
    text: str
    descending: bool

    def runs(self) -> Iterator[range]:
        return runs(self.text, self.low, self.high, descending=self.descending)

    def batches(self) -> Iterator[list[range]]:
        """The runs, as many as one statement shall look at, each time twice as many. A long one is alone."""
        held, size, most = list[range](), 0, _FIRST_RUNS
        for run in self.runs():
            if held and (len(held) == most or size + len(run) > _INDICES):
                yield held
                held, size, most = [], 0, min(2 * most, _MOST_RUNS)
            held.append(run)
            size += len(run)
        if held:
            yield held


def _span(connection: Connection, execution: Execution, page: TaskPage) -> _Span:
    low, high = 0, execution.stats.total
    if execution.origin is not None:
        # a text finds without end: what it finds behind a rerun's last index would be looked up in vain
        high = ranges.end(connection, execution) if page.text else _BEHIND_ALL
    if page.after is not None and page.descending:
        high = min(high, page.after)
    elif page.after is not None:
        low = page.after + 1
    return _Span(low=low, high=high, text=page.text, descending=page.descending)


def _own(connection: Connection, execution: Execution, span: _Span) -> Iterator[int]:
    """The indices of ``span`` that an execution has, in order."""
    if execution.origin is None:
        yield from _indices(span, span.runs())
        return
    for batch in span.batches():
        rest = batch
        while rest:
            found, rest = ranges.within(connection, execution.key, rest, descending=span.descending)
            yield from _indices(span, found)


def _in_states(connection: Connection, execution: Execution, span: _Span, page: TaskPage) -> Iterator[int]:
    """The indices of ``span`` of tasks that read as one of the page's states, in order."""
    waiting = rowless_state(execution.state)
    kept = page.states - {TaskState.PENDING} | ({TaskState.PENDING} if waiting in page.states else frozenset())
    rows = _rows(connection, execution, span, sorted(kept), page.limit)
    if waiting not in page.states or execution.next_index >= execution.stats.total:
        return rows
    first = ranges.indices(connection, execution, execution.next_index, execution.next_index + 1)[0]
    rowless = _own(connection, execution, replace(span, low=max(span.low, first)))
    # claims are given in the order of indices, so that all rows lie below
    return chain(rowless, rows) if span.descending else chain(rows, rowless)


def _rows(
    connection: Connection, execution: Execution, span: _Span, states: Sequence[TaskState], limit: int
) -> Iterator[int]:
    """The indices of ``span`` that have a row in one of ``states``, in order; up to ``limit`` of each batch."""
    for batch in span.batches() if states else ():
        if len(batch) == 1:
            query = _in_run(execution.key, batch[0], states, span, limit)
        else:
            query = _in_runs(states, span, limit)
        found = connection.execute(query, {"pairs": pairs((execution.key, run.start, run.stop) for run in batch)})
        yield from found.scalars()


def _in_run(execution: ExecutionKey, run: range, states: Sequence[TaskState], span: _Span, limit: int) -> Select[int]:
    """Each state's first indices are read from its part of the index, and no more: they are put in order together."""
    own = (_TASK.execution == execution, _TASK.idx >= run.start, _TASK.idx < run.stop)
    order = _TASK.idx.desc() if span.descending else _TASK.idx
    parts = [
        select(select(_TASK.idx).where(*own, _TASK.state == state.value).order_by(order).limit(limit).subquery())
        for state in states
    ]
    found = union_all(*parts).subquery()
    return select(found.c.idx).order_by(found.c.idx.desc() if span.descending else found.c.idx).limit(limit)


def _in_runs(states: Sequence[TaskState], span: _Span, limit: int) -> Select[int]:
    """Of many short runs: all that they hold is read, and put in order."""
    return (
        select(_TASK.idx)
        .select_from(PAIRS)
        .join(schema.task, (_TASK.execution == FIRST) & (_TASK.idx >= SECOND) & (_TASK.idx < THIRD))
        .where(_TASK.state.in_([state.value for state in states]))
        .order_by(_TASK.idx.desc() if span.descending else _TASK.idx)
        .limit(limit)
    )


def _indices(span: _Span, found: Iterable[range]) -> Iterator[int]:
    return chain.from_iterable(reversed(run) if span.descending else run for run in found)
