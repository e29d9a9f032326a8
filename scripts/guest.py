"""Runs the tests of limits in an emulated machine that has cgroup v2: ``make test-vm KERNEL=/boot/vmlinuz-…``.

Nothing of this machine is used but its files: its Python (3.11 or newer), a shell and some tools go into an image in
memory, with the project and pytest. Needs qemu-system-x86_64 and a kernel for it with memory, pids and cpu as cgroup
controllers and a serial console built in, such as Debian's for clouds. Emulated, it takes some minutes.
"""

import gzip
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = ("tests/unit/node/limits", "tests/node/test_groups.py", "tests/node/test_limits.py")
TOOLS: Final = (
    *("sh", "mount", "mkdir", "rmdir", "cat", "sleep", "setsid", "tail", "head", "dirname", "true", "env", "stdbuf"),
    *("touch", "ls"),
)
PYTEST: Final = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py.py")
PROJECT: Final = ("src", "tests", "pyproject.toml")
LEFT_OUT: Final = frozenset({"test", "idlelib", "tkinter", "ensurepip", "lib2to3", "__pycache__", "e2e", "simulator"})
MEMORY_MB: Final = 3072
PATIENCE_S: Final = 1500
DONE: Final = "GUEST ENDS WITH "

# the tests are in a group as a service manager gives one to a service: with controllers, and with nobody else
INIT: Final = """#!/bin/sh
export PATH=/usr/bin:/bin PYTHONPATH=/project/src:/project:/pytest HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp
mount -t tmpfs -o size=128m,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o size=512m,mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "+memory +pids +cpu" > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/service
cat /proc/version
cd /project
# compiles: else the first node would take too long to start
python3 -c "import tidemill.node.process"
sh -c 'echo 0 > /sys/fs/cgroup/service/cgroup.procs; exec "$@"' sh \\
    python3 -m pytest -q -rs -c /pytest.ini --rootdir=/project -p no:cacheprovider {tests}
status=$?
echo "{done}$status"
echo o > /proc/sysrq-trigger
sleep 60
"""


def main(kernel: str, tests: Sequence[str] = TESTS) -> int:
    """Run ``tests`` under ``kernel``. Exit code 0 when all passed, 1 when not, 2 when it could not be tried."""
    emulator = shutil.which("qemu-system-x86_64")
    if emulator is None or not kernel or not Path(kernel).exists():
        print("needs qemu-system-x86_64, and KERNEL=/path/to/vmlinuz", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.gz"
        with gzip.open(image, "wb", compresslevel=1) as out:
            for piece in archive(contents(tests)):
                out.write(piece)
        words = (
            *(emulator, "-m", str(MEMORY_MB), "-smp", "2", "-nographic", "-no-reboot", "-nodefaults"),
            *("-cpu", "max", "-accel", "tcg,thread=multi", "-serial", "stdio", "-kernel", kernel),
            *("-initrd", str(image), "-append", "console=ttyS0 quiet panic=-1 rdinit=/init"),
        )
        said = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False)
    print(said.stdout, said.stderr, sep="\n")
    return 0 if f"{DONE}0" in said.stdout.splitlines() else 1


def contents(tests: Sequence[str]) -> Iterator[tuple[str, Path | bytes]]:
    """What is in the image: paths without the first slash, each with a file of this machine or with its text."""
    yield "pytest.ini", b"[pytest]\naddopts = --import-mode=importlib --color=no --durations=5\n"
    yield "init", INIT.format(tests=" ".join(tests), done=DONE).encode()
    python = Path(os.path.realpath("/usr/bin/python3"))
    library = Path("/usr/lib") / python.name
    tools = [Path(os.path.realpath(found)) for tool in TOOLS if (found := shutil.which(tool))]
    for tool in TOOLS:
        if found := shutil.which(tool):
            yield f"usr/bin/{tool}", Path(os.path.realpath(found))
    yield "usr/bin/python3", python
    yield f"usr/bin/{python.name}", python
    yield "bin/sh", Path(os.path.realpath("/bin/sh"))
    yield from tree(library, str(library)[1:])
    for path in libraries([python, *tools, *library.rglob("*.so")]):
        yield path[1:], Path(os.path.realpath(path))
    installed = next(ROOT.glob(".venv/lib/python3*/site-packages"))
    for name in PYTEST:
        yield from tree(installed / name, f"pytest/{name}")
    for name in PROJECT:
        # what all tests have in common is the database, which these do not have
        yield from (each for each in tree(ROOT / name, f"project/{name}") if each[0] != "project/tests/conftest.py")


def tree(path: Path, name: str) -> Iterator[tuple[str, Path | bytes]]:
    """A file, or all files of a folder, under ``name``."""
    if not path.is_dir():
        yield name, path
        return
    for each in sorted(path.iterdir()):
        if each.name not in LEFT_OUT and each.exists():
            yield from tree(each, f"{name}/{each.name}")


def libraries(programs: Iterable[Path]) -> set[str]:
    """The shared libraries that programs load, by the paths under which they look for them."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    return {word for line in said.splitlines() for word in line.split() if word.startswith("/") and ":" not in word}


def archive(files: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    """A cpio archive in the form that kernels read (newc), with the folders that the files need."""
    made = set[str]()
    for name, content in files:
        for folder in map(str, reversed(Path(name).parents)):
            if folder not in {".", *made}:
                made.add(folder)
                yield entry(folder, stat.S_IFDIR | 0o755, b"")
        if name not in made:
            made.add(name)
            yield entry(name, stat.S_IFREG | 0o755, content if isinstance(content, bytes) else content.read_bytes())
    for folder in ("proc", "sys", "dev", "tmp"):
        yield entry(folder, stat.S_IFDIR | 0o755, b"")
    yield entry("TRAILER!!!", 0, b"")


def entry(name: str, mode: int, data: bytes) -> bytes:
    """One file or folder. Every number is that of nobody in particular: the kernel makes its own."""
    path = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
    return _whole(head) + _whole(data)


def _whole(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


if __name__ == "__main__":
    sys.exit(main("".join(sys.argv[1:2]), sys.argv[2:] or TESTS))
