"""Which cgroups this process is in, and where their folders are."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.limits.cgroup2 import LEAF
from tidemill.node.limits.files import CgroupFiles

# the folder of a node in a cgroup: this, and what tells its data directory from others
PREFIX: Final = "tidemill-"

_VERSION_1: Final = "cgroup"
_VERSION_2: Final = "cgroup2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The group of this process in one hierarchy, and the controllers that it has there: for v2 perhaps none."""

    version: int
    controllers: frozenset[str]
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    """``root`` is the group that is seen at ``point``."""

    kind: str
    root: str
    point: str
    options: frozenset[str]


def own_places(files: CgroupFiles, process: Path = Path("/proc/self")) -> list[Place]:
    """The groups of ``process`` in all hierarchies that it can see; empty where there are none.

    A process that a node of ours has moved to its leaf counts as being in the group that it was moved from; one in a
    part of a group that the service manager has given to a service, as being in that group.
    """
    try:
        mounts = [*_mounts((process / "mountinfo").read_text())]
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Place] = []
    for line in lines:
        _, names, path = line.split(":", 2)
        controllers = frozenset(filter(None, names.split(",")))
        folder = _folder(mounts, controllers, path)
        # a hierarchy with a name controls nothing, such as that of systemd
        if folder is None or any(name.startswith("name=") for name in controllers):
            continue
        version = 1 if controllers else 2
        if version == 2:
            folder = _given_above(files, folder)
            with suppress(OSError):
                controllers = frozenset(files.read(f"{folder}/cgroup.controllers").split())
        found.append(Place(version=version, controllers=controllers, folder=folder))
    return found


def _folder(mounts: list[_Mount], controllers: frozenset[str], path: str) -> str | None:
    kind = _VERSION_1 if controllers else _VERSION_2
    for mount in mounts:
        if mount.kind != kind or not controllers <= mount.options:
            continue
        root = mount.root.rstrip("/")
        # in a container the mount may begin at its own group, while the path begins at the machine's
        if path == root or path.startswith(f"{root}/"):
            return mount.point + before_leaf(path.removeprefix(root)).rstrip("/")
    return None


def _given_above(files: CgroupFiles, folder: str) -> str:
    """The group above ``folder`` if that is what was given to a service that systemd starts in a part of it.

    With DelegateSubgroup=, so that what was given holds no process itself and can hand controllers on.
    """
    above = folder.rpartition("/")[0]
    return above if files.is_delegated(above) and not files.is_delegated(folder) else folder


def before_leaf(path: str) -> str:
    """The group that a node was in before it moved to the leaf ``path``; any other ``path`` as it is."""
    parts = path.split("/")
    if len(parts) > 2 and parts[-1] == LEAF and parts[-2].startswith(PREFIX):
        return "/".join(parts[:-2])
    return path


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {_VERSION_1, _VERSION_2}:
            fields = before.split(" ")
            point = fields[4].encode().decode("unicode_escape")
            yield _Mount(kind=kind, root=fields[3], point=point, options=frozenset(options.split(",")))
