"""What containers there are on this machine: for level ``container``, and for images of registries at any level."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation.container.isolation import ADDS, ContainerIsolation
from tidemill.node.isolation.container.probe import probe_containers, what_lacks
from tidemill.node.isolation.container.runtime import Runtime, find_runtime
from tidemill.node.isolation.level import IsolationError
from tidemill.node.isolation.protocol import Isolation, Machine, Site

# below the data directory: what the runtime keeps of this node's containers
FOLDER: Final = "node/containers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOffer:
    """See Offer (node/isolation/protocol.py). ``program`` is the runtime, None where there is none."""

    problem: str
    program: Path | None

    @property
    def adds(self) -> frozenset[str]:
        return ADDS

    def open(self, site: Site) -> ContainerIsolation:
        """Everything runs in containers."""
        return self._open(site, None)

    def beside(self, other: Isolation, site: Site) -> Isolation:
        """Images of registries run in containers, all else by ``other``; by that alone where there are none."""
        return other if self.problem else self._open(site, other)

    def clear(self, data_dir: Path) -> None:
        """Kill and forget the containers of the node of ``data_dir`` that was there before. Blocks, some ms each."""
        if self.program is not None and os.geteuid() == 0:
            Runtime(self.program, data_dir / FOLDER).clear()

    def _open(self, site: Site, beside: Isolation | None) -> ContainerIsolation:
        launcher = site.machine.launcher
        if self.program is None or launcher is None:
            raise IsolationError(f"no container can be made: {self.problem}")
        runtime = Runtime(self.program, site.machine.settings.data_dir / FOLDER)
        try:
            return ContainerIsolation(site, runtime, launcher, beside)
        except OSError as error:
            raise IsolationError(f"no container can be made: {error}") from error


def probe(machine: Machine) -> ContainerOffer:
    """Make one, in some 100 ms, where there is a runtime."""
    program = find_runtime()
    return ContainerOffer(problem=probe_containers(machine.launcher, _uid(machine), program), program=program)


def guess(machine: Machine) -> ContainerOffer:
    """What can be known without making one, so that no start of a node takes longer for images that it may not have."""
    program = find_runtime()
    return ContainerOffer(problem=what_lacks(machine.launcher, _uid(machine), program), program=program)


def _uid(machine: Machine) -> int | None:
    return machine.settings.task_uid_first if machine.has_users else None
