"""The group of an attempt: what it may use, what it has used, and how all of it is killed."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Final, Protocol

# a task gets one core for so much memory, as on the hosted service (docs/limits.md)
BYTES_A_CORE: Final = 2048 << 20
# with less, an interpreter takes a second to start
QUOTA_MIN_CORES: Final = 0.25
QUOTA_PERIOD_US: Final = 100_000


class Control(StrEnum):
    """What a kernel can do for us to the processes of an attempt."""

    MEMORY = "memory"
    PIDS = "pids"
    CPU = "cpu"


class Kill(IntEnum):
    """How surely a hierarchy kills a group; the greater, the surer."""

    LISTED = 0
    """One signal to each process that is listed: what forks faster than that is left over."""
    FORKLESS = 1
    """The same, after the kernel has been told to refuse forks."""
    AT_ONCE = 2
    """The kernel kills all of them in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """``pids`` bounds processes and threads together; ``cpu_quota`` makes the share of CPU a bound as well."""

    memory_bytes: int
    pids: int
    cpu_quota: bool = False

    @property
    def cores(self) -> float:
        return self.memory_bytes / BYTES_A_CORE

    @property
    def quota_us(self) -> int:
        """CPU time in each period of QUOTA_PERIOD_US, over all cores."""
        return int(max(QUOTA_MIN_CORES, self.cores) * QUOTA_PERIOD_US)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a group has used by now; None is what nobody has counted.

    ``oom_kills`` counts processes that the kernel has killed because the group was at its limit of memory, ``starved``
    those that it has killed because there was no memory outside: on the machine, or in a group above all of the node's.
    ``pids_refused`` counts the forks it has refused. ``peak_bytes`` holds pages of files, which the kernel takes back
    by itself when the limit is near.
    """

    oom_kills: int = 0
    starved: int = 0
    peak_bytes: int | None = None
    pids_refused: int = 0
    cpu_s: float | None = None

    def __or__(self, other: "Usage") -> "Usage":
        """What two hierarchies have counted of the same group, each its part."""
        return Usage(
            oom_kills=self.oom_kills + other.oom_kills,
            starved=self.starved + other.starved,
            peak_bytes=other.peak_bytes if self.peak_bytes is None else self.peak_bytes,
            pids_refused=self.pids_refused + other.pids_refused,
            cpu_s=other.cpu_s if self.cpu_s is None else self.cpu_s,
        )


class Hierarchy(Protocol):
    """One tree of cgroups, and in it the folder of this node; a group is a folder in that."""

    @property
    def folder(self) -> str:
        """Where the groups of this node lie; nothing else lies there."""
        ...

    @property
    def controls(self) -> frozenset[Control]: ...

    @property
    def surest_kill(self) -> Kill: ...

    def make(self, name: str, limits: GroupLimits) -> str:
        """Make a group; a process joins it by writing ``0`` to the file whose path is returned.

        Raises OSError; then nothing is left of it.
        """
        ...

    def usage(self, name: str) -> Usage:
        """Raises OSError when there is no such group."""
        ...

    def oom_event(self, name: str) -> int | None:
        """An eventfd, the caller's to close, that can be read when a process of the group may have been killed.

        None where the kernel kills all of the group at once, so that nobody has to hear. Raises OSError.
        """
        ...

    def kill(self, name: str) -> None:
        """SIGKILL to every process in it, and in groups that those have made. Never raises for what is gone."""
        ...

    def remove(self, name: str) -> bool:
        """Whether it is gone: False while a process is in it. Raises OSError for any other reason."""
        ...

    def is_empty(self, name: str) -> bool:
        """Whether no process is in it. Raises OSError."""
        ...

    def renew(self, name: str) -> bool:
        """Whether one without a process is as new, but for the CPU time that it goes on counting.

        No group is in it, and hardly any memory is counted for it.

        False also where a counter cannot be set back. Raises OSError.
        """
        ...

    def left(self) -> list[str]:
        """The names of the groups that there are."""
        ...


class Group:
    """One attempt's group in all hierarchies. Killed when it is to end, read when it has ended, then removed."""

    def __init__(self, name: str, limits: GroupLimits, hierarchies: Sequence[Hierarchy]) -> None:
        """Raises OSError when it cannot be made; then nothing is left of it."""
        self.name = name
        self.limits = limits
        self._hierarchies = [*hierarchies]
        self._earlier_cpu_s = 0.0
        self._killed = False
        # every process is in all of them: one that is empty says so of the others, soonest where they are counted
        self._witness = max(hierarchies, key=lambda each: Control.PIDS in each.controls)
        self._killer = max(hierarchies, key=lambda each: each.surest_kill)
        self.controls = frozenset[Control]().union(*(each.controls for each in hierarchies))
        joins: list[str] = []
        try:
            for each in hierarchies:
                joins.append(each.make(name, limits))  # noqa: PERF401 - those before one that fails are removed below
        except BaseException:
            for each in hierarchies[: len(joins)]:
                with suppress(OSError):
                    each.remove(name)
            raise
        self.join = tuple(joins)
        """Files that a process writes ``0`` to, one after the other, to be in the group with all it will start."""

    def usage(self) -> Usage:
        """What has been counted of it; raises OSError when it has been removed."""
        found = Usage()
        for each in self._hierarchies:
            found |= each.usage(self.name)
        return found if found.cpu_s is None else replace(found, cpu_s=found.cpu_s - self._earlier_cpu_s)

    def oom_event(self) -> int | None:
        """See Hierarchy. Raises OSError."""
        for each in self._hierarchies:
            if Control.MEMORY in each.controls:
                return each.oom_event(self.name)
        return None

    def kill(self) -> None:
        """SIGKILL to all that is in it; where forks cannot be stopped first, it takes more than one call."""
        self._killed = True
        self._killer.kill(self.name)

    def renew(self, usage: Usage) -> bool:
        """Whether it may be the group of another attempt with the same limits: it is proved to be as a new one.

        ``usage`` is the last that was read of it. Raises OSError.
        """
        # what kills may have changed a limit, and counters of what went wrong cannot be set back
        if self._killed or usage.oom_kills or usage.starved or usage.pids_refused:
            return False
        if not self._witness.is_empty(self.name) or not all(each.renew(self.name) for each in self._hierarchies):
            return False
        self._earlier_cpu_s += usage.cpu_s or 0.0
        return True

    def remove(self) -> bool:
        """Whether it is gone, which is the proof that nothing of it is alive. Raises OSError."""
        # every process is in all of them: a hierarchy that is empty says so of the others
        self._hierarchies = [each for each in self._hierarchies if not each.remove(self.name)]
        return not self._hierarchies
