"""The journal: starts and outcomes of attempts in one file, so that a node's successor knows what it had done.

A line is a checksum and a JSON object: ``{"start": ATTEMPT}`` before the process is started, ``{"run": ATTEMPT, "pid",
"born", "had"}`` when it runs, ``{"end": ATTEMPT, "number", "outcome", "file"}`` when it has ended, ``{"done": NUMBER}``
when a server has committed all events up to NUMBER, ``{"term": NUMBER}``, and first ``{"boot": ID}``. Never arguments,
never environment.

The file is allocated ahead, so that outcomes can be written when the disk is full; its unused rest is zeros.
"""

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidemill.model.ids import AttemptId
from tidemill.model.lease import Outcome
from tidemill.node.channel.codec import read_outcome, write_outcome
from tidemill.node.channel.frames import Document

ALLOCATED_BYTES: Final = 4 << 20
# rewriting costs an fsync, so it waits until it is worth it
COMPACT_BYTES: Final = 2 << 20

# json.dumps would make an encoder for each record
_to_json = json.JSONEncoder(separators=(",", ":")).encode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome as it is journaled: a long result lies in ``file`` (a name in the results' folder) instead."""

    attempt: AttemptId
    outcome: Outcome
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The leader of an attempt's processes, both 0 when it was never seen to run; what it runs with (lease.Event)."""

    pid: int = 0
    start_time: int = 0
    protections: int | None = None


@dataclass(slots=True)
class Past:
    """What a journal holds: ``endings`` are outcomes nobody has acknowledged, in order; ``running`` had not ended."""

    boot: str = ""
    term: int = 0
    endings: dict[int, Ending] = field(default_factory=dict)
    running: dict[AttemptId, Running] = field(default_factory=dict)

    def apply(self, record: Document) -> None:
        """Raises KeyError, TypeError or ValueError when it is no record."""
        match record:
            case {"start": attempt}:
                self.running[AttemptId.parse(attempt)] = Running()
            case {"run": attempt, "pid": pid, "born": born}:
                self.running[AttemptId.parse(attempt)] = Running(pid, born, record.get("had"))
            case {"end": text, "number": number, "outcome": outcome}:
                attempt = AttemptId.parse(text)
                self.running.pop(attempt, None)
                self.endings[number] = Ending(attempt, read_outcome(outcome), record.get("file"))
            case {"done": number}:
                self.forget(number)
            case {"term": term}:
                self.term = max(self.term, term)
            case {"boot": boot}:
                self.boot = boot
            case _:
                raise ValueError("no record of this version")

    def forget(self, number: int) -> list[Ending]:
        """Drop the outcomes up to ``number``, and return them."""
        dropped: list[Ending] = []
        while self.endings and (first := next(iter(self.endings))) <= number:
            dropped.append(self.endings.pop(first))
        return dropped


def read_journal(path: Path) -> Past:
    """What the journal at ``path`` holds; nothing when there is none. Damaged lines, as a torn last, are left out."""
    past = Past()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return past
    for line in data.split(b"\0", 1)[0].splitlines():
        try:
            past.apply(_decode(line))
        except (KeyError, TypeError, ValueError) as error:
            log.warning("a damaged line of the journal is left out: %s", error)
    return past


class Journal:
    """The journal of this incarnation, begun with what its predecessor's still has to say.

    What is said to it waits until ``write`` brings it to the kernel, which survives a kill of the node; ``sync`` brings
    it to the disk.
    """

    def __init__(self, path: Path, past: Past) -> None:
        """Replaces the file at ``path`` by one that holds just ``past``. Raises OSError."""
        self._path = path
        self._past = past
        self._buffer: list[bytes] = []
        self._fd, self._size = self._begin()

    @property
    def term(self) -> int:
        return self._past.term

    def starting(self, attempt: AttemptId) -> None:
        self._past.running[attempt] = Running()
        self._buffer.append(_encode(start_record(attempt)))

    def running(self, attempt: AttemptId, leader: Running) -> None:
        self._past.running[attempt] = leader
        self._buffer.append(_encode(run_record(attempt, leader)))

    def ended(self, number: int, ending: Ending) -> None:
        self._past.running.pop(ending.attempt, None)
        self._past.endings[number] = ending
        self._buffer.append(_encode(end_record(number, ending)))

    def done(self, number: int) -> list[Ending]:
        """A server has committed all events up to ``number``: forget their outcomes, and return them."""
        self._buffer.append(_encode({"done": number}))
        return self._past.forget(number)

    def raise_term(self, term: int) -> None:
        self._past.term = term
        self._buffer.append(_encode({"term": term}))

    def write(self) -> None:
        """Raises OSError when there is no room: nothing is lost, a later call tries again."""
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        if self._size + len(data) > ALLOCATED_BYTES:
            with suppress(OSError):
                os.posix_fallocate(self._fd, self._size, len(data) + ALLOCATED_BYTES)
        _write_whole(self._fd, data, self._size)
        self._buffer.clear()
        self._size += len(data)

    def sync(self) -> None:
        """May be called from another thread; a file that was replaced meanwhile has been synced by that."""
        os.fdatasync(self._fd)

    def compact_if_worth_it(self) -> None:
        """Rewrite the file when most of it is acknowledged. Not while a sync is under way or anything waits."""
        live = len(self._past.endings) + len(self._past.running)
        if self._size < COMPACT_BYTES or live * 512 > self._size // 2:
            return
        old = self._fd
        try:
            self._fd, self._size = self._begin()
        except OSError as error:
            # a full disk has no room for a second file; the one that is there goes on
            log.warning("the journal cannot be rewritten: %s", error)
            return
        os.close(old)

    def close(self) -> None:
        os.close(self._fd)

    def _begin(self) -> tuple[int, int]:
        partial = self._path.with_suffix(".partial")
        data = b"".join(_encode(record) for record in records_of(self._past))
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with suppress(OSError):
                os.posix_fallocate(fd, 0, max(ALLOCATED_BYTES, len(data)))
            _write_whole(fd, data, 0)
            os.fsync(fd)
            partial.rename(self._path)
        except BaseException:
            os.close(fd)
            partial.unlink(missing_ok=True)
            raise
        # the file has its name by now: what is written from here on must go to it, whatever the folder's fsync says
        with suppress(OSError):
            _sync_folder(self._path.parent)
        return fd, len(data)


def records_of(past: Past) -> Iterator[Document]:
    """The shortest journal that reads as ``past``."""
    yield {"boot": past.boot}
    yield {"term": past.term}
    for attempt, running in past.running.items():
        yield start_record(attempt) if not running.pid else run_record(attempt, running)
    for number, ending in past.endings.items():
        yield end_record(number, ending)


def start_record(attempt: AttemptId) -> Document:
    return {"start": str(attempt)}


def run_record(attempt: AttemptId, running: Running) -> Document:
    record: Document = {"run": str(attempt), "pid": running.pid, "born": running.start_time}
    return record if running.protections is None else record | {"had": running.protections}


def end_record(number: int, ending: Ending) -> Document:
    record: Document = {"end": str(ending.attempt), "number": number, "outcome": write_outcome(ending.outcome)}
    return record if ending.file is None else record | {"file": ending.file}


def save_result(folder: Path, name: str, text: str) -> None:
    """Bring a long result to the disk before the outcome that refers to it is journaled. Raises OSError."""
    file = folder / name
    partial = file.with_suffix(".partial")
    try:
        with partial.open("wb") as content:
            content.write(text.encode())
            content.flush()
            os.fsync(content.fileno())
        partial.rename(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def remove_results(folder: Path, kept: Iterable[str]) -> None:
    """Remove every result that no outcome in the journal refers to."""
    names = set(kept)
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink(missing_ok=True)


def _encode(record: Document) -> bytes:
    text = _to_json(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> Document:
    checksum, _, text = line.partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the checksum is wrong")
    record = json.loads(text)
    if not isinstance(record, dict):
        raise TypeError("no object")
    return record


def _write_whole(fd: int, data: bytes, at: int) -> None:
    if os.pwrite(fd, data, at) < len(data):
        raise OSError("the journal could not be written whole")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
