"""What a machine says of isolation: the level of tasks, what protects them, and how to get what does not."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tidemill.model.protections import MEANS, Protection, Stated
from tidemill.node.isolation.container import making
from tidemill.node.isolation.container import offer as container
from tidemill.node.isolation.container.offer import ContainerOffer
from tidemill.node.isolation.fence import NO_NFT
from tidemill.node.isolation.fencing import NO_USERS, NOT_ASKED, Fencing, try_fence
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import Found, look
from tidemill.node.isolation.protections import NO_LAUNCHER, SCOPES_SIGNALS
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

BUILD_LAUNCHER: Final = "python -m tidemill.node.launcher.build (needs cc, or ziglang from PyPI)"

_ROOT_ONLY: Final = (
    "run the server as root, or in a container as its root with CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN"
)
_SANDBOX: Final = (
    "bubblewrap 0.8 or newer (on Debian: apt install bubblewrap), where users may make namespaces (docs/isolation.md)"
)
_REMEDIES: Final[Mapping[Protection, str]] = {
    Protection.NO_NEW_PRIVILEGES: BUILD_LAUNCHER,
    Protection.CAPABILITIES: "a container that keeps CAP_SETPCAP, or no root",
    Protection.LANDLOCK: "a kernel of 5.13 or newer with Landlock among its security modules (lsm=landlock,...)",
    Protection.SIGNALS: "a kernel of 6.12 or newer with Landlock, or tasks with users of their own (as root)",
    Protection.SECCOMP: "a kernel with CONFIG_SECCOMP_FILTER on x86-64 or ARM64",
    Protection.OWN_UID: _ROOT_ONLY,
    Protection.HIDDEN_PROCESSES: _ROOT_ONLY,
    Protection.OWN_ROOT: _SANDBOX,
    Protection.OWN_TEMPORARY: _SANDBOX,
}
_RULES: Final[Mapping[str, str]] = {
    NO_NFT: "install the package nftables, and start the node anew",
    NOT_ASKED: "name addresses in task_forbidden_addresses, or leave it out for those of cloud metadata",
}
_NAMESPACES: Final = "root with CAP_SYS_ADMIN, or a kernel that lets users make namespaces (user.max_user_namespaces)"
NO_NETWORK: Final = "no_network"
VOLUMES: Final = "volumes"
SIZES: Final = "sized_directories"
_ABLE: Final[Mapping[str, str]] = {
    NO_NETWORK: "tasks with runtime.network none reach a loopback of their own only",
    VOLUMES: "tasks have the volumes of their job, each of its size",
}
OCI_IMAGES: Final = "oci_images"
DOCKERFILES: Final = "dockerfiles"
_CONTAINERS: Final = "runc (on Debian: apt install runc), a server that is root, and users for tasks (task_uid_count)"

_DOCKERFILES: Final = (
    "buildah (on Debian: apt install buildah), a kernel that lets root make user namespaces, and a dockerfile_uid_first"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """``problem``: why no task can run with these settings, else empty; then ``level`` is where they run."""

    level: Level | None
    problem: str
    protections: tuple[Stated, ...]
    abilities: tuple[Stated, ...] = ()
    """What works for tasks whose job asks for it, and what does not."""


def confined(settings: NodeSettings) -> Confined:
    """Probe this machine: some milliseconds, nothing stays behind."""
    try:
        found = look(settings, launcher_path())
    except IsolationError as error:
        return Confined(level=None, problem=str(error), protections=())
    protections = state(found, try_fence(found))
    return Confined(level=found.level, problem="", protections=protections, abilities=tuple(_abilities(found)))


def state(found: Found, fencing: Fencing) -> tuple[Stated, ...]:
    """What a look has found, a line each."""
    return (*_stated(found), _fenced(found, fencing))


def _fenced(found: Found, fencing: Fencing) -> Stated:
    name, why = Protection.METADATA, fencing.problem
    if not why:
        return Stated(name=name, active=True, says=MEANS[name])
    remedy = _RULES.get(why, "packet rules by nftables, which need CAP_NET_ADMIN")
    if why == NO_USERS:
        why, remedy = _missing(found, Protection.OWN_UID)
    return Stated(name=name, active=False, says=f"not here: {why}", remedy=remedy)


def _abilities(found: Found) -> Iterator[Stated]:
    has = found.protections
    for name, works in {NO_NETWORK: has.no_network, VOLUMES: has.volumes}.items():
        if works:
            yield Stated(name=name, active=True, says=_ABLE[name])
        else:
            says = f"not here: {has.missing.get(name, 'not tried')}; tasks that ask for it are not started"
            remedy = _NAMESPACES if has.launcher else BUILD_LAUNCHER
            yield Stated(name=name, active=False, says=says, remedy=remedy)
    # a look alone does not make one
    containers = found.containers if found.level is Level.CONTAINER else container.probe(found.machine)
    yield _images(containers)
    yield _dockerfiles(found, containers)
    yield _sizes(found)


def _images(containers: ContainerOffer) -> Stated:
    if why := containers.problem:
        says = f"not here: {why}; tasks whose image is one of a registry are not started"
        return Stated(name=OCI_IMAGES, active=False, says=says, remedy=_CONTAINERS)
    says = f"images of registries run in containers of {containers.program}"
    return Stated(name=OCI_IMAGES, active=True, says=says)


def _dockerfiles(found: Found, containers: ContainerOffer) -> Stated:
    if why := making.probe_dockerfiles(found.machine, containers):
        says = f"not here: {why}; builds of folders with a Dockerfile fail"
        remedy = _CONTAINERS if containers.problem else _DOCKERFILES
        return Stated(name=DOCKERFILES, active=False, says=says, remedy=remedy)
    says = f"Dockerfiles are built by {making.find_builder()}, whose root is nobody on this machine"
    return Stated(name=DOCKERFILES, active=True, says=says)


def _sizes(found: Found) -> Stated:
    has = found.protections
    if has.view:
        return Stated(name=SIZES, active=True, says="what a task's own directory may hold is its size")
    says = f"not here: {has.missing.get('view', 'not tried')}; the node looks, and ends a task that holds too much"
    return Stated(name=SIZES, active=False, says=says, remedy=_ROOT_ONLY if has.launcher else BUILD_LAUNCHER)


def _stated(found: Found) -> Iterator[Stated]:
    has, users = found.protections, found.has_users
    adds = found.offers[found.level].adds
    active = {
        Protection.NO_NEW_PRIVILEGES: has.launcher,
        Protection.CAPABILITIES: has.capabilities,
        Protection.LANDLOCK: has.landlock > 0,
        Protection.SIGNALS: has.landlock >= SCOPES_SIGNALS or users or "own_processes" in adds,
        Protection.SECCOMP: has.seccomp,
        Protection.OWN_UID: users,
        Protection.HIDDEN_PROCESSES: "own_proc" in adds or (has.view and users),
        Protection.OWN_ROOT: "own_root" in adds,
        Protection.OWN_TEMPORARY: "own_temporary" in adds,
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
    if name in _OF_SANDBOXES:
        if problem := found.problems[Level.SANDBOX]:
            return problem, _REMEDIES[name]
        return f"isolation is {found.machine.settings.isolation}", "set isolation to auto, or to sandbox"
    if name in _ROOTS and os.geteuid() != 0:
        return "the server is not root, so tasks are its user", _REMEDIES[name]
    why = has.missing.get(_PROBED.get(name, name))
    if why is None and found.machine.settings.task_uid_count == 0:
        # it would work, and was not asked for
        return "tasks have no users of their own: task_uid_count is 0", "set task_uid_count, as root"
    return why or "tasks have no users of their own", _REMEDIES[name]


_OF_SANDBOXES: Final = frozenset({Protection.OWN_ROOT, Protection.OWN_TEMPORARY})
_ROOTS: Final = frozenset({Protection.OWN_UID, Protection.HIDDEN_PROCESSES})
# by the name of what was tried for it
_PROBED: Final[Mapping[Protection, str]] = {Protection.HIDDEN_PROCESSES: "view"}
