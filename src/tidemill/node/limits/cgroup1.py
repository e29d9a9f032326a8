"""cgroup v1: a hierarchy for each controller, or for two that are mounted together."""

import os
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Final

from tidemill.node.limits.counters import Counters
from tidemill.node.limits.files import CgroupFiles, figure_of, processes
from tidemill.node.limits.groups import QUOTA_PERIOD_US, Control, GroupLimits, Kill, Usage
from tidemill.node.limits.tree import kill_listed, make_group, remove_tree

_SHARES_A_CORE: Final = 1024
_SHARES_MIN: Final = 2
_SHARES_MAX: Final = 1 << 18
_NS: Final = 1_000_000_000

# the kernel counts ahead, some hundred KB for each core
RESIDUE_BYTES: Final = 1 << 20
# what asks for several pages at once is refused them, and killed, as much below its limit
NEAR_BYTES: Final = 4 << 20


class Version1:
    """The groups of this node in one v1 hierarchy."""

    def __init__(self, files: CgroupFiles, folder: str, controllers: Collection[str], cores: int) -> None:
        """``controllers`` are those of the hierarchy; ``cores`` are the machine's.

        Makes ``folder``. Raises OSError.
        """
        self.folder = folder
        self.controls = frozenset(control for control in Control if control in controllers)
        self.surest_kill = Kill.FORKLESS if Control.PIDS in self.controls else Kill.LISTED
        self._files = files
        self._counters = Counters()
        self._counts_cpu = "cpuacct" in controllers
        with suppress(FileExistsError):
            files.make(folder)
        if Control.CPU in self.controls:
            # the processes beside this folder compete with it one by one
            files.write(f"{folder}/cpu.shares", str(min(_SHARES_MAX, _SHARES_A_CORE * cores)))

    def make(self, name: str, limits: GroupLimits) -> str:
        return make_group(self._files, f"{self.folder}/{name}", partial(self._limit, limits=limits))

    def _limit(self, folder: str, limits: GroupLimits) -> None:
        write = self._files.write
        if Control.MEMORY in self.controls:
            write(f"{folder}/memory.limit_in_bytes", str(limits.memory_bytes))
            # memory and swap together; the kernel wants it after the other, and has it only where swap is accounted
            with suppress(FileNotFoundError):
                write(f"{folder}/memory.memsw.limit_in_bytes", str(limits.memory_bytes))
        if Control.PIDS in self.controls:
            write(f"{folder}/pids.max", str(limits.pids))
        if Control.CPU in self.controls:
            shares = min(_SHARES_MAX, max(_SHARES_MIN, round(_SHARES_A_CORE * limits.cores)))
            write(f"{folder}/cpu.shares", str(shares))
            if limits.cpu_quota:
                write(f"{folder}/cpu.cfs_period_us", str(QUOTA_PERIOD_US))
                write(f"{folder}/cpu.cfs_quota_us", str(limits.quota_us))

    def usage(self, name: str) -> Usage:
        folder = f"{self.folder}/{name}"
        read = self._counters.read
        kills, at_limit, peak_bytes, refused, cpu_s = 0, False, None, 0, None
        if Control.MEMORY in self.controls:
            kills = figure_of(read(folder, "memory.oom_control"), "oom_kill") or 0
            peak_bytes = int(read(folder, "memory.max_usage_in_bytes"))
            # counted for whom it was killed of, whatever was short of memory
            at_limit = kills > 0 and peak_bytes + NEAR_BYTES >= int(read(folder, "memory.limit_in_bytes"))
        if Control.PIDS in self.controls:
            refused = figure_of(read(folder, "pids.events"), "max") or 0
        if self._counts_cpu:
            cpu_s = int(read(folder, "cpuacct.usage")) / _NS
        return Usage(
            oom_kills=kills if at_limit else 0,
            starved=0 if at_limit else kills,
            peak_bytes=peak_bytes,
            pids_refused=refused,
            cpu_s=cpu_s,
        )

    def oom_event(self, name: str) -> int | None:
        """v1 kills one process of the group and leaves the others."""
        folder = f"{self.folder}/{name}"
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._files.write(f"{folder}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except BaseException:
            os.close(event)
            raise
        return event

    def kill(self, name: str) -> None:
        folder = f"{self.folder}/{name}"
        if Control.PIDS in self.controls:
            # what cannot fork is killed by one pass, without the freezer: a hierarchy less to join for every attempt
            with suppress(OSError):
                self._files.write(f"{folder}/pids.max", "0")
        kill_listed(self._files, folder)

    def remove(self, name: str) -> bool:
        folder = f"{self.folder}/{name}"
        self._counters.forget(folder)
        return remove_tree(self._files, folder)

    def is_empty(self, name: str) -> bool:
        folder = f"{self.folder}/{name}"
        if Control.PIDS in self.controls:
            # those of groups in it are counted as well
            return int(self._counters.read(folder, "pids.current")) == 0
        return not processes(self._files, folder)

    def renew(self, name: str) -> bool:
        folder = f"{self.folder}/{name}"
        if self._files.has_children(folder):
            return False
        if Control.MEMORY in self.controls:
            # pages of files that it has read, and files that it left on a tmpfs, stay counted for it
            if int(self._counters.read(folder, "memory.usage_in_bytes")) > RESIDUE_BYTES:
                return False
            self._counters.write(folder, "memory.max_usage_in_bytes", "0")
        return True

    def left(self) -> list[str]:
        return [os.path.basename(path) for path in self._files.children(self.folder)]  # noqa: PTH119
