"""Level ``container``, and images of registries at any level: a command sees a root file system of its own."""

import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tidemill.node.isolation import system
from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.isolation.container.bundle import LAUNCHER_INSIDE, PLACES, WORK_INSIDE, Bind, Container, config
from tidemill.node.isolation.container.maker import GROUP_PREFIX, MakerIsolation
from tidemill.node.isolation.container.process import ContainerProcess
from tidemill.node.isolation.container.runtime import Runtime
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.process import PROCESSES_MAX
from tidemill.node.isolation.protocol import Isolation, Needs, Refused, Site
from tidemill.node.isolation.users import Seat
from tidemill.node.isolation.volumes import check_room, check_volumes
from tidemill.node.spawn import Command, Process

CAPABILITY: Final = "oci_images"
DOCKERFILES: Final = "dockerfiles"
# what a container has that level process has not
ADDS: Final = frozenset({"own_processes", "own_proc", "own_root", "own_temporary"})

# made empty in each container, so that what is mounted below needs no place in the image
_EMPTY: Final = ("/sys",)
_NAMES: Final = ("/etc/hosts", "/etc/resolv.conf")


class ContainerIsolation:
    """Runs images of registries in containers, and all else by ``beside``, or in containers too where that is None."""

    def __init__(self, site: Site, runtime: Runtime, launcher: Path, beside: Isolation | None) -> None:
        """Raises OSError when the runtime's folder cannot be made."""
        self.level = Level.CONTAINER if beside is None else beside.level
        self.users = site.users
        self._beside = beside
        self._runtime = runtime
        self._launcher = launcher
        self._spawner = site.spawner
        self._ground = site.machine.ground
        self._tag = container_tag(self._ground.data_dir)
        self._landlock = site.machine.protections.landlock
        self._numbers = itertools.count(1)
        self._maker = MakerIsolation(site, runtime, launcher, self._tag)
        self._sys = [
            Bind(source=path, inside=str(path)) for path in system.system_files().read if path.is_relative_to("/sys")
        ]
        runtime.open()
        # where directories of the machine are mounted at; whatever becomes of it, nothing is read from it
        self._skeleton = runtime.folder / "root"
        _make_skeleton(self._skeleton, self._ground.data_dir)

    @property
    def capabilities(self) -> frozenset[str]:
        if self._beside is not None:
            return self._beside.capabilities | self._images
        names = ("launcher", "no_capabilities", "seccomp", "own_uid", "no_network", "volumes")
        of_process = {f"isolation_{self.level}", *names}
        landlock = {f"landlock_{self._landlock}"} if self._landlock else set[str]()
        return frozenset(of_process | landlock) | ADDS | self._images

    @property
    def _images(self) -> frozenset[str]:
        return frozenset({CAPABILITY} if self.users.numbers is None else {CAPABILITY, DOCKERFILES})

    @property
    def builds(self) -> Isolation:
        return self if self._beside is None else self._beside.builds

    @property
    def dockerfiles(self) -> Isolation:
        return self._maker

    @property
    def shares_memory(self) -> bool:
        return self._beside is not None and self._beside.shares_memory

    def temporary(self, work: Path) -> Path:
        return work if self._beside is None else self._beside.temporary(work)

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        if seat.dockerfile:
            return self._maker.start(seat, needs, command)
        if needs.root is None and self._beside is not None:
            return self._beside.start(seat, needs, command)
        if seat.uid is None:
            raise OSError(errno.EPERM, "a container has to have a user of its own")
        self._check(needs)
        uid = seat.uid
        name = f"{self._tag}-{next(self._numbers)}"
        # a network of its own is the container's, and the launcher listens in it
        confinement = Confinement(
            processes=PROCESSES_MAX,
            listen=needs.listen,
            # it opens what is in the container; what this keeps it from is its launcher, which is of the same user
            files=Files(write=(Path("/"),)) if self._landlock else None,
            powerless=True,
            calls=True,
            apart=True,
        )

        def describe(words: list[str]) -> str:
            container = Container(
                root=self._skeleton if needs.root is None else needs.root.path,
                uid=uid,
                words=words,
                environment=command.environment,
                binds=[*self._binds(needs)],
                empty=_EMPTY if needs.root is not None else (*_EMPTY, "/run"),
                passages=() if needs.root is not None else self._passages(needs),
                network=needs.network,
                volumes=needs.volumes,
                # both filled leave nothing of the task's memory, which they are counted as
                temporary_bytes=max(1, needs.memory_mb // 2) << 20,
                group=f"{GROUP_PREFIX}{name}",
            )
            return config(container)

        inside = replace(command, confinement=confinement)
        return ContainerProcess(self._runtime, name, inside, self._spawner, describe)

    def _check(self, needs: Needs) -> None:
        """Raises Refused for volumes that the command cannot have, and for a root that cannot be one."""
        if needs.root is not None:
            _check_places(needs.root.path)
            check_volumes(replace(needs, write=(Path(WORK_INSIDE), Path(LAUNCHER_INSIDE))))
            return
        check_volumes(needs)
        own = (*needs.read, *needs.write, *self._ground.read, *self._ground.write)
        check_room(needs.volumes, (*system.system_files().read, *own))

    def _passages(self, needs: Needs) -> list[str]:
        """Where what is bound lies, the outer before the inner: there is a way through, and nothing to be seen."""
        data_dir = self._ground.data_dir
        folders = {data_dir, *(path.parent for path in (*needs.read, *needs.write) if path.is_relative_to(data_dir))}
        tmpfs = {path.parent for path in needs.write if path.is_relative_to("/run") or path.is_relative_to("/dev/shm")}  # noqa: S108
        return [str(folder) for folder in sorted(folders | tmpfs, key=lambda folder: len(folder.parts))]

    def _binds(self, needs: Needs) -> Iterator[Bind]:
        yield from self._sys
        yield Bind(source=self._launcher, inside=LAUNCHER_INSIDE)
        if needs.root is not None:
            yield from (Bind(source=Path(name), inside=name) for name in _NAMES if Path(name).is_file())
            yield Bind(source=needs.root.work, inside=WORK_INSIDE, write=True)
            return
        system_paths = (path for path in system.system_files().read if path.parts[1] not in {"proc", "sys"})
        for path in (*system_paths, *needs.read, *self._ground.read):
            if path.exists():
                yield Bind(source=path, inside=str(path))
        for path in (*needs.write, *self._ground.write):
            yield Bind(source=path, inside=str(path), write=True)


def _check_places(root: Path) -> None:
    """Raises Refused for a root with a link where something is mounted: on this machine it leads to the machine's."""
    for path in (root, *(root / place for place in PLACES)):
        if path.is_symlink() or not path.is_dir():
            name = "/" if path == root else f"/{path.name}"
            raise Refused(f"its image was not made here: {name} is no directory of it; deploy the job again")


def container_tag(data_dir: Path) -> str:
    """What tells the containers of one data directory's node from others, in the names of cgroups."""
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def _make_skeleton(root: Path, data_dir: Path) -> None:
    """Anew each time: what the machine has may have changed. Raises OSError."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    root.chmod(0o755)
    for name, target in system.program_links().items():
        (root / name.lstrip("/")).symlink_to(target)
    # the runtime gives what it mounts there the mode that it finds
    passage = root / str(data_dir).lstrip("/")
    passage.mkdir(parents=True)
    for folder in (passage, *passage.parents[: len(data_dir.parts) - 2]):
        folder.chmod(0o755)
    passage.chmod(0o711)
