"""Who the attempts of a node run as: each as a user of its own where there are such, else all as the node's."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation import system
from tidemill.node.isolation.uids import UidPool, UidRange

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """Who an attempt runs as: ``uid`` None is the node's user; ``shared`` with others; ``build``: it is one.

    ``dockerfile``: a build that is root, and all other users, of a user namespace; ``uid`` is who is root there.
    """

    uid: int | None = None
    shared: bool = False
    build: bool = False
    dockerfile: bool = False


class Users:
    """The same at every level: a number that one attempt has is no other's before nothing of it is left."""

    def __init__(self, pool: UidPool | None = None, numbers: UidRange | None = None) -> None:
        """``pool``: users for attempts, None where all run as the node's own. Raises OSError when it is empty.

        ``numbers`` are those of all users in builds of Dockerfiles, None where there are no such builds.
        """
        self._pool = pool
        self.numbers: Final = numbers
        # who has ended, and whose shared memory nobody has looked at yet: without descriptors nobody can
        self._left: list[int] = []
        # caches are shared by builds, and so are they; for life, or the caches would change hands at each build
        self._builder = pool.take() if pool is not None else None

    @property
    def own(self) -> bool:
        """Whether each task is a user of its own."""
        return self._pool is not None

    @property
    def pool(self) -> UidPool | None:
        """All numbers that attempts may have; None where all run as the node's own user."""
        return self._pool

    @property
    def builder(self) -> int:
        """The number of the user that builds run as, whose their caches must be."""
        return os.geteuid() if self._builder is None else self._builder

    def seat(self, *, build: bool, dockerfile: bool = False) -> Seat:
        """Who the next attempt runs as: where there are users, a task as one of its own, all builds as one.

        ``dockerfile``: of a build, that it is one of a Dockerfile. Raises OSError when none is free.
        """
        if dockerfile and self.numbers is not None:
            return Seat(self.numbers.first, shared=True, build=True, dockerfile=True)
        if self._pool is None:
            return Seat(shared=True, build=build)
        return Seat(self._builder, shared=True, build=True) if build else Seat(self._pool.take())

    def hand_over(self, seat: Seat, path: Path) -> None:
        """Make a file or directory that the node has made the attempt's."""
        if seat.uid is not None:
            os.chown(path, seat.uid, seat.uid, follow_symlinks=False)

    def leave(self, seat: Seat, *, empty: bool) -> None:
        """The attempt has ended and its directory is gone; ``empty``: nothing of it is alive, for sure."""
        if seat.uid is None or seat.shared or self._pool is None:
            return
        if not empty:
            log.error("user %d is not used again: something may still run as it", seat.uid)
            return
        self._left.append(seat.uid)
        try:
            while self._left:
                system.leave_no_shared_memory(self._left[-1])
                self._pool.give_back(self._left.pop())
        except OSError as error:
            log.warning("user %d waits until its shared memory can be looked at: %s", seat.uid, error)
