"""What `tidemill doctor` says of isolation: the level of tasks, what protects them, and how to get what does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import Found, look
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

_ROOT_ONLY: Final = (
    "run the server as root, or in a container as its root with CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN"
)
_REMEDIES: Final[Mapping[str, str]] = {
    "landlock": "a kernel of 5.13 or newer with Landlock among its security modules (lsm=landlock,...)",
    "seccomp": "a kernel with CONFIG_SECCOMP_FILTER on x86-64 or ARM64",
    "capabilities": "a container that keeps CAP_SETPCAP, or no root",
    "own_uid": _ROOT_ONLY,
    "view": _ROOT_ONLY,
}
_MEANS: Final[Mapping[str, str]] = {
    "landlock": "tasks open what is theirs and the system's, nothing else; they signal and trace nobody outside",
    "seccomp": "system calls that only an attacker needs fail",
    "capabilities": "tasks have no capabilities and get none",
    "own_uid": "each task runs as a user of its own",
    "view": "images are reached below closed directories, and processes of others are hidden",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One protection as doctor shows it. ``remedy`` is how to get it, empty where it is active."""

    name: str
    active: bool
    says: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """``problem``: why no task can run with these settings, else empty; then ``level`` is where they run."""

    level: Level | None
    problem: str
    protections: tuple[Protection, ...]


def confined(settings: NodeSettings) -> Confined:
    """Probe this machine: some milliseconds, nothing stays behind."""
    try:
        found = look(settings, launcher_path())
    except IsolationError as error:
        return Confined(level=None, problem=str(error), protections=())
    return Confined(level=found.level, problem="", protections=tuple(_protections(found)))


def _protections(found: Found) -> Iterator[Protection]:
    has = found.protections
    active = {
        "capabilities": has.capabilities,
        "landlock": has.landlock > 0,
        "seccomp": has.seccomp,
        "own_uid": found.has_users,
        "view": has.view and found.has_users,
    }
    for name, works in active.items():
        if works:
            version = f" (version {has.landlock})" if name == "landlock" else ""
            yield Protection(name=name, active=True, says=_MEANS[name] + version, remedy="")
        else:
            why, remedy = has.missing.get(name), _REMEDIES[name]
            if why is None:
                # it would work, and was not asked for
                why, remedy = "tasks have no users of their own", "set task_uid_count, as root"
            yield Protection(name=name, active=False, says=f"not here: {why}", remedy=remedy)
