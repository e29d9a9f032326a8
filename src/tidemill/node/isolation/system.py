"""What every program needs of the machine it runs on, and nothing that is anybody's own."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tidemill.node.isolation.confinement import Files
from tidemill.node.trees import remove_tree

PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CONFIGURATION: Final = (
    *("alternatives", "ca-certificates", "crypto-policies", "pki", "ssl", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *(
        "ld.so.preload",
        "locale.alias",
        "localtime",
        "timezone",
        "passwd",
        "group",
        "nsswitch.conf",
        "hosts",
        "host.conf",
    ),
    *("resolv.conf", "gai.conf", "services", "protocols", "mime.types", "os-release", "fonts", "java", "magic"),
    *("pip.conf", "uv", "gitconfig"),
)
# sitecustomize.py of Debian's Python is a link to here, and an interpreter that finds it unreadable says so each time
_CONFIGURATION_OF_PYTHONS: Final = "python3*"
_KERNEL: Final = ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm")
_DEVICES: Final = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom", "tty"))
# semaphores and shared memory of POSIX are files here; Python's multiprocessing cannot do without
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # granted to tasks, not used by us


def system_files() -> Files:
    """What there is of it on this machine now."""
    read = [*map(Path, PROGRAMS), *configuration(), *map(Path, _KERNEL)]
    write = [*_DEVICES, _SHARED_MEMORY]
    return Files(read=tuple(_without_covered(read)), write=tuple(p for p in write if p.exists()))


def configuration() -> list[Path]:
    """What programs read of /etc, be it there or not."""
    etc = Path("/etc")
    return [*(etc / name for name in _CONFIGURATION), *sorted(etc.glob(_CONFIGURATION_OF_PYTHONS))]


def program_links() -> dict[str, str]:
    """Of the folders of programs those that are links here (``/bin`` to ``usr/bin``), and what they say."""
    return {name: os.readlink(name) for name in PROGRAMS if Path(name).is_symlink()}  # noqa: PTH115


def _without_covered(paths: Iterable[Path]) -> Iterator[Path]:
    """Those that exist and do not lie, links followed, below one before them: each is another rule at each start."""
    folders: list[Path] = []
    for path in paths:
        if path.exists() and not any(path.resolve().is_relative_to(folder) for folder in folders):
            folders.append(path.resolve())
            yield path


def leave_no_shared_memory(uid: int) -> None:
    """Remove what user ``uid``, of whom no process is left, has left in the shared memory of the machine."""
    with os.scandir(_SHARED_MEMORY) as found:
        left = [entry.path for entry in found if _owner(entry) == uid]
    for path in left:
        remove_tree(Path(path))


def _owner(entry: "os.DirEntry[str]") -> int | None:
    """None when it is gone: others make and remove theirs meanwhile."""
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None
