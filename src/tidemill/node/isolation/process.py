"""Level ``process``: a command is an ordinary process of this machine, which the launcher and the kernel hold back."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidemill.node.isolation import reach, system
from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.protections import Protections
from tidemill.node.isolation.protocol import Needs, Seat
from tidemill.node.isolation.uids import UidPool
from tidemill.node.spawn import Command, Process, Spawner

# threads count too; far more than a program needs, far less than a machine has numbers for
PROCESSES_MAX: Final = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where attempts of this node find what is theirs, and what the operator lets all of them read and write.

    ``programs`` are folders of the interpreter, and of what builds run.
    """

    data_dir: Path
    programs: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()

    def closed(self) -> tuple[Path, Path] | None:
        """Something that attempts have to reach, and the directory through which not every user gets there."""
        for folder in (self.data_dir, *self.programs):
            if (closed := reach.closed_above(folder / "anything")) is not None:
                return folder, closed
        for path in (*self.read, *self.write):
            if (closed := reach.closed_above(path)) is not None:
                return path, closed
        return None


class ProcessIsolation:
    """As far as ``protections`` go: what this machine does not have is left out, and named nowhere as active."""

    level = Level.PROCESS

    def __init__(
        self,
        spawner: Spawner,
        protections: Protections,
        ground: Ground,
        pool: UidPool | None = None,
        *,
        hides_processes: bool = False,
    ) -> None:
        """``pool``: users for attempts, None where all run as the node's own; ``hides_processes``: it was done."""
        self._hides_processes = hides_processes
        self._spawner = spawner
        self._protections = protections
        self._pool = pool
        self._system = system.system_files()
        self._ground = ground
        self._shared = tuple(path for path in (*ground.read, *ground.write) if path.exists())
        self._closed = ground.closed() is not None
        # caches are shared by builds, and so are they; for life, or the caches would change hands at each build
        self._builder = pool.take() if pool is not None else None

    @property
    def capabilities(self) -> frozenset[str]:
        has = self._protections
        names = {
            "launcher": has.launcher,
            "no_capabilities": has.capabilities,
            "seccomp": has.seccomp,
            f"landlock_{has.landlock}": has.landlock > 0,
            "own_uid": self._pool is not None,
            "hidden_processes": self._hides_processes,
        }
        return frozenset({f"isolation_{self.level}", *(name for name, active in names.items() if active)})

    @property
    def has_users(self) -> bool:
        return self._pool is not None

    @property
    def shares_memory(self) -> bool:
        # there only a user of its own would keep a directory private
        return self._pool is None and self._protections.landlock > 0

    @property
    def builder(self) -> int:
        return os.geteuid() if self._builder is None else self._builder

    def seat(self, *, build: bool) -> Seat:
        if self._pool is None:
            return Seat(shared=True)
        return Seat(self._builder, shared=True) if build else Seat(self._pool.take())

    def hand_over(self, seat: Seat, path: Path) -> None:
        if seat.uid is not None:
            os.chown(path, seat.uid, seat.uid, follow_symlinks=False)

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        return self._spawner.start(replace(command, confinement=self._confinement(seat, needs)))

    def leave(self, seat: Seat, *, empty: bool) -> None:
        if seat.uid is None or seat.shared or self._pool is None:
            return
        if not empty:
            log.error("user %d is not used again: something may still run as it", seat.uid)
            return
        system.leave_no_shared_memory(seat.uid)
        self._pool.give_back(seat.uid)

    def _confinement(self, seat: Seat, needs: Needs) -> Confinement:
        has = self._protections
        read = (*self._system.read, *needs.read, *self._ground.read)
        own = (*needs.write, *self._ground.write)
        return Confinement(
            uid=seat.uid,
            processes=PROCESSES_MAX if seat.uid is not None else None,
            show=self._show(needs) if seat.uid is not None and self._closed else (),
            files=Files(read=read, write=(*self._system.write, *own)) if has.landlock else None,
            powerless=has.capabilities,
            calls=has.seccomp,
        )

    def _show(self, needs: Needs) -> tuple[Path, ...]:
        # the data directory as one: between two of its folders files are linked. All of them, reachable or not: a
        # directory that is covered for one would hide the others
        data_dir = self._ground.data_dir
        beside = (path for path in (*needs.read, *needs.write, *self._shared) if not path.is_relative_to(data_dir))
        return (data_dir, *(path for path in beside if path.exists()))
