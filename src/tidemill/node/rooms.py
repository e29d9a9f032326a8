"""The private directories of attempts: made, held to a size, and removed with all that is in them."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation.reach import mount_memory, unmount
from tidemill.node.memory import Known
from tidemill.node.trees import held_bytes, remove_tree
from tidemill.node.workdir import remove_quickly
from tidemill.node.worker import Worker

# mounts that wait for an attempt whose directory has their size; empty, they take no memory
SPARE_MAX: Final = 64

# no attempt is called so
_PREFIX: Final = "sized-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A mount of a size in bytes, for the directory of one attempt after the other.

    ``as_new`` is what the kernel said of it when it was new: free blocks, free numbers of files.
    """

    path: str
    size_bytes: int
    as_new: tuple[int, int]

    def is_as_new(self) -> bool:
        """Whether nothing takes room in it: no directory, no file, and none without a name that somebody has open.

        Raises OSError.
        """
        return _free(self.path) == self.as_new


class Rooms:
    """Where the node may mount, a directory lies in a mount of its size; elsewhere ``held`` has to be looked at.

    A mount that is proved to be as a new one is used again (decision 0132); the directory in it is made each time.
    """

    def __init__(self, worker: Worker, *, mounts: bool) -> None:
        """``mounts``: what this process mounts nobody outside sees."""
        self.mounts = mounts
        self._worker = worker
        self._numbers = itertools.count(1)
        self._taken: dict[Path, Sized] = {}
        self._spare: deque[Sized] = deque()

    def make(self, folder: Path, size_bytes: int | None) -> Path:
        """Make a directory of mode 0700, ``folder`` or one of its name in a mount beside it, and return which.

        ``size_bytes`` None: of no size. Raises OSError; then there is none.
        """
        if not self.mounts or size_bytes is None:
            folder.mkdir(mode=0o700)
            return folder
        sized = self._take_spare(size_bytes) or self._mount(folder.parent, size_bytes)
        made = Path(f"{sized.path}/{folder.name}")
        try:
            made.mkdir(mode=0o700)
        except BaseException:
            self._spare.append(sized)
            raise
        self._taken[made] = sized
        return made

    def around(self, folder: Path) -> Path:
        """What is of the attempt alone whose directory ``folder`` is: that, or the mount that it lies in.

        It is the mount that an attempt is to be granted: a rule or a view for the directory would keep that in the
        kernel for a while when all of the attempt is gone, and the mount would not look as new.
        """
        sized = self._taken.get(folder)
        return folder if sized is None else Path(sized.path)

    def remove(self, folder: Path, known: tuple[str, ...], done: Callable[[bool], None], *, left_nothing: bool) -> None:
        """Call ``done`` with whether it is gone, now if nothing is in it but ``known`` files.

        There may be no such folder. ``left_nothing``: no process of its attempt is alive, for sure.
        """
        sized = self._taken.pop(folder, None)
        quickly = remove_quickly(folder, known)
        if sized is not None and not (quickly and left_nothing and self._keep_spare(sized)):
            self._worker.submit(lambda: _remove_mounted(sized.path), lambda gone: done(gone is True))
        elif quickly:
            done(True)
        else:
            self._worker.submit(lambda: remove_tree(folder), lambda gone: done(gone is True))

    def close(self) -> None:
        """Remove the mounts that nobody has."""
        while self._spare:
            _remove_mounted(self._spare.popleft().path)

    def _mount(self, root: Path, size_bytes: int) -> Sized:
        path = f"{root}/{_PREFIX}{next(self._numbers)}"
        os.mkdir(path, 0o700)  # noqa: PTH102  # as quick as can be: a task waits
        try:
            mount_memory(path, size_bytes)
            return Sized(path=path, size_bytes=size_bytes, as_new=_free(path))
        except BaseException:
            _remove_mounted(path)
            raise

    def _take_spare(self, size_bytes: int) -> Sized | None:
        # the one that was used last is what the caches of the processor know
        for sized in reversed(self._spare):
            if sized.size_bytes == size_bytes:
                self._spare.remove(sized)
                return sized
        return None

    def _keep_spare(self, sized: Sized) -> bool:
        """Whether it may be used again; the one that was not needed for longest goes when there are too many."""
        try:
            if not sized.is_as_new():
                return False
        except OSError:
            return False
        self._spare.append(sized)
        if len(self._spare) > SPARE_MAX:
            oldest = self._spare.popleft().path
            self._worker.submit(lambda: _remove_mounted(oldest), lambda _result: None)
        return True


def _free(path: str) -> tuple[int, int]:
    found = os.statvfs(path)
    return found.f_bfree, found.f_ffree


def _remove_mounted(path: str) -> bool:
    with suppress(OSError):
        unmount(path)
    # whoever was started meanwhile with mounts of its own has this one too: it goes with the directory that it lies on
    return remove_tree(Path(path))


def held(known: Mapping[Path, Known]) -> dict[Path, int]:
    """What each directory holds now (trees.py), more than its limit where that cannot be found out."""
    return {folder: held_bytes(folder, of.limit_bytes) for folder, of in known.items()}
