"""Builds the launcher beside its source: ``python -m tidemill.node.launcher.build [--force]``.

Uses ``musl-gcc`` where there is one, else ``cc``, else the C compiler inside ``ziglang`` from PyPI. Does nothing when
the launcher is newer than its sources.
"""

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tidemill.node.launcher import LAUNCHER, SOURCES

FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


def compilers() -> Iterator[tuple[str, ...]]:
    """The compilers of this machine, the best first. All make it static: it starts in no time, and no linker obeys.

    It begins as root with a task's environment: where programs are linked when they start, ``LD_PRELOAD`` would be run
    by root. A program with musl starts sooner than one with glibc, which asks the processor about its caches first.
    """
    if found := shutil.which("musl-gcc"):
        # the kernel's headers are not its own
        headers = ("/usr/include", f"/usr/include/{platform.machine()}-linux-gnu")
        yield (found, *FLAGS, "-static", *(f"-idirafter{folder}" for folder in headers))
    if found := shutil.which("cc"):
        yield (found, *FLAGS, "-static")
    if importlib.util.find_spec("ziglang") is not None:
        target = f"{platform.machine()}-linux-musl"
        yield (sys.executable, "-m", "ziglang", "cc", "-target", target, *FLAGS, "-static")


def build(folder: Path, target: Path, using: Iterable[Sequence[str]] | None = None) -> str:
    """Compile all of ``folder`` to ``target``, under a temporary name first. Returns "", else why it could not.

    ``using``: compilers to try, by default all of this machine.
    """
    sources = sorted(str(path) for path in folder.glob("*.c"))
    partial = target.with_name(f"{target.name}.partial")
    said = "there is no C compiler: install cc (gcc or clang), or ziglang from PyPI\n"
    for compiler in compilers() if using is None else using:
        done = subprocess.run(
            [*compiler, "-o", str(partial), *sources],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            partial.rename(target)
            return ""
        said = done.stderr
    return said


def main(arguments: Sequence[str]) -> int:
    """Build unless there is nothing to do. Exit code 0, or 1 with the compiler's words on stderr."""
    newest = max(path.stat().st_mtime for path in SOURCES.glob("*.[ch]"))
    if "--force" not in arguments and LAUNCHER.exists() and LAUNCHER.stat().st_mtime >= newest:
        return 0
    problem = build(SOURCES, LAUNCHER)
    sys.stderr.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
