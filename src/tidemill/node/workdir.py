"""Where the private directories of attempts lie, and what is read from them."""

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.trees import remove_tree

# below this a tmpfs is not worth it: a task that fills it would fail where the disk has room
TMPFS_ROOM_BYTES: Final = 1 << 30
TMPFS_ROOTS: Final = (Path("/dev/shm"), Path("/run"))  # noqa: S108  # made with mode 0700, and refused unless it is ours

# without /dev/shm, where a task may open whatever is of its user
NOT_EVERYBODYS: Final = TMPFS_ROOTS[1:]

_PRIVATE: Final = 0o700
_PASSABLE: Final = 0o711
_TMPFS_MAGIC: Final = "tmpfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRoots:
    """``tasks`` lies on a tmpfs where there is one; ``builds`` on the disk, beside the cache that uv links from."""

    tasks: Path
    builds: Path


def tmpfs_name(data_dir: Path) -> str:
    """What the folder of a data directory's node is called outside of it."""
    return f"tidemill-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"


def open_work_roots(data_dir: Path, candidates: tuple[Path, ...] = TMPFS_ROOTS, *, passable: bool = False) -> WorkRoots:
    """Find or make both, and empty them: what a node that died has left is nobody's.

    ``passable``: others than the node may pass through them, each to a directory of its own.
    """
    # the folder of the node itself is closed
    on_disk = data_dir / "work" if passable else data_dir / "node" / "work"
    on_disk.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    name = tmpfs_name(data_dir)
    tasks = next((root / name for root in candidates if _is_roomy_tmpfs(root) and _own(root / name)), on_disk)
    for root in {tasks, on_disk}:
        root.chmod(_PASSABLE if passable else _PRIVATE)
    roots = WorkRoots(tasks=tasks, builds=on_disk)
    for root in {roots.tasks, roots.builds}:
        for left in root.iterdir():
            remove_tree(left)
    return roots


def remove_work_roots(roots: WorkRoots) -> None:
    """At the end of a node: what lies outside the data directory does not stay."""
    if roots.tasks != roots.builds:
        remove_tree(roots.tasks)


def _is_roomy_tmpfs(root: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if not any(fields[1] == str(root) and fields[2] == _TMPFS_MAGIC for fields in mounts):
        return False
    free = os.statvfs(root)
    # programs that a task puts into its TMPDIR must be able to run
    return not free.f_flag & os.ST_NOEXEC and free.f_bavail * free.f_frsize >= TMPFS_ROOM_BYTES


def _own(folder: Path) -> bool:
    """Whether ``folder`` is a directory of ours that nobody else can enter: its name can be guessed."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    found = folder.lstat()
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and mode in {_PRIVATE, _PASSABLE}


def remove_quickly(folder: Path, known: tuple[str, ...]) -> bool:
    """Remove ``folder`` if nothing is in it but ``known`` files. False when there is more: that may take long."""
    try:
        for name in known:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a task left in its result file: ``text`` is JSON; or ``error`` says why it is refused; or both are None."""

    text: str | None = None
    error: str | None = None


def read_result(file: Path, max_bytes: int) -> TaskResult:
    """Read the result a task has written; it may be anything, a pipe or a link included."""
    try:
        # a fifo would block the node, and a link could name a file that its task may not read
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return TaskResult()
    except OSError as error:
        return TaskResult(error=f"the result file cannot be read: {error.strerror}")
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return TaskResult(error="the result file is not a regular file")
        if found.st_size > max_bytes:
            return TaskResult(error=f"the result has {found.st_size} bytes; at most {max_bytes} are kept")
        data = os.read(fd, max_bytes + 1)
    finally:
        os.close(fd)
    return _check_json(data) if data else TaskResult()


def _check_json(data: bytes) -> TaskResult:
    try:
        text = data.decode()
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return TaskResult(error=f"the result is not JSON: {error}")
    return TaskResult(text=text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
