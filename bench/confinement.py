"""What it costs to start a confined command: /bin/true, by the node's Spawner, next to programs that do no more.

    python -m bench.confinement [COUNT]

One after the other, in alternating rounds: without confinement, at level process and at level sandbox, both with a
group where there are groups; two C programs that are asked for just what the node asked its launcher for at level
process, of which one starts launchers (bench/driven.c) and one takes the steps itself and owns nothing
(bench/confined.c); and bubblewrap alone, started by subprocess, which makes a sandbox of the same kind. As root
commands are other users.
"""

import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import look, open_isolation
from tidemill.node.isolation.protocol import Isolation, Needs
from tidemill.node.launcher import LAUNCHER, SOURCES
from tidemill.node.launcher.build import FLAGS
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.groups import Group, GroupLimits
from tidemill.node.limits.places import PREFIX, own_places
from tidemill.node.limits.probe import Groups, open_groups
from tidemill.node.settings import NodeSettings
from tidemill.node.spawn import Command, Ended, Process, Spawner

ROUNDS: Final = 5
TRUE: Final = "/bin/true"
MEMORY_MB: Final = 256
# as in a sandbox of ours, with nothing of a task's own; its first process is the command
BUBBLEWRAP: Final = (
    *("bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--disable-userns", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"),
    *("--size", "16777216", "--tmpfs", "/dev/shm", "--size", "67108864", "--perms", "1777", "--tmpfs", "/tmp"),
    *("--remount-ro", "/dev", "--remount-ro", "/", "--cap-drop", "ALL", "--new-session", "--clearenv", "--as-pid-1"),
)


@dataclass
class Measured:
    """What one way of starting commands took, a number each round."""

    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)


def cpu_s() -> float:
    """CPU time of this process and of all children it has collected."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Noting(Spawner):
    """Knows which command it has started last."""

    last: Command

    def start(self, command: Command) -> Process:
        self.last = command
        return super().start(command)


class Bench:
    """Starts commands in ``work``, each after the end of the one before it."""

    def __init__(self, work: Path, groups: Groups) -> None:
        self.work = work
        self.groups = groups
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.spawner = Noting(LAUNCHER, os.dup2(os.open(work / "alive", os.O_RDWR | os.O_CREAT), 32))

    def isolated(self, isolation: Isolation, count: int) -> None:
        """At a level, with limits as attempts of a node have them: a group is used again when it is as a new one."""
        needs = Needs(read=(), write=(self.work,), memory_mb=MEMORY_MB)
        group = self._group()
        for _ in range(count):
            seat = isolation.users.seat(build=False)
            command = self._command(() if group is None else group.join)
            self._hear(isolation.start(seat, needs, command))
            isolation.users.leave(seat, empty=True)
            if group is not None:
                group.renew(group.usage())
        if group is not None:
            group.remove()

    def unconfined(self, count: int) -> None:
        for _ in range(count):
            self._hear(self.spawner.start(self._command(())))

    def asked(self, isolation: Isolation) -> list[str]:
        """What the launcher is asked for at a level."""
        seat = isolation.users.seat(build=False)
        self._hear(isolation.start(seat, Needs(read=(), write=(self.work,), memory_mb=MEMORY_MB), self._command(())))
        isolation.users.leave(seat, empty=True)
        return [*self.spawner.last.options()]

    def program(self, words: Sequence[str], asked: Sequence[str]) -> None:
        """A C program of ours, whose commands are in a group, and are confined to what ``asked`` says."""
        group = self._group()
        joins = () if group is None else (f"--join={file}" for file in group.join)
        subprocess.run([*words, *joins, *asked, "--", TRUE], check=True)
        if group is not None:
            group.remove()

    def bubblewrap(self, uid: int | None, count: int) -> None:
        for _ in range(count):
            groups = None if uid is None else ()
            subprocess.run([*BUBBLEWRAP, TRUE], check=True, user=uid, group=uid, extra_groups=groups)

    def _group(self) -> Group | None:
        return self.groups.make("1", GroupLimits(memory_bytes=MEMORY_MB << 20, pids=2048))

    def _command(self, join: tuple[str, ...]) -> Command:
        return Command(
            words=(TRUE,),
            directory=Path("/"),
            environment={},
            memory_bytes=None,
            stdout=self.null,
            stderr=self.null,
            join=join,
        )

    @staticmethod
    def _hear(process: Process) -> None:
        facts = process.facts()
        while not facts or not isinstance(facts[-1], Ended):
            select.select([process.fd], [], [])
            facts += process.facts()
        process.close()
        os.waitpid(process.pid, 0)


def built(work: Path, name: str, *sources: str) -> str:
    """The C program ``bench/NAME.c``, with ``sources`` of the launcher."""
    program = str(work / name)
    own = str(Path(__file__).with_name(f"{name}.c"))
    words = ["cc", *FLAGS, "-static", f"-I{SOURCES}", "-o", program, own]
    subprocess.run([*words, *(str(SOURCES / source) for source in sources)], check=True)
    return program


def levels(work: Path, spawner: Spawner) -> Iterator[Isolation]:
    """Those that this machine has, weakest first."""
    for level in (Level.PROCESS, Level.SANDBOX):
        data_dir = work / level
        (data_dir / "node").mkdir(parents=True)
        settings = NodeSettings(data_dir=data_dir, memory_mb=1024, slots=1, isolation=level)
        try:
            yield open_isolation(look(settings, LAUNCHER), spawner)
        except IsolationError as error:
            Console().print(f"no level {level}: {error}")


@contextmanager
def opened_groups() -> Iterator[Groups]:
    files = CgroupFiles()
    groups = open_groups(files, own_places(files), f"{PREFIX}bench-{os.getpid()}", (os.getpid(),))
    try:
        yield groups
    finally:
        groups.close(files)


def ways(bench: Bench, count: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each way of starting ``count`` commands, by its name."""
    alone = built(bench.work, "confined", "files.c", "calls.c", "identity.c", "group.c")
    driven = built(bench.work, "driven")
    yield "node, unconfined", lambda: bench.unconfined(count)
    opened = list(levels(bench.work, bench.spawner))
    asked = bench.asked(opened[0])
    for isolation in opened:
        yield f"node, level {isolation.level}", partial(bench.isolated, isolation, count)
    yield "C program with launchers", lambda: bench.program((driven, str(count), str(LAUNCHER)), asked)
    yield "C program without", lambda: bench.program((alone, str(count)), asked)
    if any(isolation.level is Level.SANDBOX for isolation in opened):
        yield "bubblewrap alone", lambda: bench.bubblewrap(200_000 if os.geteuid() == 0 else None, count)


def main(count: int) -> None:
    """Measure, and print the milliseconds that one command took, on the clock and of CPU."""
    with tempfile.TemporaryDirectory() as folder, opened_groups() as groups:
        work = Path(folder)
        work.chmod(0o777)
        found = dict(ways(Bench(work, groups), count))
        measured = {name: Measured() for name in found}
        for _ in range(ROUNDS):
            for name, way in found.items():
                cpu, began = cpu_s(), time.perf_counter()
                way()
                measured[name].wall_ms.append((time.perf_counter() - began) / count * 1000)
                measured[name].cpu_ms.append((cpu_s() - cpu) / count * 1000)
    table = Table("", "median ms", "least ms", "median CPU ms", "least CPU ms")
    for name, took in measured.items():
        each = (took.wall_ms, took.cpu_ms)
        table.add_row(name, *(f"{pick(times):.2f}" for times in each for pick in (statistics.median, min)))
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
