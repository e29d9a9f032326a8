"""Which tasks a rerun has: ranges of its chain's indices, numbered through by position.

A position counts an execution's own tasks from 0 on. Where an execution is no rerun, position and index are the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Integer, cast, exists, func, insert, literal, select, true

from tidemill.model.execution import Execution
from tidemill.model.ids import ExecutionKey
from tidemill.store import schema
from tidemill.store.cut import Kind, cut
from tidemill.store.keys import FIRST, PAIRS, SECOND, THIRD, pairs

_RANGE: Final = schema.task_range.c
_RANGES_READ: Final = 1_000
RANGES: Final = Kind(table=schema.task_range, key=(_RANGE.execution, _RANGE.first_position))


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Indices ``first_index`` .. ``first_index + count - 1`` at the positions from ``first_position`` on."""

    first_position: int
    first_index: int
    count: int


def number(runs: Iterable[tuple[int, int]]) -> Iterator[Range]:
    """Ranges of (first index, count), which must come in order; neighbours become one."""
    position, first, count = 0, 0, 0
    for run_first, run_count in runs:
        if count and run_first == first + count:
            count += run_count
            continue
        if count:
            yield Range(first_position=position, first_index=first, count=count)
        position, first, count = position + count, run_first, run_count
    if count:
        yield Range(first_position=position, first_index=first, count=count)


def add(connection: Connection, execution: ExecutionKey, ranges: Sequence[Range]) -> None:
    """Write ranges of an execution that is yet to be made. One statement; the caller keeps it under 4 MiB."""
    connection.execute(
        insert(schema.task_range),
        [
            {
                "execution": execution,
                "first_position": one.first_position,
                "first_index": one.first_index,
                "count": one.count,
            }
            for one in ranges
        ],
    )


def by_position(connection: Connection, spans: Mapping[int, tuple[int, int]]) -> dict[int, list[int]]:
    """The indices at the positions ``low`` <= p < ``high`` of each execution that has ranges, in order.

    One statement for all, by primary key: it reads the ranges around the positions and no others.
    """
    found: dict[int, list[int]] = {key: [] for key in spans}
    for key, one in _around(connection, spans, _RANGE.first_position):
        low, high = spans[key]
        skipped = max(low - one.first_position, 0)
        end = min(high - one.first_position, one.count)
        found[key].extend(range(one.first_index + skipped, one.first_index + end))
    return found


def by_index(connection: Connection, execution: ExecutionKey, low: int, high: int) -> list[int]:
    """The indices ``low`` <= index < ``high`` that a rerun has, in order. One statement, by task_range_index."""
    found: list[int] = []
    for _, one in _around(connection, {execution: (low, high)}, _RANGE.first_index):
        found.extend(range(max(low, one.first_index), min(high, one.first_index + one.count)))
    return found


def indices(connection: Connection, execution: Execution, low: int, high: int) -> Sequence[int]:
    """The indices of an execution's tasks at the positions ``low`` <= p < ``high``. One statement at most."""
    if execution.origin is None:
        return range(low, min(high, execution.stats.total))
    return by_position(connection, {execution.key: (low, high)})[execution.key]


def within(
    connection: Connection, execution: ExecutionKey, spans: Sequence[range], *, descending: bool
) -> tuple[list[range], list[range]]:
    """The indices that a rerun has within ``spans``, which come in order, with ``descending`` from the highest down.

    They come in the same order, as far as the first 1,000 ranges tell; the second value is what is left of ``spans``,
    to be asked for next. One statement, by task_range_index.
    """
    one = len(spans) == 1
    # of a single span the index has the ranges in order; of several they are few enough to be sorted
    owner: ColumnElement[int]
    low: ColumnElement[int]
    high: ColumnElement[int]
    if one:
        owner, low, high = literal(int(execution)), literal(spans[0].start), literal(spans[0].stop)
    else:
        owner, low, high = FIRST, SECOND, THIRD
    keys = (_RANGE.first_index.desc(), low.desc()) if descending else (_RANGE.first_index, low)
    query = (
        select(_RANGE.first_index, _RANGE.count.label("size"), low.label("low"), high.label("high"))
        .where(
            _RANGE.execution == owner,
            _RANGE.first_index >= _last_before(owner, _RANGE.first_index, low),
            _RANGE.first_index < high,
            _RANGE.first_index + _RANGE.count > low,
        )
        .order_by(*keys[: 1 if one else 2])
        .limit(_RANGES_READ)
    )
    query = query.select_from(schema.task_range) if one else query.select_from(PAIRS).join(schema.task_range, true())
    rows = connection.execute(
        query, {} if one else {"pairs": pairs((execution, span.start, span.stop) for span in spans)}
    )
    found = [range(max(row.first_index, row.low), min(row.first_index + row.size, row.high)) for row in rows]
    if len(found) < _RANGES_READ:
        return found, []
    seen = found[-1]
    if descending:
        return found, [range(span.start, min(span.stop, seen.start)) for span in spans if span.start < seen.start]
    return found, [range(max(span.start, seen.stop), span.stop) for span in spans if span.stop > seen.stop]


