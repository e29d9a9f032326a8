"""What a machine limits, and what it does not and why: for a person, and for whoever asks a node."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.node.limits.groups import Control, Kill


@dataclass(frozen=True, slots=True)
class Missing:
    """Why something is not limited, and what would change that; both for a person."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFacts:
    """What a node can have the kernel do. Every control is in just one of ``active`` and ``missing``.

    ``active`` says where: ``cgroup v1, /sys/fs/cgroup/memory/…``. ``kill`` says how surely a group is killed; None
    where there are no groups.
    """

    active: Mapping[Control, str] = field(default_factory=dict)
    missing: Mapping[Control, Missing] = field(default_factory=dict)
    kill: Kill | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """Words for what a node has: ``memory-limit``, ``pids-limit``, ``cpu-share``, ``group-kill``."""
        words = {Control.MEMORY: "memory-limit", Control.PIDS: "pids-limit", Control.CPU: "cpu-share"}
        killing = {"group-kill"} if self.kill is not None and self.kill > Kill.LISTED else set[str]()
        return frozenset({words[control] for control in self.active} | killing)

    def to_json(self) -> str:
        """One line that ``from_json`` reads."""
        missing = {control: [why.reason, why.remedy] for control, why in self.missing.items()}
        return json.dumps({"active": dict(self.active), "missing": missing, "kill": self.kill})

    @classmethod
    def from_json(cls, text: str) -> "LimitFacts":
        """Raises ValueError, KeyError or TypeError when ``text`` is not what ``to_json`` of this version writes."""
        document = json.loads(text)
        return cls(
            active={Control(control): where for control, where in document["active"].items()},
            missing={Control(control): Missing(*why) for control, why in document["missing"].items()},
            kill=None if document["kill"] is None else Kill(document["kill"]),
        )
