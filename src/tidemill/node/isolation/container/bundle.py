"""What an OCI runtime is told of one container: the file config.json of its bundle (OCI runtime specification 1.0)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidemill.model.volume import Volume

CONFIG_FILE: Final = "config.json"
# what is ours in every container
OURS_INSIDE: Final = "/.tidemill"
LAUNCHER_INSIDE: Final = f"{OURS_INSIDE}/launcher"
WORK_INSIDE: Final = f"{OURS_INSIDE}/work"
# where something is mounted in every container, from its root
PLACES: Final = ("proc", "dev", "sys", "tmp", ".tidemill")
_TMP_INSIDE: Final = f"{OURS_INSIDE}/tmp"  # noqa: S108  # the container's own
# nothing is written to it but by us
_DEV_BYTES: Final = 64 << 10

_NAMESPACES: Final = ("pid", "ipc", "uts", "mount")
CAPABILITY_SETS: Final = ("bounding", "effective", "inheritable", "permitted", "ambient")
# what Docker covers too: they tell of other processes, or of the machine
MASKED: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
)
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of the machine, and where it is seen in the container."""

    source: Path
    inside: str
    write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container: its first process is ``words``, with ``environment``, which may hold secrets.

    ``root`` is never written to; it has the directories ``PLACES``. ``uid`` is the user and the group. ``network``:
    that of the machine, else only a loopback of its own. ``empty`` are paths of the container that are empty file
    systems, and so are ``passages``, which nobody lists; both are made before the binds. /tmp and /dev/shm have
    ``temporary_bytes`` each. ``group`` names a cgroup of
    the runtime's own, below the one it is started in.
    """

    root: Path
    uid: int
    words: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    binds: Sequence[Bind]
    empty: Sequence[str] = ()
    passages: Sequence[str] = ()
    volumes: Sequence[Volume] = ()
    temporary_bytes: int
    network: bool
    group: str


def config(container: Container) -> str:
    """The text of config.json. No capability, no way to get one, nothing writable but what is bound and sized."""
    kinds = _NAMESPACES if container.network else (*_NAMESPACES, "network")
    document: dict[str, object] = {
        "ociVersion": "1.0.2",
        "root": {"path": str(container.root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": container.uid, "gid": container.uid},
            # the launcher enters the command's own directory, and can say that there is none
            "cwd": "/",
            "args": [*container.words],
            "env": [f"{name}={value}" for name, value in container.environment.items()],
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in CAPABILITY_SETS},
        },
        "mounts": [*_mounts(container)],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": container.group,
            "maskedPaths": [*MASKED],
            "readonlyPaths": [*READ_ONLY],
        },
    }
    return json.dumps(document)


def _mounts(container: Container) -> Iterator[dict[str, object]]:
    yield mount("/proc", "proc", "nosuid", "nodev", "noexec")
    yield tmpfs("/dev", _DEV_BYTES, "mode=755", "noexec")
    pts = ("newinstance", "ptmxmode=0666", "mode=0620")
    yield mount("/dev/pts", "devpts", "nosuid", "noexec", *pts)
    # semaphores of POSIX; programs are not started from here
    yield tmpfs("/dev/shm", container.temporary_bytes, "mode=1777", "nodev", "noexec")  # noqa: S108  # the container's own
    # the runtime gives a tmpfs the mode of the directory that it covers, where there is one: the image's
    yield tmpfs(OURS_INSIDE, _DEV_BYTES, "mode=755", "nodev", "noexec")
    yield tmpfs(_TMP_INSIDE, container.temporary_bytes, "mode=1777", "nodev")
    tmp = container.root / _TMP_INSIDE.lstrip("/")
    yield bound(Bind(source=tmp, inside="/tmp", write=True))  # noqa: S108  # the container's own
    for path in container.empty:
        yield tmpfs(path, _DEV_BYTES, "mode=755", "nodev", "noexec")
    for path in container.passages:
        yield tmpfs(path, _DEV_BYTES, "mode=711", "nodev", "noexec")
    yield from map(bound, container.binds)
    for number, volume in enumerate(container.volumes):
        # like /tmp, for the mode's sake
        place = f"{OURS_INSIDE}/volume-{number}"
        owner = (f"uid={container.uid}", f"gid={container.uid}", "mode=700")
        yield tmpfs(place, volume.size_mb << 20, *owner, "nodev")
        yield bound(Bind(source=container.root / place.lstrip("/"), inside=volume.path, write=not volume.read_only))


def bound(bind: Bind) -> dict[str, object]:
    """An entry of ``mounts``, as are those of the next two."""
    options = ["rbind", "rw" if bind.write else "ro", "nosuid", "nodev", "rprivate"]
    return {"destination": bind.inside, "type": "bind", "source": str(bind.source), "options": options}


def mount(inside: str, kind: str, *options: str) -> dict[str, object]:
    return {"destination": inside, "type": kind, "source": kind, "options": [*options]}


def tmpfs(inside: str, size_bytes: int, *options: str) -> dict[str, object]:
    return mount(inside, "tmpfs", "nosuid", f"size={size_bytes}", *options)
