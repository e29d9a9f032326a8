"""With what a node holds an attempt back: of what its isolation and its limits can do, what is for such an attempt."""

from collections.abc import Iterator, Mapping
from typing import Final

from tidemill.model.protections import ACTIVE, AT_ONCE, BY_USER, CGROUP_1, CGROUP_2, FORKLESS, WATCHED, Had, Protection
from tidemill.node.isolation.protections import SCOPES_SIGNALS
from tidemill.node.isolation.protocol import Isolation
from tidemill.node.isolation.users import Seat
from tidemill.node.limits.facts import LimitFacts
from tidemill.node.limits.groups import Control, Kill

OWN_PROCESSES: Final = "own_processes"
# what levels call their protections, in NodeInfo's words
WORDS: Final[Mapping[str, Protection]] = {
    "launcher": Protection.NO_NEW_PRIVILEGES,
    "no_capabilities": Protection.CAPABILITIES,
    "seccomp": Protection.SECCOMP,
    "own_uid": Protection.OWN_UID,
    "hidden_processes": Protection.HIDDEN_PROCESSES,
    "forbidden_addresses": Protection.METADATA,
    OWN_PROCESSES: Protection.SIGNALS,
    "own_proc": Protection.HIDDEN_PROCESSES,
    "own_root": Protection.OWN_ROOT,
    "own_temporary": Protection.OWN_TEMPORARY,
}
# what a level does for those attempts alone whose job asks for it
ABILITIES: Final = frozenset({"no_network", "volumes", "oci_images", "dockerfiles"})
_LANDLOCK: Final = "landlock_"
_LEVEL: Final = "isolation_"
# builds are one user, which sees all that is its own
_OF_USERS: Final = frozenset({"own_uid", "hidden_processes"})
_KILLS: Final[Mapping[Kill, str]] = {Kill.FORKLESS: FORKLESS, Kill.AT_ONCE: AT_ONCE}


class Holding:
    """Asked once for each attempt: what it says of a kind of attempt is kept."""

    def __init__(self, isolation: Isolation, facts: LimitFacts, besides: frozenset[str] = frozenset()) -> None:
        """``besides``: words for what holds attempts of every kind back, whatever the level."""
        self._isolation = isolation
        self._besides = besides
        self._limits = dict(_limits(facts))
        self._known: dict[tuple[bool, bool, bool, bool], int] = {}

    def of(self, seat: Seat) -> int:
        """What an attempt in this seat runs with (model/protections.py: Had.to_number)."""
        kind = (seat.uid is not None, seat.shared, seat.build, seat.dockerfile)
        isolation = self._isolation.builds if seat.build else self._isolation
        if seat.dockerfile:
            isolation = self._isolation.dockerfiles
        if kind not in self._known:
            by = dict(_protections(isolation.capabilities | self._besides, own=kind[0] and not kind[1]))
            if kind[0]:
                # a bound by the user holds where the kernel has none for the group
                by.setdefault(Protection.PIDS, BY_USER)
            if OWN_PROCESSES in isolation.capabilities:
                # the kernel ends a list of processes with its first one
                by.setdefault(Protection.KILL, AT_ONCE)
            self._known[kind] = Had(level=isolation.level, by=by | self._limits).to_number()
        return self._known[kind]


def unknown(capabilities: frozenset[str]) -> frozenset[str]:
    """The words of a level that are kept with no attempt, for want of a protection of that name."""
    named = frozenset({*WORDS, *ABILITIES})
    return frozenset(word for word in capabilities - named if not word.startswith((_LANDLOCK, _LEVEL)))


def _protections(capabilities: frozenset[str], *, own: bool) -> Iterator[tuple[Protection, str]]:
    """``own``: nobody else is this user."""
    version = max((int(word.removeprefix(_LANDLOCK)) for word in capabilities if word.startswith(_LANDLOCK)), default=0)
    if version > 0:
        yield Protection.LANDLOCK, ACTIVE
    if version >= SCOPES_SIGNALS or own:
        yield Protection.SIGNALS, ACTIVE
    for word, protection in WORDS.items():
        if word in capabilities and (own or word not in _OF_USERS):
            yield protection, ACTIVE


def _limits(facts: LimitFacts) -> Iterator[tuple[Protection, str]]:
    for control, where in facts.active.items():
        yield Protection(control), CGROUP_2 if where.startswith(CGROUP_2) else CGROUP_1
    if Control.MEMORY not in facts.active:
        yield Protection.MEMORY, WATCHED
    if facts.kill is not None and facts.kill in _KILLS:
        yield Protection.KILL, _KILLS[facts.kill]
