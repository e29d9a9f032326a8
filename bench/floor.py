"""What no program could beat by much: two C programs that start the same command, compiled here.

``bare`` starts it and no more; ``equal`` does all that the node does for a task at level process. What the node asks
its launcher for is taken from a task that really runs.
"""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.confinement import built, opened_groups
from bench.ground import MEMORY_MB, Ground, deploy
from tests.e2e.drive import until
from tidemill.node.limits.groups import GroupLimits
from tidemill.node.workdir import tmpfs_name

WORKERS: Final = 2
COMMAND: Final = "/bin/true"
_STILL: Final = "still"
_WORDS: Final = ("/bin/sleep", "1000")
# half of a task's memory, as of a job that does not say (docs/limits.md)
_ROOM_BYTES: Final = MEMORY_MB << 19
# a group has another name each time; the rest is about what comes later, not about how this command starts
_NOT_OURS: Final = ("--join=", "--listen=", "--alone", "--keep-ruleset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options for the launcher without those that name one task's own; where its directory lay; if that is a mount."""

    options: tuple[str, ...]
    root: Path
    mounted: bool


@dataclass(frozen=True, slots=True)
class Took:
    """Of one round: on the clock, and CPU of all processes."""

    wall_s: float
    cpu_s: float


class Floor:
    """The two programs, and what ``equal`` is asked for."""

    def __init__(self, folder: Path, asked: Asked, joins: Sequence[str], work: Path) -> None:
        self._bare = built(folder, "bare")
        self._equal = built(folder, "equal", "files.c", "calls.c", "identity.c", "group.c")
        room = (f"--room={_ROOM_BYTES}",) if asked.mounted else ()
        self._work = work
        self._options = (f"--work={work}", *room, *joins, *asked.options)

    def bare(self, tasks: int) -> Took:
        return _took((self._bare, str(tasks), COMMAND))

    def equal(self, tasks: int) -> Took:
        took = _took((self._equal, str(tasks), *self._options, "--", COMMAND))
        for place in self._work.iterdir():
            place.rmdir()
        return took


@contextmanager
def opened(ground: Ground, folder: Path) -> Iterator[Floor]:
    """Build both in ``folder``; groups and directories are gone afterwards."""
    asked = asked_for(ground, folder)
    work = asked.root / f"tidemill-bench-{os.getpid()}"
    work.mkdir(mode=0o711)
    try:
        with opened_groups() as groups:
            limits = GroupLimits(memory_bytes=MEMORY_MB << 20, pids=2048)
            made = [groups.make(str(worker), limits) for worker in range(WORKERS)]
            joins = [f"--join{n}={file}" for n, group in enumerate(made) if group is not None for file in group.join]
            yield Floor(folder, asked, joins, work)
            for group in made:
                if group is not None:
                    group.remove()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def asked_for(ground: Ground, folder: Path) -> Asked:
    """What the node asks its launcher for, read from the command line of a launcher whose task sleeps."""
    deploy(ground.server, folder, _STILL, " ".join(_WORDS))
    execution = ground.submit(1, job=_STILL)
    words = until(lambda: _launchers(ground))[0]
    options = words[2 : words.index("--")]
    works = [word for word in options if word.startswith("--write=") and _is_of_tasks(ground, word)]
    work = Path(works[0].partition("=")[2])
    mounts = Path(f"/proc/{ground.server.node_pid}/mounts").read_text()
    mounted = any(line.split()[1] == str(work) for line in mounts.splitlines())
    ground.http.delete(f"/jobs/{_STILL}/executions/{execution}?force=true").raise_for_status()
    until(lambda: not _launchers(ground))
    own = (*works, f"--show={work}")
    kept = tuple(word for word in options if not word.startswith(_NOT_OURS) and word not in own)
    return Asked(options=kept, root=work.parent.parent, mounted=mounted)


def _is_of_tasks(ground: Ground, option: str) -> bool:
    """Whether a path lies where the node keeps the directories of tasks."""
    data = ground.server.data
    return f"/{tmpfs_name(data)}/" in option or f"={data}/work/" in option or f"={data}/node/work/" in option


def _launchers(ground: Ground) -> list[list[str]]:
    """The words of those whose task sleeps; one that ends meanwhile is none."""
    found = []
    for child in psutil.Process(ground.server.node_pid).children():
        with suppress(psutil.Error):
            words = child.cmdline()
            if tuple(words[-2:]) == _WORDS and "--" in words:
                found.append(words)
    return found


def _took(words: Sequence[str]) -> Took:
    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_CHILDREN)
        return found.ru_utime + found.ru_stime

    cpu, begun = used(), time.perf_counter()
    subprocess.run(words, check=True)
    return Took(time.perf_counter() - begun, used() - cpu)
