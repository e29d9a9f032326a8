"""Blobs by name in a local directory, through obstore; on disk before a call returns."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path
from typing import Final

from obstore.exceptions import NotFoundError
from obstore.store import LocalStore

from tidemill.model.errors import NotFound, OutOfSpace

_FOLDERS: Final = ("sources", "images", "incoming")
_CHUNK_BYTES: Final = 1 << 20
_GOING: Final = ".going"


class Blobs:
    """The bytes of a data directory. Names are those of ``tidemill.model.image``: ``FOLDER/FILE``."""

    def __init__(self, root: Path) -> None:
        """Open, or make, the directory at ``root``."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in _FOLDERS:
            (root / folder).mkdir(exist_ok=True, mode=0o700)
        self._store = LocalStore(prefix=root)

    def path(self, name: str) -> Path:
        """Where the blob lies, or would lie, on this machine."""
        path = self._root / name
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise ValueError(f"{name!r} is no name of a blob")
        return path

    def put_file(self, name: str, source: Path) -> None:
        """Copy the file ``source`` to ``name``, replacing what is there."""
        with _space_errors(name), source.open("rb") as file:
            self._store.put(name, file, chunk_size=_CHUNK_BYTES)
        self._sync(name)

    def put_stream(self, name: str, chunks: Iterator[bytes]) -> None:
        """Write what ``chunks`` yields to ``name``, replacing what is there."""
        with _space_errors(name):
            self._store.put(name, chunks)
        self._sync(name)

    def take_file(self, name: str, source: Path) -> None:
        """Move the file ``source`` of the same file system to ``name``, replacing what is there: no byte is copied."""
        with _space_errors(name):
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            source.replace(self.path(name))
        self._sync_folder(name)

    def get(self, name: str) -> bytes:
        """The whole blob. Raises NotFound."""
        try:
            return bytes(self._store.get(name).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"no blob {name!r}") from error

    def move(self, source: str, target: str) -> None:
        """Rename a blob; when ``target`` is there already it is as new as if made now. Raises NotFound for neither."""
        try:
            os.utime(self.path(target))
        except FileNotFoundError:
            try:
                self.path(source).replace(self.path(target))
            except FileNotFoundError as error:
                raise NotFound(f"no blob {source!r}") from error
            self._sync_folder(target)
        self.delete(source)

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def delete(self, name: str) -> None:
        """Without effect when there is none."""
        with suppress(NotFoundError, FileNotFoundError):
            self._store.delete(name)

    def older(self, folder: str, before_s: float) -> list[str]:
        """Names of blobs in ``folder`` (sources, images, incoming) last made, or moved to, before that time.

        Also of those whose removal was cut short; ``remove_unless`` takes either.
        """
        with os.scandir(self._root / folder) as entries:
            old = [entry.name for entry in entries if entry.is_file() and entry.stat().st_mtime < before_s]
        return [f"{folder}/{name.removesuffix(_GOING)}" for name in old]

    def remove_unless(self, name: str, before_s: float, wanted: Callable[[], object]) -> bool:
        """Remove a blob that is older than that and not ``wanted``; whether it is gone.

        It is set aside first, and what is asked is asked then: who comes across it before that makes it new or has
        said so in the store, who comes after it finds none and makes another one.
        """
        path = self.path(name)
        aside = path.with_name(path.name + _GOING)
        with suppress(FileNotFoundError):
            path.replace(aside)
        try:
            if aside.stat().st_mtime >= before_s or wanted():
                if not path.exists():
                    aside.replace(path)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        return True

    def _sync(self, name: str) -> None:
        with _space_errors(name):
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._sync_folder(name)

    def _sync_folder(self, name: str) -> None:
        descriptor = os.open(self.path(name).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _space_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # obstore hands on the system's words without its number
        if error.errno in {ENOSPC, EDQUOT, EIO} or "No space left" in str(error):
            raise OutOfSpace(f"{name} cannot be written: no space left; free disk space and send it again") from error
        raise
