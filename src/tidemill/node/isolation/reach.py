"""What the user of an attempt can reach: a closed directory hides all that is below it."""

import ctypes
import os
import stat
from functools import cache
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_MS_NOSUID_NODEV: Final = 2 | 4
_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_MNT_DETACH_NOFOLLOW: Final = 2 | 8
_PAGE_BYTES: Final = 4096
_FILES_MIN: Final = 1024
_MS_REC_SLAVE: Final = (1 << 14) | (1 << 19)


def closed_above(path: Path) -> Path | None:
    """The first directory above ``path`` that not every user may pass through; None when there is none.

    Directories that do not exist yet are taken for open.
    """
    for folder in reversed(path.parents):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def own_mounts() -> None:
    """From here on what this process mounts is seen by itself and what it starts, and goes with the last of them.

    Must be called before there are threads. Raises OSError where mounts are refused.
    """
    libc = _libc()
    _check(libc.unshare(_CLONE_NEWNS))
    # what the machine mounts later shall be seen here too, and nothing of this out there
    _check(libc.mount(b"none", b"/", None, _MS_REC_SLAVE, None))


def hide_processes() -> None:
    """From here on this process, and what it starts, sees a /proc in which others see nothing but their own processes.

    Members of group 0 go on seeing all. Only after ``own_mounts``. Raises OSError where mounts are refused.
    """
    _check(_libc().mount(b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, b"hidepid=2,gid=0"))


def mount_memory(folder: str, size_bytes: int) -> None:
    """Mount a directory over ``folder`` that holds so much and lies in memory. Raises OSError.

    It is ours, and others may pass through. Whose memory it is: of whoever fills it.
    """
    # a file takes memory though nothing is in it: as many as there are pages, and some
    files = size_bytes // _PAGE_BYTES + _FILES_MIN
    options = f"mode=0711,size={size_bytes},nr_inodes={files}".encode()
    _check(_libc().mount(b"tidemill", os.fsencode(folder), b"tmpfs", _MS_NOSUID_NODEV, options))


def unmount(folder: str) -> None:
    """At once, whoever still has it open; what it held is gone with the last of these. Raises OSError."""
    _check(_libc().umount2(os.fsencode(folder), _MNT_DETACH_NOFOLLOW))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(done: int) -> None:
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
