"""Where Dockerfiles are built: a container whose root is nobody on the machine.

The programs that build images mount and change roots, which takes a root. Here they are root of a user namespace: to
the machine they are a range of numbers that own nothing but the private directory of this build. The root file system
is empty memory with what every program needs of the machine, to read; it goes with the container, and with it whatever
a step of a Dockerfile has made of it.
"""

import errno
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tidemill.node.isolation import system
from tidemill.node.isolation.confinement import Confinement
from tidemill.node.isolation.container.bundle import (
    CAPABILITY_SETS,
    LAUNCHER_INSIDE,
    MASKED,
    OURS_INSIDE,
    READ_ONLY,
    Bind,
    bound,
    mount,
    tmpfs,
)
from tidemill.node.isolation.container.calls import refused_calls
from tidemill.node.isolation.container.process import ContainerProcess
from tidemill.node.isolation.container.runtime import Runtime
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.process import PROCESSES_MAX
from tidemill.node.isolation.protocol import Needs, Site
from tidemill.node.isolation.uids import RANGE_COUNT
from tidemill.node.isolation.users import Seat
from tidemill.node.spawn import Command, Process

# of what a root can, what the steps of Dockerfiles expect, and to mount; over what the namespace owns, and nothing else
_CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT"),
)
_NAMESPACES: Final = ("user", "pid", "ipc", "uts", "mount")
# the empty root is mounted over one of these in the container's own view; any that is there, and open to all, will do
_COVERED: Final = tuple(map(Path, ("/mnt", "/srv", "/media", "/opt", "/home")))
# directories to mount at, and little files
_SMALL_BYTES: Final = 4 << 20
# what programs keep beside their real work: caches of names, locks
_VAR_BYTES: Final = 64 << 20
GROUP_PREFIX: Final = "tidemill-oci-"
_OF_PROGRAMS: Final = ("/etc/containers/certs.d", "/etc/containers/registries.conf.d")


class MakerIsolation:
    """Starts builds of Dockerfiles, and nothing else (see Isolation, node/isolation/protocol.py)."""

    level = Level.CONTAINER

    def __init__(self, site: Site, runtime: Runtime, launcher: Path, prefix: str) -> None:
        """``prefix`` begins the names of containers, which no other node of the machine has."""
        self.users = site.users
        self._runtime = runtime
        self._launcher = launcher
        self._spawner = site.spawner
        self._prefix = f"{prefix}-file"
        self._numbers = itertools.count(1)

    @property
    def capabilities(self) -> frozenset[str]:
        own = ("own_processes", "own_proc", "own_root", "own_temporary")
        return frozenset({f"isolation_{self.level}", "launcher", "seccomp", *own})

    @property
    def builds(self) -> "MakerIsolation":
        return self

    @property
    def dockerfiles(self) -> "MakerIsolation":
        return self

    @property
    def shares_memory(self) -> bool:
        return False

    def temporary(self, work: Path) -> Path:
        return work

    def start(self, seat: Seat, needs: Needs, command: Command) -> Process:
        if seat.uid is None or not seat.dockerfile:
            raise OSError(errno.EPERM, "a build of a Dockerfile has to have numbers of its own")
        first = seat.uid
        name = f"{self._prefix}-{next(self._numbers)}"

        def describe(words: list[str]) -> str:
            return maker_config(
                Making(
                    first=first,
                    words=words,
                    environment=command.environment,
                    needs=needs,
                    launcher=self._launcher,
                    group=f"{GROUP_PREFIX}{name}",
                )
            )

        inside = replace(command, confinement=Confinement(processes=PROCESSES_MAX))
        return ContainerProcess(self._runtime, name, inside, self._spawner, describe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """One container: ``first`` is to the machine who is root in it, ``group`` as of Container (bundle.py).

    Of ``needs`` it has what there is to read and to write; its network is the machine's.
    """

    first: int
    words: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    needs: Needs
    launcher: Path
    group: str


def maker_config(making: Making) -> str:
    """The text of config.json. Raises OSError when this machine has no place for its root."""
    binds = [*_binds(making.launcher, making.needs)]
    numbers = [{"containerID": 0, "hostID": making.first, "size": RANGE_COUNT}]
    document: dict[str, object] = {
        "ociVersion": "1.0.2",
        "root": {"path": str(_covered([bind.source for bind in binds])), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": [*making.words],
            "env": [f"{name}={value}" for name, value in making.environment.items()],
            "noNewPrivileges": True,
            "capabilities": {kind: [f"CAP_{word}" for word in _CAPABILITIES] for kind in CAPABILITY_SETS},
        },
        "mounts": [*_mounts(binds, max(1, making.needs.memory_mb // 2) << 20)],
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "uidMappings": numbers,
            "gidMappings": numbers,
            "cgroupsPath": making.group,
            "maskedPaths": [*MASKED],
            "readonlyPaths": [*READ_ONLY],
            "seccomp": refused_calls(),
        },
    }
    return json.dumps(document)


def _binds(launcher: Path, needs: Needs) -> Iterator[Bind]:
    """Of the machine; what the operator lets tasks read and write is for tasks."""
    yield Bind(source=launcher, inside=LAUNCHER_INSIDE)
    paths = [path for path in system.system_files().read if path.parts[1] not in {"proc", "sys"}]
    # a link would be no place to mount at, and leads to the same
    links = map(Path, system.program_links())
    for path in dict.fromkeys((*links, *paths, *map(Path, _OF_PROGRAMS), *needs.read)):
        if path.exists():
            yield Bind(source=path, inside=str(path))
    for path in needs.write:
        yield Bind(source=path, inside=str(path), write=True)


def _covered(sources: Sequence[Path]) -> Path:
    """A directory that nothing of ``sources`` lies in. Raises OSError."""
    for path in _COVERED:
        if path.is_dir() and not any(source.resolve().is_relative_to(path) for source in sources):
            return path
    raise OSError(errno.ENOENT, f"there is no directory to mount a root at: {', '.join(map(str, _COVERED))}")


def _mounts(binds: Sequence[Bind], temporary_bytes: int) -> Iterator[dict[str, object]]:
    yield tmpfs("/", _SMALL_BYTES, "mode=755", "nodev")
    yield mount("/proc", "proc", "nosuid", "nodev", "noexec")
    yield tmpfs("/dev", _SMALL_BYTES, "mode=755", "noexec")
    pts = ("newinstance", "ptmxmode=0666", "mode=0620")
    yield mount("/dev/pts", "devpts", "nosuid", "noexec", *pts)
    yield tmpfs("/dev/shm", temporary_bytes, "mode=1777", "nodev", "noexec")  # noqa: S108  # the container's own
    yield tmpfs("/tmp", temporary_bytes, "mode=1777", "nodev")  # noqa: S108  # likewise
    for path, size_bytes in (
        ("/etc", _SMALL_BYTES),
        ("/run", _SMALL_BYTES),
        ("/var", _VAR_BYTES),
        ("/sys", _SMALL_BYTES),
    ):
        yield tmpfs(path, size_bytes, "mode=755", "nodev")
    yield tmpfs(OURS_INSIDE, _SMALL_BYTES, "mode=755", "nodev")
    yield from map(bound, binds)
