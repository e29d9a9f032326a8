"""Directories that somebody else has filled: measured and removed, whatever was done to them to be neither.

Who filled them may have closed a directory to its own user, or made them deeper than a path can say.
"""

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# what a file takes though nothing is in it: a node of the file system and a name, of which it has so many and no more
ENTRY_BYTES: Final = 4096

_BLOCK_BYTES: Final = 512
_OPEN: Final = 0o700
# how many names of one directory are held in memory
_NAMES_MAX: Final = 4096


def held_bytes(top: Path, limit_bytes: int) -> int:
    """What ``top`` holds on its file system, with all below it; 0 when it is gone.

    More than ``limit_bytes`` where something in it cannot be looked at, for then nobody knows. Directories that are
    closed to their own user are opened. A file that has no name any more is not seen, though it takes room as long as
    somebody has it open.
    """
    found, left = 0, [str(top)]
    while left:
        folder = left.pop()
        try:
            with _opened(folder, None) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        found += max(entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES, ENTRY_BYTES)
                        if entry.is_dir(follow_symlinks=False):
                            left.append(f"{folder}/{entry.name}")
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return limit_bytes + 1
    return found


def remove_tree(top: Path) -> bool:
    """Remove ``top`` with all below it, of which nobody changes anything any more. Whether it is gone."""
    with suppress(OSError):
        if not stat.S_ISDIR(top.lstat().st_mode):
            top.unlink()
            return True
        with _opened(str(top), None) as fd:
            _empty(fd)
        top.rmdir()
    return not os.path.lexists(top)


def _empty(top: int) -> None:
    """Remove all that is in the directory ``top``. Raises OSError for what cannot be removed."""
    while names := _names(top):
        for name in names:
            if not _is_folder(name, top):
                os.unlink(name, dir_fd=top)
                continue
            with _opened(name, top) as fd:
                _flatten(fd, top)
            os.rmdir(name, dir_fd=top)


def _flatten(folder: int, top: int) -> None:
    """Empty ``folder``: what is a directory in it goes to ``top``, so that nothing is ever deep."""
    while names := _names(folder):
        for name in names:
            if _is_folder(name, folder):
                # its link to where it lies is in it
                with _opened(name, folder):
                    os.rename(name, f".{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(name, dir_fd=folder)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, _NAMES_MAX)]


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


@contextmanager
def _opened(name: str, folder: int | None) -> Iterator[int]:
    """A directory to read and to change; one that is closed to its own user is opened. Raises OSError."""
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(found).st_mode & _OPEN != _OPEN and os.fstat(found).st_uid == os.geteuid():
            # of this very directory, whatever has its name by now
            Path(f"/proc/self/fd/{found}").chmod(_OPEN)
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        yield fd
    finally:
        os.close(fd)
