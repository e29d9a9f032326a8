"""What the kernel has counted of a group, from files that stay open as long as the group is used."""

import os
from typing import Final

# a counter is a number, or a few lines of them
_READ_BYTES: Final = 4096


class Counters:
    """Files of groups that are read after each attempt: groups are used again, and to open a file is the dear part.

    Only for files that the kernel makes anew for each read from the beginning: lists of processes on v1 are not. All
    methods raise OSError, ENODEV of a group that was removed meanwhile.
    """

    def __init__(self) -> None:
        self._open: dict[str, dict[tuple[str, int], int]] = {}

    def read(self, folder: str, name: str) -> str:
        """What file ``name`` of the group ``folder`` says now."""
        return os.pread(self._fd(folder, name, os.O_RDONLY), _READ_BYTES, 0).decode()

    def write(self, folder: str, name: str, text: str) -> None:
        os.pwrite(self._fd(folder, name, os.O_WRONLY), text.encode(), 0)

    def forget(self, folder: str) -> None:
        """The group is to be removed: close what is open of it."""
        for fd in self._open.pop(folder, {}).values():
            os.close(fd)

    def _fd(self, folder: str, name: str, how: int) -> int:
        files = self._open.setdefault(folder, {})
        # most may only be read, but by root
        if (name, how) not in files:
            files[name, how] = os.open(f"{folder}/{name}", how | os.O_CLOEXEC)
        return files[name, how]
