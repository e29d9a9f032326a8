"""Reading and writing the files of cgroups."""

import os
from contextlib import suppress
from typing import Final

_READ_BYTES: Final = 1 << 16
# systemd 251 and later, and the ones before it
_DELEGATED: Final = ("user.delegate", "trusted.delegate")
_LINKS_OF_A_FOLDER: Final = 2


class CgroupFiles:
    """The file systems of cgroups. All methods raise OSError; those of the kernel take microseconds, not milliseconds.

    Paths are strings, since these calls are made some forty times an attempt.
    """

    def read(self, path: str) -> str:
        """What a file says, without white space around it."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while piece := os.read(fd, _READ_BYTES):
                data += piece
        finally:
            os.close(fd)
        return data.decode().strip()

    def write(self, path: str, text: str) -> None:
        """Write in one call, as the kernel wants it. The file must be there."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def make(self, folder: str) -> None:
        """Raises FileExistsError when it is there."""
        os.mkdir(folder, 0o755)  # noqa: PTH102  # made for each attempt

    def remove(self, folder: str) -> None:
        """Raises OSError with EBUSY while a process or a group is in it."""
        os.rmdir(folder)  # noqa: PTH106  # removed after each attempt

    def children(self, folder: str) -> list[str]:
        """The paths of the groups in a group; empty when it is gone."""
        with suppress(FileNotFoundError):
            return [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        return []

    def has_children(self, folder: str) -> bool:
        """Whether there are groups in a group: they alone are folders in it, and each is a link to it."""
        return os.stat(folder).st_nlink > _LINKS_OF_A_FOLDER  # noqa: PTH116  # asked after each attempt

    def is_delegated(self, folder: str) -> bool:
        """Whether the service manager has given a group, with all below it, to who runs in it."""
        for name in _DELEGATED:
            with suppress(OSError):
                if os.getxattr(folder, name) == b"1":
                    return True
        return False

    def has(self, path: str) -> bool:
        return os.access(path, os.F_OK)

    def number(self, path: str, name: str) -> int | None:
        """The figure of line ``name`` in a file of lines ``name figure``; None when there is no such line or file."""
        try:
            text = self.read(path)
        except FileNotFoundError:
            return None
        return figure_of(text, name)


def processes(files: CgroupFiles, folder: str) -> list[int]:
    """The processes that are in a group itself, not in groups of it; empty when it is gone."""
    try:
        return [int(line) for line in files.read(f"{folder}/cgroup.procs").split()]
    except FileNotFoundError:
        return []


def figure_of(text: str, name: str) -> int | None:
    """The figure of line ``name`` in lines of ``name figure``; None when there is no such line."""
    for line in text.splitlines():
        key, _, figure = line.partition(" ")
        if key == name:
            return int(figure)
    return None
