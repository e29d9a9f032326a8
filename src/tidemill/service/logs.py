"""Output of tasks and builds, newest line first, out of blocks that may overlap in time."""

import heapq
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill.model.errors import NotFound
from tidemill.model.ids import OwnerKind
from tidemill.model.lease import Severity, Stream
from tidemill.model.principal import Principal
from tidemill.service.parts import Parts
from tidemill.store import executions, log_blocks
from tidemill.store.log_blocks import BlockQuery, BlockRow

MAX_LINES: Final = 10_000

_PAGE_BLOCKS: Final = 200
# what one request may read: about 200 MB of output, a second or two of work
_MAX_BLOCKS_READ: Final = 1_000
_MAX_BLOCKS_COUNTED: Final = 20_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOST: Final = "(the output that belongs here is gone)"
_CUT: Final = "(output was dropped from here on: a limit was reached)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines of a job: between ``since`` and ``until``, both inclusive. The newest ``offset`` ones are skipped.

    ``execution`` is an id or a unique prefix, empty for all of them and the builds. ``search`` is looked for in any
    case. Empty ``severities``: all. ``builds_only`` leaves tasks out.
    """

    job: str
    since: datetime
    until: datetime
    execution: str = ""
    index: int | None = None
    search: str = ""
    severities: frozenset[Severity] = frozenset()
    limit: int = 1_000
    offset: int = 0
    builds_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """``at_ns`` is nanoseconds since the epoch. ``index`` is None for a build; words of ours have neither attempt nor
    stream.
    """

    at_ns: int
    severity: Severity
    text: str
    index: int | None = None
    attempt: int | None = None
    stream: Stream | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """``lines`` newest first. ``total`` counts what matches, from the headers of blocks: lines of the first and last
    block that lie outside of the window are counted too. ``complete`` is False when more blocks exist than one request
    looks at, or when a filter by text or task makes ``total`` the number of lines found so far.
    """

    lines: list[LogLine]
    total: int
    complete: bool


def read(parts: Parts, principal: Principal, query: LogQuery) -> LogPage:
    """A page of a job's output. Four statements, and one per 200 blocks; no reader is held while blocks are read.

    Raises NotFound, and Invalid for an execution's prefix that is not unique.
    """
    workspace = principal.workspace
    job = parts.database.read(lambda connection: executions.history(connection, workspace, query.job)).job
    owner = None
    if query.execution:
        owner = parts.database.read(
            lambda connection: executions.find(connection, workspace, query.execution, query.job)
        ).key
    blocks = BlockQuery(
        job=job,
        kind=OwnerKind.BUILD if query.builds_only else None,
        owner=owner,
        index=query.index,
        since=query.since,
        until=query.until,
        limit=_PAGE_BLOCKS,
    )
    reader = _Reader(parts, query)
    lines = list(reader.newest(_pages(parts, blocks, _MAX_BLOCKS_READ)))
    if query.search or query.index is not None:
        return LogPage(lines=lines, total=reader.matched, complete=reader.exhausted)
    total, complete = _count(parts, blocks, query)
    return LogPage(lines=lines, total=total, complete=complete)


class _Reader:
    """Merges blocks, which come in order of their last line, into lines in order of time."""

    def __init__(self, parts: Parts, query: LogQuery) -> None:
        self._parts = parts
        self._query = query
        self._since_ns, self._until_ns = _ns(query.since), _ns(query.until)
        self._search = query.search.lower()
        self.matched = 0
        self.exhausted = False

    def newest(self, blocks: Iterator[BlockRow]) -> Iterator[LogLine]:
        """Up to ``limit`` lines after ``offset`` of them."""
        wanted = self._query.offset + self._query.limit
        for line in self._merged(blocks):
            self.matched += 1
            if self.matched > self._query.offset:
                yield line
            if self.matched == wanted:
                return
        self.exhausted = True

    def _merged(self, blocks: Iterator[BlockRow]) -> Iterator[LogLine]:
        waiting: list[tuple[int, int, int, LogLine]] = []
        for number, block in enumerate(blocks):
            newest_ns = _ns(block.last_at)
            # no later block has a line newer than this one's last: what is newer can go
            while waiting and -waiting[0][0] > newest_ns:
                yield heapq.heappop(waiting)[3]
            for place, line in self._lines(block):
                heapq.heappush(waiting, (-line.at_ns, number, -place, line))
        while waiting:
            yield heapq.heappop(waiting)[3]

    def _lines(self, block: BlockRow) -> Iterator[tuple[int, LogLine]]:
        place = block.place
        try:
            text = zlib.decompress(self._parts.logfiles.read(place.file, place.offset, place.length)).decode()
        except (NotFound, zlib.error):
            yield 0, LogLine(at_ns=_ns(block.last_at), severity=Severity.WARNING, text=_LOST)
            return
        # str.splitlines would also cut at characters that JSON strings may hold
        rows = list(filter(None, text.split("\n")))
        for number, row in enumerate(rows):
            index, attempt, stream, at_ns, severity, words = json.loads(row)
            if self._wanted(index, at_ns, severity, words):
                line = LogLine(
                    at_ns=at_ns,
                    severity=Severity(severity),
                    text=words,
                    index=index if block.kind == OwnerKind.TASK else None,
                    attempt=attempt,
                    stream=Stream(stream),
                )
                yield number, line
        if block.cut and not self._search:
            yield len(rows), LogLine(at_ns=_ns(block.last_at), severity=Severity.WARNING, text=_CUT)

    def _wanted(self, index: int, at_ns: int, severity: str, words: str) -> bool:
        query = self._query
        return (
            self._since_ns <= at_ns <= self._until_ns
            and (query.index is None or index == query.index)
            and (not query.severities or severity in query.severities)
            and (not self._search or self._search in words.lower())
        )


def _pages(parts: Parts, query: BlockQuery, most: int) -> Iterator[BlockRow]:
    read = 0
    while read < most:
        page = query
        rows = parts.database.read(lambda connection: log_blocks.find(connection, page))  # noqa: B023 - called at once
        yield from rows
        read += len(rows)
        if len(rows) < query.limit:
            return
        query = replace(query, before=rows[-1])


def _count(parts: Parts, blocks: BlockQuery, query: LogQuery) -> tuple[int, bool]:
    total, seen = 0, 0
    for block in _pages(parts, replace(blocks, limit=_MAX_BLOCKS_READ), _MAX_BLOCKS_COUNTED):
        seen += 1
        lines: Mapping[str, int] = block.lines
        total += sum(n for severity, n in lines.items() if not query.severities or severity in query.severities)
    return total, seen < _MAX_BLOCKS_COUNTED


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1_000
