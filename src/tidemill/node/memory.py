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
from typing import Final, NamedTuple

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


class Known(NamedTuple):
    """The most that a tree was seen to use, and its limit."""

    peak_bytes: int
    limit_bytes: int


@dataclass(slots=True, eq=False)
class Watched:
    """An attempt that is looked at: ``pid`` is the process that all of it comes from."""

    pid: int
    limit_bytes: int
    on_over: Callable[[], None]
    peak_bytes: int = 0


class Watch:
    """Looks at attempts as long as there are any, in a thread of its own."""

    def __init__(self, loop: Loop, worker: Worker) -> None:
        self._loop = loop
        self._worker = worker
        self._watched: set[Watched] = set()
        self._looking = False
        self._next: Timer | None = None
        self._due = 0.0
        self._took_s = 0.0

    def add(self, pid: int, limit_bytes: int, on_over: Callable[[], None]) -> Watched:
        """Call ``on_over`` once in the loop, when the tree of ``pid`` is seen to use more than ``limit_bytes``."""
        watched = Watched(pid, limit_bytes, on_over)
        self._watched.add(watched)
        self._look_in(pause_s(limit_bytes, self._took_s))
        return watched

    def remove(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def _look_in(self, delay_s: float) -> None:
        """Look then, or earlier where that was planned; a look that is under way plans the next one itself."""
        due = self._loop.monotonic + delay_s
        if self._looking or (self._next is not None and self._due <= due):
            return
        if self._next is not None:
            self._next.cancel()
        self._due = due
        self._next = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        self._next = None
        if not self._watched:
            return
        self._looking = True
        known = {each.pid: Known(each.peak_bytes, each.limit_bytes) for each in self._watched}

        def work() -> tuple[dict[int, int], float]:
            began = time.monotonic()
            return used_bytes(known), time.monotonic() - began

        self._worker.submit(work, self._seen)

    def _seen(self, seen: tuple[dict[int, int], float] | Exception) -> None:
        self._looking = False
        if isinstance(seen, Exception):
            self._look_in(LONGEST_S)
            return
        used, self._took_s = seen
        room_bytes = _GROWTH_BYTES_A_S
        for watched in [each for each in self._watched if each.pid in used]:
            watched.peak_bytes = max(watched.peak_bytes, used[watched.pid])
            room_bytes = min(room_bytes, watched.limit_bytes - used[watched.pid])
            if used[watched.pid] > watched.limit_bytes:
                self._watched.discard(watched)
                watched.on_over()
        if self._watched:
            self._look_in(pause_s(room_bytes, self._took_s))


def pause_s(room_bytes: int, took_s: float) -> float:
    """How long to wait for the next look, when the one nearest to its limit has ``room_bytes`` left."""
    return min(LONGEST_S, max(SHORTEST_S, took_s * _COST_FACTOR, room_bytes / _GROWTH_BYTES_A_S))


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
