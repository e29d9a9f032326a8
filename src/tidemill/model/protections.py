"""What holds an attempt back: the words of doctor, nodes and attempts, and how they are kept. Standard library only.

A node states each of its protections (Stated); an attempt has a part of them (Had): it may be a build, or be no user of
its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Protection(StrEnum):
    """In the order in which they are shown."""

    NO_NEW_PRIVILEGES = "no_new_privileges"
    CAPABILITIES = "capabilities"
    LANDLOCK = "landlock"
    SIGNALS = "signals"
    SECCOMP = "seccomp"
    OWN_UID = "own_uid"
    HIDDEN_PROCESSES = "hidden_processes"
    OWN_ROOT = "own_root"
    OWN_TEMPORARY = "own_temporary"
    METADATA = "metadata"
    MEMORY = "memory"
    PIDS = "pids"
    CPU = "cpu"
    KILL = "kill"


MEANS: Final[Mapping[Protection, str]] = {
    Protection.NO_NEW_PRIVILEGES: "programs that are setuid give tasks nothing",
    Protection.CAPABILITIES: "tasks have no capabilities and get none",
    Protection.LANDLOCK: "tasks open what is theirs and the system's, nothing else; they trace nobody outside",
    Protection.SIGNALS: "tasks signal nobody outside",
    Protection.SECCOMP: "system calls that only an attacker needs fail",
    Protection.OWN_UID: "each task runs as a user of its own",
    Protection.HIDDEN_PROCESSES: "tasks see their own processes only",
    Protection.OWN_ROOT: "tasks have a root of their own, in which there is what they may open and nothing else",
    Protection.OWN_TEMPORARY: "tasks have a /tmp and a /dev/shm of their own, which are limited and end with them",
    Protection.METADATA: "tasks do not reach cloud metadata, or what else task_forbidden_addresses names",
    Protection.MEMORY: "the memory of a task is limited, and its kills are counted",
    Protection.PIDS: "processes and threads of a task are limited",
    Protection.CPU: "CPU is shared by the memory of tasks",
    Protection.KILL: "what is killed is killed whole",
}
"""What each does where it is active."""

ACTIVE: Final = ""
CGROUP_1: Final = "cgroup v1"
CGROUP_2: Final = "cgroup v2"
WATCHED: Final = "watched"
"""Nobody limits it; the node looks now and then."""
BY_USER: Final = "user"
"""Counted for the user that a task is, threads of others of this number too."""
FORKLESS: Final = "forkless"
AT_ONCE: Final = "at once"

_NOT_ENOUGH: Final = frozenset({WATCHED, BY_USER})

_PROCESS: Final = "process"
_SANDBOX: Final = "sandbox"
_CONTAINER: Final = "container"

# a bit each, from 1 on, in the rows of attempts for ever: add at the end, and change nothing
_LEVELS: Final = {_PROCESS: 1 << 0, _SANDBOX: 1 << 1, _CONTAINER: 1 << 2}
_BITS: Final[Mapping[tuple[Protection, str], int]] = {
    (Protection.NO_NEW_PRIVILEGES, ACTIVE): 1 << 3,
    (Protection.CAPABILITIES, ACTIVE): 1 << 4,
    (Protection.LANDLOCK, ACTIVE): 1 << 5,
    (Protection.SIGNALS, ACTIVE): 1 << 6,
    (Protection.SECCOMP, ACTIVE): 1 << 7,
    (Protection.OWN_UID, ACTIVE): 1 << 8,
    (Protection.HIDDEN_PROCESSES, ACTIVE): 1 << 9,
    (Protection.MEMORY, CGROUP_1): 1 << 10,
    (Protection.MEMORY, CGROUP_2): 1 << 11,
    (Protection.MEMORY, WATCHED): 1 << 12,
    (Protection.PIDS, CGROUP_1): 1 << 13,
    (Protection.PIDS, CGROUP_2): 1 << 14,
    (Protection.PIDS, BY_USER): 1 << 15,
    (Protection.CPU, CGROUP_1): 1 << 16,
    (Protection.CPU, CGROUP_2): 1 << 17,
    (Protection.KILL, FORKLESS): 1 << 18,
    (Protection.KILL, AT_ONCE): 1 << 19,
    (Protection.METADATA, ACTIVE): 1 << 20,
    (Protection.OWN_ROOT, ACTIVE): 1 << 21,
    (Protection.OWN_TEMPORARY, ACTIVE): 1 << 22,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a machine says of one protection: ``says`` what it does here, or why not; ``remedy`` how to get it then.

    ``name`` is a Protection, or the word of a node that knows more of them than we do.
    """

    name: str
    active: bool
    says: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """What an attempt ran with: the level of isolation, and ``by`` what each protection worked; others did not.

    ``level`` is "" where an engine has not said it.
    """

    level: str
    by: Mapping[Protection, str]

    @property
    def active(self) -> tuple[Protection, ...]:
        """Those that held, in order."""
        return tuple(each for each in Protection if each in self.by and self.by[each] not in _NOT_ENOUGH)

    @property
    def missing(self) -> tuple[Protection, ...]:
        """The others, in order: also what was watched, and not limited."""
        return tuple(each for each in Protection if each not in self.active)

    def to_number(self) -> int:
        """How it is kept: a bit each. Raises KeyError for a level or a way that has none."""
        number = _LEVELS[self.level] if self.level else 0
        for pair in self.by.items():
            number |= _BITS[pair]
        return number


@lru_cache(maxsize=256)
def read_had(number: int) -> Had:
    """What ``to_number`` kept. Bits of a later version are left out."""
    level = next((level for level, bit in _LEVELS.items() if number & bit), "")
    return Had(level=level, by={name: way for (name, way), bit in _BITS.items() if number & bit})
