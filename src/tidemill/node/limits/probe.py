"""What limits work on this machine, found out by doing it: a process joins a group, and is killed with it."""

import errno
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tidemill.node.limits.cgroup1 import Version1
from tidemill.node.limits.cgroup2 import Occupied, Version2, hand_on
from tidemill.node.limits.facts import LimitFacts, Missing
from tidemill.node.limits.files import CgroupFiles, processes
from tidemill.node.limits.groups import Control, Group, GroupLimits, Hierarchy, Kill
from tidemill.node.limits.places import Place

# a machine that takes longer for a step of a probe than this could not run tasks either
PATIENCE_S: Final = 5.0

_PROBE: Final = "probe"
_PROBE_LIMITS: Final = GroupLimits(memory_bytes=64 << 20, pids=16)
# joins, says so, and waits to be killed
_JOINING: Final = 'echo 0 >"$0" && echo joined && read -r _'
_POLL_S: Final = 0.005

_DELEGATION: Final = (
    "start Tidemill as root, or in a cgroup that is given to its user: a systemd service with Delegate=yes, or "
    "`systemd-run --user --scope -p Delegate=yes tidemill server`"
)
_ROOT: Final = "start Tidemill as root: groups of cgroup v1 are given to nobody else"
_OWN_GROUP: Final = (
    "start Tidemill in a cgroup of its own: a systemd service with Delegate=yes, or "
    "`systemd-run --scope -p Delegate=yes tidemill server`"
)
_KERNEL: Final = "use a kernel with this controller, and do not turn it off with cgroup_disable="
_MOUNT: Final = "mount the cgroup file system where Tidemill runs, and writable"


class Groups:
    """Makes groups in the hierarchies that work here; in none where none does."""

    def __init__(self, hierarchies: Sequence[Hierarchy], facts: LimitFacts) -> None:
        self.facts = facts
        self.folders = tuple(each.folder for each in hierarchies)
        self._hierarchies = hierarchies

    @property
    def controls(self) -> frozenset[Control]:
        return frozenset(self.facts.active)

    def make(self, name: str, limits: GroupLimits) -> Group | None:
        """A new group, or None where there are none. Raises OSError when it could not be made."""
        return Group(name, limits, self._hierarchies) if self._hierarchies else None

    def left(self) -> list[str]:
        """The names of the groups that there are, each once."""
        return sorted({name for each in self._hierarchies for name in each.left()})

    def close(self, files: CgroupFiles) -> None:
        """Remove the folders of this node, unless something is in them, which is so for the node itself on v2."""
        for folder in self.folders:
            with suppress(OSError):
                files.remove(folder)


NO_GROUPS: Final = Groups((), LimitFacts())


def open_groups(
    files: CgroupFiles,
    places: Sequence[Place],
    name: str,
    movable: Sequence[int],
    attempt: Callable[[CgroupFiles, Hierarchy], None] | None = None,
) -> Groups:
    """Find out which of ``places`` can limit attempts. What does not work is in the facts, and nothing is left of it.

    ``name`` is that of the node's folder, made in each group that works. ``movable`` are the processes that v2 may have
    moved out of their group: the node and its server. ``attempt`` proves a hierarchy, or raises OSError saying why not.
    """
    attempt = attempt or prove
    working: list[Hierarchy] = []
    active: dict[Control, str] = {}
    missing: dict[Control, Missing] = {}
    for place in _in_turn(places):
        claimed = [control for control in Control if control in place.controllers and control not in active]
        if not claimed and not (place.version == 2 and _kill(working) < Kill.FORKLESS):
            continue
        try:
            hierarchy = _open(files, place, name, movable)
            try:
                attempt(files, hierarchy)
            except OSError:
                with suppress(OSError):
                    files.remove(hierarchy.folder)
                raise
        except OSError as error:
            missing |= dict.fromkeys(claimed, _explain(error, place))
            continue
        working.append(hierarchy)
        active |= dict.fromkeys(hierarchy.controls, f"cgroup v{place.version}, {place.folder}")
    left = [control for control in Control if control not in active]
    unknown = {control: _not_there(places, control) for control in left}
    facts = LimitFacts(
        active=active,
        missing={each: missing.get(each, unknown[each]) for each in left},
        kill=_kill(working) if working else None,
    )
    return Groups(working, facts)


