"""What it costs to start a confined command: CPU time of /bin/true by the node's Spawner, next to one C program's.

    python -m bench.confinement [COUNT]

One after the other, in alternating rounds: without confinement; at level process; and two C programs: one starts
launchers too (bench/driven.c), one takes the steps itself and owns nothing (bench/confined.c). As root commands are
another user.
"""

import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tidemill.node.isolation.confinement import UNCONFINED, Confinement, Files
from tidemill.node.isolation.system import system_files
from tidemill.node.launcher import LAUNCHER, SOURCES
from tidemill.node.launcher.build import FLAGS
from tidemill.node.spawn import Command, Ended, Spawner

ROUNDS: Final = 5
TRUE: Final = "/bin/true"


def cpu_s() -> float:
    """CPU time of this process and of all children it has collected."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def spawn(spawner: Spawner, confinement: Confinement, count: int, work: Path) -> None:
    """Start ``count`` commands, each after the end of the one before it."""
    null = os.open(os.devnull, os.O_WRONLY)
    for _ in range(count):
        command = Command(
            words=(TRUE,), directory=work, environment={}, memory_bytes=None, stdout=null, stderr=null,
            confinement=confinement,
        )  # fmt: skip
        process = spawner.start(command)
        facts = process.facts()
        while not facts or not isinstance(facts[-1], Ended):
            select.select([process.fd], [], [])
            facts += process.facts()
        process.close()
        os.waitpid(process.pid, 0)
    os.close(null)


def built(work: Path, name: str, *sources: str) -> str:
    """The C program ``bench/NAME.c``, with ``sources`` of the launcher."""
    program = str(work / name)
    own = str(Path(__file__).with_name(f"{name}.c"))
    words = ["cc", *FLAGS, "-static", f"-I{SOURCES}", "-o", program, own]
    subprocess.run([*words, *(str(SOURCES / source) for source in sources)], check=True)
    return program


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def main(count: int) -> None:
    """Measure, and print the milliseconds of CPU that one command took: median and least of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o777)
        known = system_files()
        files = Files(read=known.read, write=(*known.write, work))
        uid = 200_000 if os.geteuid() == 0 else None
        confined = Confinement(uid=uid, files=files, powerless=True, calls=True)
        alive = os.open(work / "alive", os.O_RDWR | os.O_CREAT)
        high = os.dup2(alive, 32)
        spawner = Spawner(LAUNCHER, high)
        alone, driven = built(work, "confined", "files.c", "calls.c", "identity.c"), built(work, "driven")
        asked = (*confined.options(), "--", TRUE)
        ways: dict[str, Callable[[], None]] = {
            "node, unconfined": lambda: spawn(spawner, UNCONFINED, count, work),
            "node, level process": lambda: spawn(spawner, confined, count, work),
            "C program with launchers": lambda: run(driven, str(count), str(LAUNCHER), *asked),
            "C program without": lambda: run(alone, str(count), *asked),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                before = cpu_s()
                way()
                found[name].append((cpu_s() - before) / count * 1000)
    table = Table("", "median ms", "least ms")
    for name, times in found.items():
        table.add_row(name, f"{statistics.median(times):.2f}", f"{min(times):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