def end(connection: Connection, execution: Execution) -> int:
    """One more than the highest index of a rerun's tasks. One statement, by task_range_index."""
    row = connection.execute(
        select(_RANGE.first_index, _RANGE.count.label("size"))
        .where(_RANGE.execution == execution.key)
        .order_by(_RANGE.first_index.desc())
        .limit(1)
    ).one()
    return int(row.first_index + row.size)


def position(connection: Connection, execution: Execution, index: int) -> int:
    """How many tasks of an execution have an index below ``index``. One statement at most, by task_range_index."""
    if execution.origin is None:
        return min(max(index, 0), execution.stats.total)
    row = connection.execute(
        select(_RANGE.first_position, _RANGE.first_index, _RANGE.count.label("size"))
        .where(_RANGE.execution == execution.key, _RANGE.first_index <= index)
        .order_by(_RANGE.first_index.desc())
        .limit(1)
    ).one_or_none()
    return 0 if row is None else int(row.first_position + min(index - row.first_index, row.size))


def find_unmade(connection: Connection, after: int, before: int) -> ExecutionKey | None:
    """The first execution with a key between these that has ranges and was never made. One statement.

    It steps over the primary key from execution to execution, not from row to row.
    """
    step = select(func.min(_RANGE.execution).label("key")).where(_RANGE.execution >= after).cte("step", recursive=True)
    following = select(func.min(_RANGE.execution)).where(_RANGE.execution > step.c.key).scalar_subquery()
    step = step.union_all(select(following).where(step.c.key < before))
    made = exists().where(schema.execution.c.key == step.c.key)
    key = connection.scalar(select(step.c.key).where(step.c.key < before, ~made).limit(1))
    return None if key is None else ExecutionKey(key)


def drop_unmade(connection: Connection, execution: ExecutionKey, limit: int) -> int:
    """Delete up to ``limit`` ranges of an execution that is not there; how many. Four statements at most."""
    if connection.scalar(select(schema.execution.c.key).where(schema.execution.c.key == execution)) is not None:
        return 0
    return limit - cut(connection, RANGES, [execution], limit)[1]


def _around(
    connection: Connection, spans: Mapping[int, tuple[int, int]], column: ColumnElement[int]
) -> list[tuple[int, Range]]:
    """Ranges that reach into spans of positions or of indices, and at most one before each that does not."""
    if not spans:
        return []
    rows = connection.execute(
        select(_RANGE.execution, _RANGE.first_position, _RANGE.first_index, _RANGE.count.label("size"))
        .select_from(PAIRS)
        .join(
            schema.task_range,
            (_RANGE.execution == FIRST) & (column >= _last_before(FIRST, column, SECOND)) & (column < THIRD),
        )
        .order_by(_RANGE.execution, column),
        {"pairs": pairs((key, low, high) for key, (low, high) in spans.items())},
    )
    return [
        (row.execution, Range(first_position=row.first_position, first_index=row.first_index, count=row.size))
        for row in rows
    ]


def _last_before(
    execution: ColumnElement[int], column: ColumnElement[int], value: ColumnElement[int]
) -> ColumnElement[int]:
    """The highest first position or first index of an execution's ranges that is not above ``value``, else 0."""
    inner = schema.task_range.alias("before")
    before = (
        select(func.max(inner.c[column.key]))  # type: ignore[index]  # a column of the table has a key
        .where(inner.c.execution == execution, inner.c[column.key] <= value)  # type: ignore[index]
        .correlate(PAIRS)
        .scalar_subquery()
    )
    return func.coalesce(before, cast(literal(0), Integer))
