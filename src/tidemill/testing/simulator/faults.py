"""What befalls a simulated world, chosen by dice: lost and late messages, dead nodes, clocks that jump, full disks."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tidemill.engine.fake import FakeEngine, Fault
from tidemill.model.ids import NodeId
from tidemill.testing.sim import Clock

JUMPS_S: Final = (-3_600.0, -30.0, -1.0, 1.0, 30.0, 3_600.0)
OVERTAKEN: Final = "server overtaken"
REFUSED: Final = "write without room"
KINDS: Final = frozenset(
    {
        "call lost",
        "answer lost",
        "launch delayed",
        "late launches arrive",
        "batch repeated",
        "node cut off",
        "node within reach",
        "node died",
        "node closes or opens",
        "clock jumped",
        "disk full",
        OVERTAKEN,
        REFUSED,
    }
)
_ANSWERED: Final = ("launch", "events", "logs", "cancel", "withdraw")
_CALLS: Final = (*_ANSWERED, "nodes", "renew", "inventory")


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
    """Strikes when told to; ``cease`` ends all that goes on. ``counts`` are the faults by kind."""

    def __init__(
        self, dice: random.Random, engine: FakeEngine, nodes: Sequence[NodeId], wall: Wall, disk: Disk
    ) -> None:
        self._dice = dice
        self._engine = engine
        self._nodes = nodes
        self._wall = wall
        self._disk = disk
        self.counts: Counter[str] = Counter()

    def strike(self) -> str:
        """Let something go wrong; what."""
        strikes: list[tuple[int, str, Callable[[], str]]] = [
            (6, "call lost", self._lose_call),
            (3, "answer lost", self._lose_answer),
            (3, "launch delayed", self._delay_launch),
            (3, "late launches arrive", self._deliver),
            (3, "batch repeated", self._repeat),
            (3, "node cut off", self._cut),
            (5, "node within reach", self._mend),
            (3, "node died", self._crash),
            (2, "node closes or opens", self._refuse),
            (2, "clock jumped", self._jump),
            (2, "disk full", self._fill),
        ]
        ((_, kind, strike),) = self._dice.choices(strikes, weights=[weight for weight, _, _ in strikes])
        self.counts[kind] += 1
        return f"{kind} {strike()}"

    def cease(self) -> None:
        """Everything works from now on; what was delayed arrives."""
        self._engine.mend_calls()
        for node in self._nodes:
            self._engine.mend(node)
            self._engine.refuse(node, closing=False)
        self._engine.deliver()
        self._disk.full_until = 0.0

    def _node(self) -> NodeId:
        return self._dice.choice(self._nodes)

    def _lose_call(self) -> str:
        method, times = self._dice.choice(_CALLS), self._dice.choice([1, 1, 2])
        self._engine.fail(method, Fault.LOST, times)
        return f"of {method}"

    def _lose_answer(self) -> str:
        method = self._dice.choice(_ANSWERED)
        self._engine.fail(method, Fault.ANSWER_LOST)
        return f"of {method}"

    def _delay_launch(self) -> str:
        self._engine.fail("launch", Fault.LATE)
        return ""

    def _deliver(self) -> str:
        self._engine.deliver()
        return ""

    def _repeat(self) -> str:
        node = self._node()
        self._engine.repeat(node)
        return node

    def _cut(self) -> str:
        node = self._node()
        self._engine.cut(node)
        return node

    def _mend(self) -> str:
        node = self._node()
        self._engine.mend(node)
        return node

    def _crash(self) -> str:
        node = self._node()
        self._engine.crash(node)
        return node

    def _refuse(self) -> str:
        node, closing = self._node(), self._dice.random() < 0.5
        self._engine.refuse(node, closing=closing)
        return f"at {node}: {closing}"

    def _jump(self) -> str:
        seconds = self._dice.choice(JUMPS_S)
        self._wall.jump(seconds)
        return f"by {seconds:g} s"

    def _fill(self) -> str:
        seconds = self._dice.choice([0.5, 2.0, 10.0])
        self._disk.full_until = self._wall.steady.seconds() + seconds
        return f"for {seconds:g} s"
