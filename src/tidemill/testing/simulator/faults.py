"""What befalls a simulated world, chosen by dice: messages, nodes, clocks, disks."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tidemill.engine.fake import METHODS, FakeEngine, Fault
from tidemill.model.ids import NodeId
from tidemill.testing.sim import Clock

JUMPS_S: Final = (-3_600.0, -30.0, -1.0, 1.0, 30.0, 3_600.0)
OVERTAKEN: Final = "server overtaken"
REFUSED: Final = "write without room"
SHORT: Final = "partition shorter than a lease"
LONG: Final = "partition longer than a lease"
ANYWHERE: Final = frozenset(
    {
        *(f"call {fault}" for fault in Fault),
        "late calls arrive",
        "late calls arrive in another order",
        "node out of reach",
        "node silent",
        "node frozen",
        "node back",
        "node died",
        "node closes or opens",
        "clock jumped",
        "disk full",
        OVERTAKEN,
        REFUSED,
    }
)
"""Kinds of faults that every world may have."""
WITH_LEASES: Final = frozenset({SHORT, LONG, "node replaced", "node's clock is wrong"})
"""And those of worlds whose leases have a time to live."""


@dataclass(slots=True)
class Wall:
    """A wall clock: the steady one, and how far it has been set away from it."""

    steady: Clock
    ahead: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return self.steady.now + self.ahead

    def jump(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass(slots=True)
class Disk:
    """The server's disk: full until some time, and even then room comes and goes."""

    dice: random.Random
    steady: Clock
    full_until: float = 0.0
    refused: int = 0

    def full(self) -> bool:
        """Whether the next write finds no room."""
        if self.steady.seconds() >= self.full_until or self.dice.random() < 0.4:
            return False
        self.refused += 1
        return True


class Faults:
    """Strikes when told to; ``cease`` ends all that goes on. ``counts`` are the faults by kind.

    ``ttl_s`` is how long the leases of this world live; None when they have no end, and nodes are never replaced.
    """

    def __init__(self, dice: random.Random, engine: FakeEngine, wall: Wall, disk: Disk, ttl_s: float | None) -> None:
        self._dice = dice
        self._engine = engine
        self._wall = wall
        self._disk = disk
        self._ttl_s = ttl_s
        self._heals: list[tuple[float, NodeId]] = []
        self.frozen: set[NodeId] = set()
        self.launches_late = False
        self.counts: Counter[str] = Counter()

    def strike(self) -> str:
        """Let something go wrong, or come right again; what."""
        strikes: list[tuple[int, Callable[[], tuple[str, str]]]] = [
            (16, self._spoil_call),
            (4, self._deliver),
            (4, self._shuffle),
            (6, self._isolate),
            (5, self._mend),
            (3, self._crash),
            (2, self._refuse),
            (2, self._jump),
            (2, self._fill),
        ]
        if self._ttl_s is not None:
            strikes += [(4, self._partition), (2, self._replace), (1, self._skew)]
        ((_, strike),) = self._dice.choices(strikes, weights=[weight for weight, _ in strikes])
        kind, about = strike()
        self.counts[kind] += 1
        return f"{kind} {about}"

    def heal(self) -> None:
        """End the partitions whose time has come."""
        now = self._wall.steady.seconds()
        due = [one for one in self._heals if one[0] <= now]
        self._heals = [one for one in self._heals if one[0] > now]
        for _, node in due:
            self._back(node)

    def cease(self) -> None:
        """Everything works from now on; what was on its way arrives."""
        self._engine.mend_calls()
        self._heals = []
        for node in self._engine.members():
            self._back(node)
            self._engine.refuse(node, closing=False)
        self._engine.deliver(self._dice.shuffle)
        self._disk.full_until = 0.0

    def _node(self) -> NodeId:
        return self._dice.choice(self._engine.members())

    def _back(self, node: NodeId) -> None:
        self.frozen.discard(node)
        if node in self._engine.members():
            self._engine.mend(node)

    def _spoil_call(self) -> tuple[str, str]:
        method, fault = self._dice.choice(METHODS), self._dice.choice(list(Fault))
        self.launches_late |= method == "launch" and fault in {Fault.LATE, Fault.DOUBLED}
        self._engine.fail(method, fault, self._dice.choice([1, 1, 2]))
        return f"call {fault}", f"of {method}"

    def _deliver(self) -> tuple[str, str]:
        self._engine.deliver(at_most=self._dice.choice([1, None]))
        return "late calls arrive", ""

    def _shuffle(self) -> tuple[str, str]:
        self._engine.deliver(self._dice.shuffle)
        return "late calls arrive in another order", ""

    def _isolate(self) -> tuple[str, str]:
        node = self._node()
        kind = self._dice.choice(["node out of reach", "node silent", "node frozen"])
        match kind:
            case "node out of reach":
                self._engine.cut(node)
            case "node silent":
                self._engine.mute(node)
            case _:
                self._engine.freeze(node)
                self.frozen.add(node)
        return kind, node

    def _mend(self) -> tuple[str, str]:
        node = self._node()
        self._back(node)
        return "node back", node

    def _partition(self) -> tuple[str, str]:
        """Nobody reaches the node for a while that is known."""
        node, ttl_s = self._node(), self._ttl_s or 0.0
        kind, times = self._dice.choice([(SHORT, 0.7), (LONG, 3.0)])
        self._engine.cut(node)
        self._heals.append((self._wall.steady.seconds() + times * ttl_s, node))
        return kind, node

    def _replace(self) -> tuple[str, str]:
        node = self._node()
        self.frozen.discard(node)
        return "node replaced", f"{node} by {self._engine.replace(node)}"

    def _skew(self) -> tuple[str, str]:
        node, ahead_s = self._node(), self._dice.choice([-100.0, -1.0, 0.0, 100.0])
        self._engine.skew(node, ahead_s)
        return "node's clock is wrong", f"{node} by {ahead_s:g} s"

    def _crash(self) -> tuple[str, str]:
        node = self._node()
        self.frozen.discard(node)
        self._engine.crash(node)
        return "node died", node

    def _refuse(self) -> tuple[str, str]:
        node, closing = self._node(), self._dice.random() < 0.5
        self._engine.refuse(node, closing=closing)
        return "node closes or opens", f"{node}: {closing}"

    def _jump(self) -> tuple[str, str]:
        seconds = self._dice.choice(JUMPS_S)
        self._wall.jump(seconds)
        return "clock jumped", f"by {seconds:g} s"

    def _fill(self) -> tuple[str, str]:
        seconds = self._dice.choice([0.5, 2.0, 10.0])
        self._disk.full_until = self._wall.steady.seconds() + seconds
        return "disk full", f"for {seconds:g} s"
