"""How much memory attempts use, each its whole tree; those that use more than their limit are told of.

Where no kernel counts for us, one thread of the node reads /proc for all attempts together: often when one is near its
limit, seldom when none is. What is counted is memory that processes have filled, not what they have only asked for, and
not pages of files, which the kernel takes back by itself.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from tidemill.node.loop import Loop, Timer
from tidemill.node.worker import Worker

SHORTEST_S: Final = 0.05
LONGEST_S: Final = 1.0

# about as fast as one thread of a machine of today fills memory
_GROWTH_BYTES_A_S: Final = 2_000_000_000
# a look may cost a twentieth of one core, however many processes there are
_COST_FACTOR: Final = 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_KB: Final = 1024
_LAUNCHER_AND_COMMAND: Final = 2


K = TypeVar("K", int, Path)


class Known(NamedTuple):
    """The most that something was seen to use, and its limit."""

    peak_bytes: int
    limit_bytes: int


@dataclass(slots=True, eq=False)
class Watched(Generic[K]):
    """What is looked at: of memory ``key`` is the process that all of an attempt comes from.

    ``due`` is when it could have outgrown its limit, on the loop's steady clock.
    """

    key: K
    limit_bytes: int
    on_over: Callable[[], None]
    due: float
    peak_bytes: int = 0


class Watch(Generic[K]):
    """Looks at attempts when one could have outgrown its limit: never at those that end sooner."""

    def __init__(self, loop: Loop, worker: Worker, measure: Callable[[Mapping[K, Known]], Mapping[K, int]]) -> None:
        """``measure`` says of each key what it uses now, in the worker's thread; see ``used_bytes``."""
        self._measure: Callable[[Mapping[K, Known]], Mapping[K, int]] = measure
        self._loop = loop
        self._worker = worker
        self._watched: set[Watched[K]] = set()
        self._looking = False
        self._next: Timer | None = None
        self._next_at = 0.0
        self._rest_until = 0.0

    def add(self, key: K, limit_bytes: int, on_over: Callable[[], None]) -> Watched[K]:
        """Call ``on_over`` once in the loop, when ``key`` is seen to use more than ``limit_bytes``."""
        watched = Watched(key, limit_bytes, on_over, due=self._loop.monotonic + pause_s(limit_bytes))
        self._watched.add(watched)
        self._wake_at(watched.due)
        return watched

    def remove(self, watched: Watched[K]) -> None:
        self._watched.discard(watched)

    def _wake_at(self, due: float) -> None:
        """See then whether a look is due, or earlier where that was planned."""
        at = max(due, self._rest_until)
        if self._looking or (self._next is not None and self._next_at <= at):
            return
        if self._next is not None:
            self._next.cancel()
        self._next_at = at
        self._next = self._loop.call_later(at - self._loop.monotonic, self._wake)

    def _wake(self) -> None:
        self._next = None
        due = min((each.due for each in self._watched), default=None)
        if due is None:
            return
        if due > self._loop.monotonic:
            # those that this was planned for have ended
            self._wake_at(due)
            return
        self._looking = True
        known = {each.key: Known(each.peak_bytes, each.limit_bytes) for each in self._watched}

        def look() -> tuple[Mapping[K, int], float]:
            began = time.monotonic()
            return self._measure(known), time.monotonic() - began

        self._worker.submit(look, self._seen)

    def _seen(self, seen: tuple[Mapping[K, int], float] | Exception) -> None:
        self._looking = False
        used, took_s = ({}, LONGEST_S) if isinstance(seen, Exception) else seen
        now = self._loop.monotonic
        self._rest_until = now + rest_s(took_s)
        for watched in [each for each in self._watched if each.key in used]:
            watched.peak_bytes = max(watched.peak_bytes, used[watched.key])
            watched.due = now + pause_s(watched.limit_bytes - used[watched.key])
            if used[watched.key] > watched.limit_bytes:
                self._watched.discard(watched)
                watched.on_over()
        if self._watched:
            self._wake_at(min(each.due for each in self._watched))


def pause_s(room_bytes: int) -> float:
    """How soon something with so much room below its limit could have filled it."""
    return min(LONGEST_S, max(SHORTEST_S, room_bytes / _GROWTH_BYTES_A_S))


def rest_s(took_s: float) -> float:
    """How long to look at nothing after a look that took so long."""
    return min(LONGEST_S, max(SHORTEST_S, took_s * _COST_FACTOR))


def used_bytes(known: Mapping[int, Known]) -> dict[int, int]:
    """What the tree of each pid uses now; 0 for one that is gone.

    Members of a tree are what descends from it, and its session. Where a cheap bound says that there is no news, that
    is the answer: it may be more than what is used, but it is neither a new peak nor beyond the limit.
    """
    return {root: _used(members, known[root]) for root, members in _trees(frozenset(known)).items()}


def _used(members: Mapping[int, int], known: Known) -> int:
    bound = sum(members.values())
    if bound > known.peak_bytes or bound > known.limit_bytes:
        bound = sum(_filled(pid) for pid in members)
    # pages that several have in common count once for each; to divide them the kernel walks over all pages. A launcher
    # and its command have none in common
    if (bound > known.peak_bytes and len(members) > _LAUNCHER_AND_COMMAND) or (
        bound > known.limit_bytes and len(members) > 1
    ):
        bound = sum(_share(pid) for pid in members)
    return bound


def _trees(roots: frozenset[int]) -> dict[int, dict[int, int]]:
    """The members of each root's tree, with their resident bytes. One pass over /proc."""
    processes = dict(_processes())
    children: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid, (parent, session, _) in processes.items():
        children.setdefault(parent, []).append(pid)
        sessions.setdefault(session, []).append(pid)
    found = {}
    for root in roots:
        members, left = dict[int, int](), [root, *sessions.get(root, ())]
        while left:
            pid = left.pop()
            if pid in processes and pid not in members:
                members[pid] = processes[pid][2]
                left += children.get(pid, ())
        found[root] = members
    return found


def _processes() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Every process of the machine: pid, then parent, session and resident bytes."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (text := _read(f"{entry.path}/stat")):
            # a name may hold spaces and brackets; fields are counted from the state on, field 3
            fields = text[text.rindex(b")") + 2 :].split(None, 22)
            yield int(entry.name), (int(fields[1]), int(fields[3]), int(fields[21]) * _PAGE_BYTES)


def _filled(pid: int) -> int:
    """What a process has filled, in bytes."""
    sizes = _sizes(f"/proc/{pid}/status")
    return (sizes.get(b"RssAnon", 0) + sizes.get(b"RssShmem", 0)) * _KB


def _share(pid: int) -> int:
    """What a process has filled, in bytes, and of pages that it shares with others its part."""
    sizes = _sizes(f"/proc/{pid}/smaps_rollup")
    if b"Pss_Anon" not in sizes:
        return _filled(pid)
    return (sizes[b"Pss_Anon"] + sizes.get(b"Pss_Shmem", 0)) * _KB


def _sizes(path: str) -> dict[bytes, int]:
    """Lines like ``Name:  123 kB``, in KiB."""
    sizes = {}
    for line in _read(path).splitlines():
        name, _, rest = line.partition(b":")
        if rest.endswith(b"kB"):
            sizes[name] = int(rest[:-2])
    return sizes


def _read(path: str) -> bytes:
    """Empty when the process is gone, or nobody may look."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)
    return b""
