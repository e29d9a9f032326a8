"""What a level of isolation does for a node, whatever it is made of.

There is a probe for each level (opening.py); what it has found is an Offer, which can say what is missing, or open the
level. An open level starts commands; a command that was started is terminated, and says how it ended, by its Process
(node/spawn.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidemill.model.volume import Volume
from tidemill.node.isolation.ground import Ground
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.protections import Protections
from tidemill.node.isolation.users import Seat, Users
from tidemill.node.settings import NodeSettings
from tidemill.node.spawn import Command, Process, Spawner


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root file system, at ``path``, of a command that does not see the machine's.

    ``work`` is its private directory, which it sees where node/isolation/container/bundle.py says.
    """

    path: Path
    work: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a command needs beside the system: to ``read`` and run, and to ``write``, its private directory included.

    ``network``: it has this machine's network; else nothing but a loopback of its own, where the node listens at port
    ``listen``. ``volumes`` are directories of its own. ``memory_mb`` is its limit.
    With a ``root`` that is all it sees of this machine, and ``read`` and ``write`` are empty.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    root: Root | None = None
    network: bool = True
    listen: int | None = None
    volumes: tuple[Volume, ...] = ()
    memory_mb: int


class Refused(Exception):
    """An attempt needs what this node cannot give, so it is not started; the text says what, for its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What probes may know: ``protections`` is what the launcher can do here, with which every level works."""

    settings: NodeSettings
    ground: Ground
    launcher: Path | None
    protections: Protections

    @property
    def has_users(self) -> bool:
        """Whether each task runs as a user of its own."""
        return self.protections.own_uid and self.settings.task_uid_count > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a level is opened with, once the node may run. ``hides_processes``: of others in /proc."""

    machine: Machine
    users: Users
    spawner: Spawner
    hides_processes: bool = False


class Isolation(Protocol):
    """One for all attempts of a node."""

    level: Level
    users: Users

    @property
    def capabilities(self) -> frozenset[str]:
        """The level and its protections that are active, as NodeInfo names them."""
        ...

    @property
    def builds(self) -> "Isolation":
        """What builds are started by: this one, or a weaker one that ``start`` hands them to."""
        ...

    @property
    def dockerfiles(self) -> "Isolation":
        """What builds of Dockerfiles are started by, where there are any: they have a seat of their own (users.py)."""
        ...

    @property
    def shares_memory(self) -> bool:
        """Whether an attempt may open all that lies in /dev/shm, so that private directories must lie elsewhere."""
        ...

    def temporary(self, work: Path) -> Path:
        """Where the task whose private directory is ``work`` is told to put temporary files."""
        ...

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        """Raises OSError when it could not be started (also told as a NotStarted), Refused when it must not be."""
        ...


class Offer(Protocol):
    """What a probe has found of one level on this machine."""

    @property
    def problem(self) -> str:
        """What keeps the level from working here, and what helps; "" when it works."""
        ...

    @property
    def adds(self) -> frozenset[str]:
        """The protections that it has beside those of level ``process``, as in ``Isolation.capabilities``."""
        ...

    def open(self, site: Site) -> Isolation:
        """Only of one without a problem, but for level ``process``, which works in part. Raises IsolationError."""
        ...
