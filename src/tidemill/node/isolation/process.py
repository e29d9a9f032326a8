"""Level ``process``: a command is an ordinary process of this machine, which the launcher and the kernel hold back."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidemill.node.isolation import system
from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.protections import Protections
from tidemill.node.isolation.protocol import Isolation, Machine, Needs, Refused, Site
from tidemill.node.isolation.users import Seat
from tidemill.node.isolation.volumes import check_volumes
from tidemill.node.spawn import Command, Process

# threads count too; far more than a program needs, far less than a machine has numbers for
PROCESSES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class ProcessOffer:
    """What the launcher's own probe has found."""

    protections: Protections

    @property
    def problem(self) -> str:
        return self.protections.problem

    @property
    def adds(self) -> frozenset[str]:
        return frozenset()

    def open(self, site: Site) -> "ProcessIsolation":
        return ProcessIsolation(site)


def probe(machine: Machine) -> ProcessOffer:
    """The level is what the launcher can do, which is known by now."""
    return ProcessOffer(machine.protections)


def no_network(why: str) -> str:
    """What is said of an attempt that wants to be without a network where that cannot be."""
    return f"runtime.network is none, but its node cannot keep a task from the network ({why}), so it was not started"


def no_volumes(why: str) -> str:
    """What is said of an attempt that wants volumes where there are none."""
    return f"the job has volumes, but its node cannot mount any ({why}), so the task was not started"


class ProcessIsolation:
    """As far as ``protections`` go: what this machine does not have is left out, and named nowhere as active."""

    level = Level.PROCESS

    def __init__(self, site: Site) -> None:
        machine = site.machine
        self.users = site.users
        self._hides_processes = site.hides_processes
        self._spawner = site.spawner
        self._protections = machine.protections
        self._system = tuple(system.system_files().options())
        self._ground = machine.ground

    @property
    def capabilities(self) -> frozenset[str]:
        has = self._protections
        names = {
            "launcher": has.launcher,
            "no_capabilities": has.capabilities,
            "seccomp": has.seccomp,
            f"landlock_{has.landlock}": has.landlock > 0,
            "own_uid": self.users.own,
            "hidden_processes": self._hides_processes,
            "no_network": has.no_network,
            "volumes": has.volumes,
        }
        return frozenset({f"isolation_{self.level}", *(name for name, active in names.items() if active)})

    @property
    def builds(self) -> Isolation:
        return self

    @property
    def dockerfiles(self) -> Isolation:
        return self

    @property
    def shares_memory(self) -> bool:
        # there only a user of its own would keep a directory private
        return not self.users.own and self._protections.landlock > 0

    def temporary(self, work: Path) -> Path:
        return work

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        return self._spawner.start(replace(command, confinement=self._confinement(seat, needs)))

    def _confinement(self, seat: Seat, needs: Needs) -> Confinement:
        has = self._protections
        if not needs.network and not has.no_network:
            raise Refused(no_network(has.missing.get("no_network", "not tried")))
        check_volumes(needs)
        if needs.volumes and not has.volumes:
            raise Refused(no_volumes(has.missing.get("volumes", "not tried")))
        read = (*needs.read, *self._ground.read)
        own = (*needs.write, *self._ground.write, *(Path(each.path) for each in needs.volumes))
        return Confinement(
            uid=seat.uid,
            alone=seat.uid is not None and not seat.shared,
            processes=PROCESSES_MAX if seat.uid is not None else None,
            network=needs.network,
            listen=needs.listen,
            volumes=needs.volumes,
            show=self._ground.way_to((*needs.read, *needs.write)) if seat.uid is not None else (),
            files=Files(read=read, write=own, common=self._system) if has.landlock else None,
            powerless=has.capabilities,
            calls=has.seccomp,
            apart=has.seccomp and seat.shared,
        )
