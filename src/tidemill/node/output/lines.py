"""From the bytes of a pipe to lines, and how severe each is."""

import json
from collections.abc import Iterator
from typing import Final

from tidemill.model.lease import Severity, Stream

MAX_LINE_BYTES: Final = 64 << 10

_NAMES: Final = {
    "FATAL": Severity.FATAL,
    "CRITICAL": Severity.FATAL,
    "ALERT": Severity.FATAL,
    "EMERGENCY": Severity.FATAL,
    "ERROR": Severity.ERROR,
    "ERR": Severity.ERROR,
    "WARNING": Severity.WARNING,
    "WARN": Severity.WARNING,
    "NOTICE": Severity.INFO,
    "INFO": Severity.INFO,
    "DEBUG": Severity.DEBUG,
    "TRACE": Severity.TRACE,
}
# what pino and bunyan write as "level": 10 is trace, 60 is fatal
_NUMBERS: Final = (Severity.TRACE, Severity.DEBUG, Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.FATAL)


class LineSplitter:
    """Holds the beginning of a line until its end has come; a line of more than 64 KiB is cut into several."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that ``data`` completes, without their ends."""
        *lines, rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        for line in lines:
            yield from _pieces(line.removesuffix(b"\r"))
        while len(rest) > MAX_LINE_BYTES:
            cut = _cut(rest)
            yield rest[:cut].decode(errors="replace")
            rest = rest[cut:]
        self._rest = rest

    def finish(self) -> Iterator[str]:
        """What was printed without an end of line, if anything."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from _pieces(rest)


def _pieces(line: bytes) -> Iterator[str]:
    while len(line) > MAX_LINE_BYTES:
        cut = _cut(line)
        yield line[:cut].decode(errors="replace")
        line = line[cut:]
    yield line.decode(errors="replace")


def _cut(line: bytes) -> int:
    """Where to cut a line that is too long: not inside a character."""
    cut = MAX_LINE_BYTES
    while cut > MAX_LINE_BYTES - 4 and line[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def severity_of(stream: Stream, text: str) -> Severity:
    """INFO for stdout, ERROR for stderr, unless the line is a JSON log with a ``severity`` or ``level`` of its own."""
    if text.startswith("{") and text.rstrip().endswith("}"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = {}
        own = _named(document.get("severity")) or _named(document.get("level"))
        if own is not None:
            return own
    return Severity.INFO if stream is Stream.STDOUT else Severity.ERROR


def _named(level: object) -> Severity | None:
    if isinstance(level, str):
        return _NAMES.get(level.upper())
    if isinstance(level, int) and level % 10 == 0 and 10 <= level <= 60:
        return _NUMBERS[level // 10 - 1]
    return None
