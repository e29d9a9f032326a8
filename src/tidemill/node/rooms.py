"""The private directories of attempts: made, held to a size, and removed with all that is in them."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.node.isolation.reach import mount_memory, unmount
from tidemill.node.memory import Known
from tidemill.node.workdir import remove_quickly
from tidemill.node.worker import Worker

_BLOCK_BYTES: Final = 512


class Rooms:
    """Where the node may mount, a directory is one of that size; elsewhere somebody has to look (``held_bytes``)."""

    def __init__(self, worker: Worker, *, mounts: bool) -> None:
        """``mounts``: what this process mounts nobody outside sees."""
        self.mounts = mounts
        self._worker = worker
        self._mounted: set[Path] = set()

    def make(self, folder: Path, size_bytes: int | None) -> None:
        """Make ``folder``, of mode 0700; None: of no size. Raises OSError."""
        folder.mkdir(mode=0o700)
        if self.mounts and size_bytes is not None:
            mount_memory(folder, size_bytes)
            self._mounted.add(folder)

    def remove(self, folder: Path, known: tuple[str, ...], done: Callable[[], None]) -> None:
        """Call ``done`` when it is gone, now if nothing is in it but ``known`` files. There may be no such folder."""
        if folder in self._mounted:
            self._mounted.discard(folder)
            self._worker.submit(lambda: _remove_mounted(folder), lambda _result: done())
        elif remove_quickly(folder, known):
            done()
        else:
            self._worker.submit(lambda: shutil.rmtree(folder, ignore_errors=True), lambda _result: done())


def _remove_mounted(folder: Path) -> None:
    with suppress(OSError):
        unmount(folder)
    # whoever was started meanwhile with mounts of its own has this one too: it goes with the directory that it lies on
    shutil.rmtree(folder, ignore_errors=True)


def held_bytes(known: Mapping[Path, Known]) -> dict[Path, int]:
    """What each directory holds on its file system now, with all below it; 0 for one that is gone.

    A file that has no name any more is not seen, though it takes room as long as somebody has it open.
    """
    return {folder: sum(_sizes(folder)) for folder in known}


def _sizes(folder: Path) -> Iterator[int]:
    """Of all that is in it, however deep."""
    left = [str(folder)]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as found:
            for entry in found:
                with suppress(OSError):
                    yield entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
