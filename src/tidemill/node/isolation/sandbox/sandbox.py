"""Sandboxes: bubblewrap makes one for each task, between two launchers.

The outer launcher owns what the node sees: group, limits, user, and the tree. It starts bubblewrap as the task's user,
and bubblewrap starts the inner launcher as process 1 of the sandbox, which takes away what is left of rights and starts
the task. Decision 0122 says why.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.process import PROCESSES_MAX, ProcessIsolation, no_network
from tidemill.node.isolation.protocol import Isolation, Machine, Needs, Refused, Site
from tidemill.node.isolation.sandbox.bubblewrap import DEVICES, ETC, SHARED_MEMORY, TEMPORARY, View, sandboxed
from tidemill.node.isolation.sandbox.etc import Etc
from tidemill.node.isolation.system import PROGRAMS
from tidemill.node.isolation.users import Seat
from tidemill.node.isolation.volumes import check_room, check_volumes
from tidemill.node.spawn import Command, Process

_MB: Final = 1 << 20
_ADDS: Final = frozenset({"own_root", "own_processes", "own_temporary"})
# what the launcher within is given by the one outside (launcher/within.h)
_INNER: Final = ("3", "--environment=4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Turns a command into one that runs in a sandbox. ``own_proc``: bubblewrap may mount /proc here."""

    machine: Machine
    launcher: Path
    bubblewrap: Path
    own_proc: bool
    system: tuple[str, ...]

    @property
    def adds(self) -> frozenset[str]:
        """See Offer."""
        return _ADDS | {"own_proc"} if self.own_proc else _ADDS

    def sandbox(self, seat: Seat, needs: Needs, command: Command, etc: Path | None) -> Command:
        """``etc`` is the folder for /etc. Raises Refused."""
        ground, has = self.machine.ground, self.machine.protections
        if not needs.network and not has.no_network:
            raise Refused(no_network(has.missing.get("no_network", "not tried")))
        check_volumes(needs)
        check_room(needs.volumes, (ETC, *map(Path, PROGRAMS), *needs.read, *needs.write, *ground.read, *ground.write))
        view = View(
            launcher=self.launcher,
            etc=etc,
            app=command.directory,
            read=(*needs.read, *ground.read),
            write=(*needs.write, *ground.write),
            volumes=needs.volumes,
            own_proc=self.own_proc,
            # both filled leave nothing of the task's memory, which they are counted as
            temporary_bytes=max(1, needs.memory_mb // 2) * _MB,
        )
        # once more what the mounts say already; and signals and abstract sockets end at the task
        write = (DEVICES, SHARED_MEMORY, TEMPORARY, *view.write, *(Path(volume.path) for volume in needs.volumes))
        inner = Confinement(
            files=Files(read=(Path("/"),), write=tuple(dict.fromkeys(write))) if has.landlock else None,
            calls=has.seccomp,
            # the launcher that is process 1 there is of the same user
            apart=has.seccomp,
            # those of a user namespace are counted by themselves; a user of the task's own is counted outside
            processes=PROCESSES_MAX if seat.uid is None else None,
        )
        words = sandboxed(self.bubblewrap, self.system, view)
        outer = Confinement(
            uid=seat.uid,
            network=needs.network,
            listen=needs.listen,
            processes=PROCESSES_MAX if seat.uid is not None else None,
            show=ground.way_to((*needs.read, *needs.write, self.launcher)) if seat.uid is not None else (),
            # root that stays root needs one of its capabilities to make a user namespace; bubblewrap drops them all
            powerless=has.capabilities and (seat.uid is not None or os.geteuid() != 0),
            within=True,
        )
        directory = f"--directory={command.directory}"
        return replace(
            command,
            words=(*words, *_INNER, *inner.options(), directory, "--", *command.words),
            directory=Path("/"),
            confinement=outer,
        )


class SandboxIsolation:
    """Tasks in sandboxes; builds at level ``process``, for a link from a cache does not lead from mount to mount."""

    level = Level.SANDBOX

    def __init__(self, site: Site, maker: Maker) -> None:
        """Raises IsolationError when the node's folder cannot hold what sandboxes share."""
        ground = site.machine.ground
        self.users = site.users
        self._spawner = site.spawner
        self._maker = maker
        self._processes = ProcessIsolation(site)
        try:
            self._etc = Etc(ground.data_dir / "sandbox", (*ground.read, *ground.write))
        except OSError as error:
            raise IsolationError(f"sandboxes have no /etc to show: {error}") from error

    @property
    def capabilities(self) -> frozenset[str]:
        level = frozenset({f"isolation_{self.level}"})
        return self._processes.capabilities - {f"isolation_{Level.PROCESS}"} | level | self._maker.adds

    @property
    def builds(self) -> Isolation:
        return self._processes

    @property
    def dockerfiles(self) -> Isolation:
        return self

    @property
    def shares_memory(self) -> bool:
        # builds would find it there
        return self._processes.shares_memory

    def temporary(self, work: Path) -> Path:  # noqa: ARG002  # the same for all
        return TEMPORARY

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        if seat.build:
            return self._processes.start(seat, needs, command)
        return self._spawner.start(self._maker.sandbox(seat, needs, command, self._etc.current()))
