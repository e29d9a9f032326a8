"""Growing log files: plain files in the data directory that are only ever appended to."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from pathlib import Path
from typing import Final

from tidemill.model.errors import NotFound, OutOfSpace

_FILE: Final = re.compile(r"[0-9]{10}-.+\.log")


class LogFiles:
    """Files under one directory, named ``JOB/HOUR-NODE.log``. One thread appends, any number read."""

    def __init__(self, root: Path) -> None:
        """Open, or make, the directory at ``root``."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._unsynced: dict[str, int] = {}
        self._began: dict[str, int] = {}
        self._ends: dict[str, int] = {}

    def append(self, name: str, data: bytes) -> int:
        """Add ``data`` to the file ``name``; where it begins there. On disk only after ``sync``. Raises OutOfSpace."""
        try:
            descriptor = self._open(name)
            offset = os.fstat(descriptor).st_size
            self._began.setdefault(name, offset)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
                self._ends[name] = os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError as error:
            raise _plain(name, error) from error
        return offset

    def sync(self) -> None:
        """Return when everything appended is on disk. Raises OutOfSpace."""
        for name, descriptor in list(self._unsynced.items()):
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise _plain(name, error) from error
            finally:
                del self._unsynced[name]
                os.close(descriptor)

    def keep(self) -> None:
        """What was appended is referred to from now on."""
        self._began.clear()
        self._ends.clear()

    def undo(self) -> None:
        """Take back what was appended since the last ``keep``: tries on a full disk must not leave their bytes.

        Where another server has appended after it, it stays: nothing refers to it, but to what came after.
        """
        for name, size in self._began.items():
            if self._path(name).stat().st_size <= self._ends.get(name, size):
                os.truncate(self._path(name), size)
        self.keep()

    def read(self, name: str, offset: int, length: int) -> bytes:
        """That piece of the file, shorter if the file is. Raises NotFound."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"the log file {name} is gone") from error
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def older(self, hour: str) -> Iterator[str]:
        """Names of files of hours before ``hour`` (YYYYMMDDHH). Folders that are empty are removed on the way."""
        for folder in sorted(path for path in self._root.iterdir() if path.name.isdecimal()):
            files = sorted(path.name for path in folder.iterdir())
            old = (file for file in files if _FILE.fullmatch(file) and file[: len(hour)] < hour)
            yield from (f"{folder.name}/{file}" for file in old)
            if not files:
                with suppress(OSError):  # a file has come meanwhile
                    folder.rmdir()

    def remove(self, name: str) -> None:
        """Without effect when there is none."""
        self._path(name).unlink(missing_ok=True)

    def _open(self, name: str) -> int:
        descriptor = self._unsynced.get(name)
        if descriptor is None:
            path = self._path(name)
            new = not path.exists()
            path.parent.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._unsynced[name] = descriptor
            if new:
                for folder in (path.parent, self._root):
                    _sync_folder(folder)
        return descriptor

    def _path(self, name: str) -> Path:
        path = self._root / name
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise ValueError(f"{name!r} is no name of a log file")
        return path


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _plain(name: str, error: OSError) -> OSError | OutOfSpace:
    if error.errno in {ENOSPC, EDQUOT, EIO, EFBIG}:
        return OutOfSpace(f"the log file {name} cannot be written: {error.strerror}; free disk space")
    return error
