"""What a machine says of isolation: the level of tasks, what protects them, and how to get what does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tidemill.model.protections import MEANS, Protection, Stated
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import Found, look
from tidemill.node.isolation.protections import NO_LAUNCHER, SCOPES_SIGNALS
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

BUILD_LAUNCHER: Final = "python -m tidemill.node.launcher.build (needs cc, or ziglang from PyPI)"

_ROOT_ONLY: Final = (
    "run the server as root, or in a container as its root with CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN"
)
_REMEDIES: Final[Mapping[Protection, str]] = {
    Protection.NO_NEW_PRIVILEGES: BUILD_LAUNCHER,
    Protection.CAPABILITIES: "a container that keeps CAP_SETPCAP, or no root",
    Protection.LANDLOCK: "a kernel of 5.13 or newer with Landlock among its security modules (lsm=landlock,...)",
    Protection.SIGNALS: "a kernel of 6.12 or newer with Landlock, or tasks with users of their own (as root)",
    Protection.SECCOMP: "a kernel with CONFIG_SECCOMP_FILTER on x86-64 or ARM64",
    Protection.OWN_UID: _ROOT_ONLY,
    Protection.HIDDEN_PROCESSES: _ROOT_ONLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """``problem``: why no task can run with these settings, else empty; then ``level`` is where they run."""

    level: Level | None
    problem: str
    protections: tuple[Stated, ...]


def confined(settings: NodeSettings) -> Confined:
    """Probe this machine: some milliseconds, nothing stays behind."""
    try:
        found = look(settings, launcher_path())
    except IsolationError as error:
        return Confined(level=None, problem=str(error), protections=())
    return Confined(level=found.level, problem="", protections=state(found))


def state(found: Found) -> tuple[Stated, ...]:
    """What a look has found, a line each."""
    return tuple(_stated(found))


def _stated(found: Found) -> Iterator[Stated]:
    has, users = found.protections, found.has_users
    active = {
        Protection.NO_NEW_PRIVILEGES: has.launcher,
        Protection.CAPABILITIES: has.capabilities,
        Protection.LANDLOCK: has.landlock > 0,
        Protection.SIGNALS: has.landlock >= SCOPES_SIGNALS or users,
        Protection.SECCOMP: has.seccomp,
        Protection.OWN_UID: users,
        Protection.HIDDEN_PROCESSES: has.view and users,
    }
    for name, works in active.items():
        if works:
            version = f" (version {has.landlock})" if name is Protection.LANDLOCK else ""
            yield Stated(name=name, active=True, says=MEANS[name] + version)
        else:
            why, remedy = _missing(found, name)
            yield Stated(name=name, active=False, says=f"not here: {why}", remedy=remedy)


def _missing(found: Found, name: Protection) -> tuple[str, str]:
    """Why a protection is not active, and how to get it."""
    has = found.protections
    if not has.launcher:
        return NO_LAUNCHER, BUILD_LAUNCHER
    if name is Protection.SIGNALS:
        version = f"has version {has.landlock} of Landlock" if has.landlock else "has no Landlock"
        return f"this kernel {version}, signals need {SCOPES_SIGNALS}", _REMEDIES[name]
    why = has.missing.get(_PROBED.get(name, name))
    if why is None and found.machine.settings.task_uid_count == 0:
        # it would work, and was not asked for
        return "tasks have no users of their own: task_uid_count is 0", "set task_uid_count, as root"
    return why or "tasks have no users of their own", _REMEDIES[name]


# by the name of what was tried for it
_PROBED: Final[Mapping[Protection, str]] = {Protection.HIDDEN_PROCESSES: "view"}
