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
    """Who an attempt runs as: ``uid`` is a user of its own, None the node's."""

    uid: int | None = None


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
    def shares_memory(self) -> bool:
        """Whether a task may open all that lies in /dev/shm, so that private directories must lie elsewhere."""
        ...

    def seat(self, *, own: bool) -> Seat:
        """Who the next attempt runs as; with ``own`` a user of its own where there are such.

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
