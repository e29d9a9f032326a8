"""What a level of isolation does for a node: the same four things, whatever it is made of.

It is probed before there is one (a function of its module returns it, or says what is missing); it starts commands; a
command that was started is terminated, and says how it ended, by its Process (node/spawn.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidemill.node.isolation.level import Level
from tidemill.node.spawn import Command, Process


@dataclass(frozen=True, slots=True)
class Seat:
    """Who an attempt runs as: ``uid`` None is the node's user; ``shared`` with other attempts, as builds are."""

    uid: int | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a command needs beside the system: to ``read`` and run, and to ``write``, its private directory included."""

    read: tuple[Path, ...]
    write: tuple[Path, ...]


class Isolation(Protocol):
    """One for all attempts of a node."""

    level: Level

    @property
    def capabilities(self) -> frozenset[str]:
        """The level and its protections that are active, as NodeInfo names them."""
        ...

    @property
    def has_users(self) -> bool:
        """Whether each task is a user of its own."""
        ...

    @property
    def builder(self) -> int:
        """The number of the user that builds run as, whose their caches must be."""
        ...

    @property
    def shares_memory(self) -> bool:
        """Whether a task may open all that lies in /dev/shm, so that private directories must lie elsewhere."""
        ...

    def seat(self, *, build: bool) -> Seat:
        """Who the next attempt runs as: where there are users, a task as one of its own, all builds as one.

        Raises OSError when none is free.
        """
        ...

    def hand_over(self, seat: Seat, path: Path) -> None:
        """Make a file or directory that the node has made the attempt's."""
        ...

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        """Raises OSError when it could not be started; that may also come as a NotStarted."""
        ...

    def leave(self, seat: Seat, *, empty: bool) -> None:
        """The attempt has ended and its directory is gone; ``empty``: nothing of it is alive, for sure."""
        ...
