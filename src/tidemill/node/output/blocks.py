"""Gathers the lines of each owner (an execution or a build) into blocks, and hands full ones to the spool."""

import json
import zlib
from dataclasses import dataclass
from typing import Final

from tidemill.model.ids import AttemptId
from tidemill.model.lease import Severity, Stream
from tidemill.node.loop import Loop, Timer
from tidemill.node.output.spool import BlockHeader, Spool

# what a line costs beyond its text: a task that prints empty lines must reach its cap too
LINE_OVERHEAD_BYTES: Final = 32
# an owner whose last attempt has ended is not made to wait for the full time, but neither gets a block per short task
IDLE_CUT_S: Final = 0.1

_LEVEL: Final = 1
_encode = json.encoder.encode_basestring


@dataclass(slots=True)
class _Open:
    """The block of one owner that is being filled. Times are nanoseconds."""

    log_key: int
    kind: str
    owner: int
    lines: list[str]
    counts: dict[str, int]
    size_bytes: int = 0
    first_index: int = 0
    last_index: int = 0
    first_ns: int = 0
    last_ns: int = 0
    cut: bool = False
    timer: Timer | None = None


class Blocks:
    """The open blocks. One is cut at ``block_bytes``, ``block_s`` after its first line, or when its owner is idle."""

    def __init__(self, loop: Loop, spool: Spool, block_bytes: int, block_s: float) -> None:
        self._loop = loop
        self._spool = spool
        self._block_bytes = block_bytes
        self._block_s = block_s
        self._open: dict[tuple[str, int], _Open] = {}

    def add(self, source: "Source", stream: Stream, severity: Severity, text: str) -> None:
        block = self._block(source)
        index, now = source.attempt.index, self._loop.now_ns
        line = f'[{index},{source.attempt.number},"{stream}",{now},"{severity}",{_encode(text)}]\n'
        if not block.lines:
            block.first_ns = now
            block.first_index = block.last_index = index
        block.first_index = min(block.first_index, index)
        block.last_index = max(block.last_index, index)
        block.last_ns = now
        block.lines.append(line)
        block.counts[severity] = block.counts.get(severity, 0) + 1
        block.size_bytes += len(line)
        if block.size_bytes >= self._block_bytes:
            self._cut(block)

    def mark_cut(self, source: "Source") -> None:
        """Output of this owner is dropped from here on."""
        block = self._block(source)
        if not block.lines:
            block.first_index = block.last_index = source.attempt.index
        block.cut = True
        self._cut(block)

    def idle(self, kind: str, owner: int) -> None:
        """The owner has no attempt left here: what it printed need not wait for more."""
        block = self._open.get((kind, owner))
        if block is None:
            return
        if block.timer is not None:
            block.timer.cancel()
        block.timer = self._loop.call_later(IDLE_CUT_S, lambda: self._cut(block))

    def flush(self) -> None:
        for block in list(self._open.values()):
            self._cut(block)

    def _block(self, source: "Source") -> _Open:
        key = (source.attempt.kind.value, source.attempt.owner)
        block = self._open.get(key)
        if block is None:
            block = _Open(source.log_key, *key, lines=[], counts={})
            block.timer = self._loop.call_later(self._block_s, lambda: self._cut(block))
            self._open[key] = block
        return block

    def _cut(self, block: _Open) -> None:
        if self._open.pop((block.kind, block.owner), None) is None:
            return
        if block.timer is not None:
            block.timer.cancel()
        header = BlockHeader(
            log_key=block.log_key,
            kind=block.kind,
            owner=block.owner,
            first_index=block.first_index,
            last_index=block.last_index,
            first_at=(block.first_ns or self._loop.now_ns) / 1e9,
            last_at=(block.last_ns or self._loop.now_ns) / 1e9,
            lines=block.counts,
            cut=block.cut,
        )
        # a lone surrogate cannot come out of decoding with errors="replace"; the encoder writes the rest as UTF-8
        self._spool.put(header, zlib.compress("".join(block.lines).encode(), _LEVEL))


@dataclass(slots=True)
class Source:
    """One attempt as a source of lines: whose they are, and how much of them is still kept."""

    attempt: AttemptId
    log_key: int
    room_bytes: int
    dropping: bool = False

    def take(self, blocks: Blocks, stream: Stream, severity: Severity, text: str) -> None:
        """Keep a line, or drop it when the attempt has printed its share; the cut is marked once."""
        self.room_bytes -= len(text) + LINE_OVERHEAD_BYTES
        if self.room_bytes < 0:
            if not self.dropping:
                self.dropping = True
                blocks.mark_cut(self)
            return
        blocks.add(self, stream, severity, text)