def _in_turn(places: Sequence[Place]) -> list[Place]:
    """v2 with no controller of ours comes last: every hierarchy more costs an attempt a third of a millisecond.

    It is worth that only for its way to kill, where v1 cannot refuse forks.
    """
    return sorted(places, key=lambda place: place.version == 2 and not place.controllers & {*Control})


def _kill(hierarchies: Sequence[Hierarchy]) -> Kill:
    return max((each.surest_kill for each in hierarchies), default=Kill.LISTED)


def turned_off() -> Groups:
    """No groups, by the operator's wish."""
    why = Missing("the setting task_limits is none", "set task_limits to auto")
    return Groups((), LimitFacts(missing=dict.fromkeys(Control, why)))


def _open(files: CgroupFiles, place: Place, name: str, movable: Sequence[int]) -> Hierarchy:
    folder = f"{place.folder}/{name}"
    if place.version == 1:
        return Version1(files, folder, place.controllers, os.cpu_count() or 1)
    return Version2(files, folder, hand_on(files, place.folder, folder, movable))


def _explain(error: OSError, place: Place) -> Missing:
    where = f"cgroup v{place.version}, {place.folder}"
    if isinstance(error, Occupied):
        pids = ", ".join(str(pid) for pid in error.pids[:5])
        return Missing(f"{where} holds processes that are not of Tidemill ({pids})", _OWN_GROUP)
    if error.errno in {errno.EACCES, errno.EPERM}:
        remedy = _ROOT if place.version == 1 else _DELEGATION
        return Missing(f"{where} is not ours to change: {error.strerror}", remedy)
    if error.errno == errno.EROFS:
        return Missing(f"{where} is mounted read-only", _MOUNT)
    return Missing(f"{where} does not work: {error.strerror or error}", _KERNEL)


def _not_there(places: Sequence[Place], control: Control) -> Missing:
    if not places:
        return Missing("no cgroup file system is mounted", _MOUNT)
    second = next((place.folder for place in places if place.version == 2), None)
    if second is not None and not any(place.version == 1 for place in places):
        return Missing(f"cgroup v2, {second} has not been given the controller {control}", _DELEGATION)
    return Missing(f"no hierarchy has the controller {control}", _KERNEL)


def prove(files: CgroupFiles, hierarchy: Hierarchy, patience_s: float = PATIENCE_S) -> None:
    """Have a process join a group, and kill it with that. Raises OSError saying what did not work in that time."""
    hierarchy.kill(_PROBE)
    _remove(hierarchy, _PROBE)
    join = hierarchy.make(_PROBE, _PROBE_LIMITS)
    try:
        with subprocess.Popen(
            ["/bin/sh", "-c", _JOINING, join],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            try:
                _prove_on(files, hierarchy, child, patience_s)
            finally:
                child.kill()
    finally:
        _remove(hierarchy, _PROBE)


def _prove_on(files: CgroupFiles, hierarchy: Hierarchy, child: "subprocess.Popen[bytes]", patience_s: float) -> None:
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], patience_s)
    if not ready or child.stdout.readline() != b"joined\n":
        raise OSError(errno.EACCES, "a process could not join a group")
    if child.pid not in processes(files, f"{hierarchy.folder}/{_PROBE}"):
        raise OSError(errno.EINVAL, "a process that joined a group is not listed in it")
    if (event := hierarchy.oom_event(_PROBE) if Control.MEMORY in hierarchy.controls else None) is not None:
        os.close(event)
    hierarchy.usage(_PROBE)
    hierarchy.kill(_PROBE)
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, "a process was not killed with its group") from None


def _remove(hierarchy: Hierarchy, name: str) -> None:
    """Raises OSError when it is not gone in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not hierarchy.remove(name):
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, "a group could not be removed")
        # the kernel may take some milliseconds after the last process is gone
        time.sleep(_POLL_S)
        hierarchy.kill(name)
