"""Folders that behave as cgroups do, where no kernel of this machine has what a test is about."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from tidemill.node.limits.files import CgroupFiles

# beyond what a machine gives out: whatever a test gets wrong, nobody is killed
NOBODY: Final = 2**22 + 1

_OF_VERSION_1: Final = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.max_usage_in_bytes": "0",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
        "cgroup.event_control": "",
    },
    "pids": {"pids.max": "max", "pids.events": "max 0"},
    "cpu": {"cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
    "cpuacct": {"cpuacct.usage": "0"},
}
_OF_VERSION_2: Final = {
    "memory": {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0",
        "memory.peak": "0",
    },
    "pids": {"pids.max": "max", "pids.events": "max 0"},
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
}


class FakeKernel(CgroupFiles):
    """The rules of one hierarchy over a folder: which files a group has, who may be where, what may be removed.

    ``controllers`` of v1 are those of the hierarchy, of v2 those that its first group is offered. ``lacks`` are files
    that an older kernel does not have. ``denied`` are paths that nobody may write.
    """

    def __init__(self, root: Path, version: int, controllers: set[str], lacks: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.version = version
        self.lacks = lacks
        self.denied: set[str] = set()
        self.killed: list[int] = []
        self.offered = " ".join(sorted(controllers))
        self.controllers = controllers
        root.mkdir(parents=True)
        self._fill(root, controllers if version == 1 else set())

    def make(self, folder: str) -> None:
        self._check(folder)
        super().make(folder)
        parent = Path(folder).parent
        given = self.controllers if self.version == 1 else set((parent / "cgroup.subtree_control").read_text().split())
        self._fill(Path(folder), given)

    def write(self, path: str, text: str) -> None:
        self._check(path)
        file = Path(path)
        match file.name:
            case "cgroup.procs":
                self._move(file, text)
            case "cgroup.subtree_control" if text.startswith("-"):
                self._take(file.parent, text.removeprefix("-"))
            case "cgroup.subtree_control":
                self._give(file.parent, text.removeprefix("+"))
            case "cgroup.kill":
                self._kill(file.parent)
            case _:
                super().write(path, text.ljust(len(file.read_text())))

    def remove(self, folder: str) -> None:
        group = Path(folder)
        if not group.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        if (group / "cgroup.procs").read_text() or self.children(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), folder)
        shutil.rmtree(folder)

    def put(self, folder: str, *pids: int) -> None:
        """Have processes be in a group."""
        for pid in pids:
            self.write(f"{folder}/cgroup.procs", str(pid))

    def say(self, path: str, text: str) -> None:
        """Have a file of the kernel say something."""
        Path(path).write_text(text)

    def _check(self, path: str) -> None:
        if any(path.startswith(each) for each in self.denied):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def _fill(self, group: Path, controllers: set[str]) -> None:
        files = {"cgroup.procs": ""}
        known = _OF_VERSION_1 if self.version == 1 else _OF_VERSION_2
        for controller in controllers & set(known):
            files |= known[controller]
        if self.version == 2:
            offered = self.offered if group == self.root else " ".join(sorted(controllers))
            files |= {"cgroup.controllers": offered, "cgroup.subtree_control": "", "cpu.stat": "usage_usec 0"}
            files |= {} if group == self.root else {"cgroup.type": "domain", "cgroup.kill": ""}
        for name, text in files.items():
            if name not in self.lacks:
                (group / name).write_text(text)

    def _move(self, file: Path, pid: str) -> None:
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        for other in self.root.rglob("cgroup.procs"):
            other.write_text("\n".join(line for line in other.read_text().split() if line != pid))
        # processes below a group that hands something on live in its leaves
        if self.version == 2 and file.parent != self.root and (file.parent / "cgroup.subtree_control").read_text():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(file))
        file.write_text("\n".join([*file.read_text().split(), pid]))

    def _give(self, group: Path, controller: str) -> None:
        if controller not in (group / "cgroup.controllers").read_text().split():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(group))
        if group != self.root and (group / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(group))
        given = group / "cgroup.subtree_control"
        if controller in given.read_text().split():
            return
        given.write_text(" ".join(sorted({*given.read_text().split(), controller})))
        for child in group.iterdir():
            if child.is_dir():
                self._fill_more(child, controller)

    def _take(self, group: Path, controller: str) -> None:
        given = group / "cgroup.subtree_control"
        children = [child for child in group.iterdir() if child.is_dir()]
        if any(controller in (child / "cgroup.subtree_control").read_text().split() for child in children):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(group))
        given.write_text(" ".join(each for each in given.read_text().split() if each != controller))
        for child in children:
            offered = child / "cgroup.controllers"
            offered.write_text(" ".join(each for each in offered.read_text().split() if each != controller))
            for name in _OF_VERSION_2[controller]:
                (child / name).unlink(missing_ok=True)

    def _fill_more(self, group: Path, controller: str) -> None:
        offered = group / "cgroup.controllers"
        offered.write_text(" ".join(sorted({*offered.read_text().split(), controller})))
        for name, text in _OF_VERSION_2[controller].items():
            if name not in self.lacks:
                (group / name).write_text(text)

    def _kill(self, group: Path) -> None:
        for file in group.rglob("cgroup.procs"):
            self.killed += [int(pid) for pid in file.read_text().split()]
            file.write_text("")
