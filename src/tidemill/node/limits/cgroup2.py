"""cgroup v2: one hierarchy with all controllers; or, beside v1, one with none, which still kills and counts CPU."""

import errno
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from tidemill.node.limits.files import CgroupFiles, processes
from tidemill.node.limits.groups import QUOTA_PERIOD_US, Control, GroupLimits, Kill, Usage
from tidemill.node.limits.tree import kill_listed, make_group, remove_tree

# where the node itself is: a group that hands controllers on may hold no process
LEAF: Final = "node"

_WEIGHT_A_CORE: Final = 100
_WEIGHT_MIN: Final = 1
_WEIGHT_MAX: Final = 10_000
_US: Final = 1_000_000


class Version2:
    """The groups of this node in the v2 hierarchy."""

    def __init__(self, files: CgroupFiles, folder: str, controls: Collection[Control]) -> None:
        """``controls`` are those that ``folder`` hands on to its groups (see ``hand_on``)."""
        self.folder = folder
        self.controls = frozenset(controls)
        self._files = files
        if files.has(f"{folder}/cgroup.kill"):
            self.surest_kill = Kill.AT_ONCE
        else:
            self.surest_kill = Kill.FORKLESS if Control.PIDS in self.controls else Kill.LISTED

    def make(self, name: str, limits: GroupLimits) -> str:
        return make_group(self._files, f"{self.folder}/{name}", partial(self._limit, limits=limits))

    def _limit(self, folder: str, limits: GroupLimits) -> None:
        write = self._files.write
        if Control.MEMORY in self.controls:
            write(f"{folder}/memory.max", str(limits.memory_bytes))
            write(f"{folder}/memory.oom.group", "1")
            # a kernel without swap has no such file
            with suppress(FileNotFoundError):
                write(f"{folder}/memory.swap.max", "0")
        if Control.PIDS in self.controls:
            write(f"{folder}/pids.max", str(limits.pids))
        if Control.CPU in self.controls:
            weight = min(_WEIGHT_MAX, max(_WEIGHT_MIN, round(_WEIGHT_A_CORE * limits.cores)))
            write(f"{folder}/cpu.weight", str(weight))
            if limits.cpu_quota:
                write(f"{folder}/cpu.max", f"{limits.quota_us} {QUOTA_PERIOD_US}")

    def usage(self, name: str) -> Usage:
        folder = f"{self.folder}/{name}"
        files = self._files
        kills, at_limit, peak_bytes, refused = 0, False, None, 0
        if Control.MEMORY in self.controls:
            kills = files.number(f"{folder}/memory.events", "oom_kill") or 0
            # the former counts who was killed, the latter whose limit it was for
            at_limit = kills > 0 and bool(files.number(f"{folder}/memory.events", "oom"))
            # Linux 5.19
            with suppress(FileNotFoundError):
                peak_bytes = int(files.read(f"{folder}/memory.peak"))
        if Control.PIDS in self.controls:
            refused = files.number(f"{folder}/pids.events", "max") or 0
        # counted without any controller
        cpu_us = files.number(f"{folder}/cpu.stat", "usage_usec")
        cpu_s = None if cpu_us is None else cpu_us / _US
        return Usage(
            oom_kills=kills if at_limit else 0,
            starved=0 if at_limit else kills,
            peak_bytes=peak_bytes,
            pids_refused=refused,
            cpu_s=cpu_s,
        )

    def oom_event(self, _name: str) -> int | None:
        """memory.oom.group has the kernel kill all of it."""
        return None

    def kill(self, name: str) -> None:
        folder = f"{self.folder}/{name}"
        if self.surest_kill is Kill.AT_ONCE:
            with suppress(FileNotFoundError):
                self._files.write(f"{folder}/cgroup.kill", "1")
            return
        if Control.PIDS in self.controls:
            with suppress(FileNotFoundError):
                self._files.write(f"{folder}/pids.max", "0")
        kill_listed(self._files, folder)

    def remove(self, name: str) -> bool:
        return remove_tree(self._files, f"{self.folder}/{name}")

    def is_empty(self, name: str) -> bool:
        return not processes(self._files, f"{self.folder}/{name}")

    def renew(self, name: str) -> bool:
        """The peak cannot be set back (but for one reader alone, from Linux 6.12 on)."""
        return Control.MEMORY not in self.controls and not self._files.has_children(f"{self.folder}/{name}")

    def left(self) -> list[str]:
        names = [os.path.basename(path) for path in self._files.children(self.folder)]  # noqa: PTH119
        return [name for name in names if name != LEAF]


class Occupied(OSError):
    """A group cannot hand controllers on, because processes are in it that are none of ours: ``pids``."""

    def __init__(self, pids: Sequence[int]) -> None:
        super().__init__(errno.EBUSY, "processes are in the group")
        self.pids = pids


def hand_on(files: CgroupFiles, own: str, folder: str, movable: Sequence[int]) -> frozenset[Control]:
    """Make ``folder`` in the group ``own`` of this process, and have both hand on to their groups what they can.

    For that ``own`` may hold no process, unless it is the machine's first: those of ``movable`` that are in it go to a
    leaf of ``folder``. Returns what ``folder`` hands on. Raises Occupied when others are left in ``own``, and OSError;
    then everything is as it was.
    """
    with suppress(FileExistsError):
        files.make(folder)
    offered = files.read(f"{own}/cgroup.controllers").split()
    wanted = [control for control in Control if control in offered]
    if not wanted:
        return frozenset()
    missing = {*wanted} - {*given(files, own)}
    # the machine's first group has no type, and may hand on what it likes
    try:
        if missing and files.has(f"{own}/cgroup.type"):
            _move_away(files, own, folder, movable)
        for each in (own, folder):
            for control in wanted:
                files.write(f"{each}/cgroup.subtree_control", f"+{control}")
    except OSError as error:
        take_back(files, own, folder, missing)
        if error.errno == errno.EBUSY and (left := processes(files, own)):
            raise Occupied([pid for pid in left if pid not in movable]) from error
        raise
    return given(files, folder)


def given(files: CgroupFiles, group: str) -> frozenset[Control]:
    """What a group hands on to the groups in it, of what we use. Raises OSError."""
    words = files.read(f"{group}/cgroup.subtree_control").split()
    return frozenset(control for control in Control if control in words)


def take_back(files: CgroupFiles, own: str, folder: str, controls: Collection[Control]) -> None:
    """Undo ``hand_on`` as far as that goes. ``controls`` are those that ``own`` did not hand on before."""
    for group, what in ((folder, [*Control]), (own, [*controls])):
        for control in what:
            with suppress(OSError):
                files.write(f"{group}/cgroup.subtree_control", f"-{control}")
    for pid in processes(files, f"{folder}/{LEAF}"):
        with suppress(OSError):
            files.write(f"{own}/cgroup.procs", str(pid))
    for group in (f"{folder}/{LEAF}", folder):
        with suppress(OSError):
            files.remove(group)


def _move_away(files: CgroupFiles, own: str, folder: str, movable: Sequence[int]) -> None:
    with suppress(FileExistsError):
        files.make(f"{folder}/{LEAF}")
    for pid in processes(files, own):
        if pid in movable:
            files.write(f"{folder}/{LEAF}/cgroup.procs", str(pid))
