"""What the user of an attempt can reach: a closed directory hides all that is below it."""

import ctypes
import os
import stat
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_MS_REC_SLAVE: Final = (1 << 14) | (1 << 19)


def closed_above(path: Path) -> Path | None:
    """The first directory above ``path`` that not every user may pass through; None when there is none.

    Directories that do not exist yet are taken for open.
    """
    for folder in reversed(path.parents):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def hide_processes() -> None:
    """From here on this process, and what it starts, sees a /proc in which others see nothing but their own processes.

    Members of group 0 go on seeing all. Must be called before there are threads. Raises OSError where mounts are
    refused; then nothing has changed but the mount namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    # what the machine mounts later shall be seen here too, and nothing of this out there
    _check(libc.mount(b"none", b"/", None, _MS_REC_SLAVE, None))
    _check(libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, b"hidepid=2,gid=0"))


def _check(done: int) -> None:
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
