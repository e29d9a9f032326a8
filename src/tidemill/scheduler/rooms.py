"""Room on nodes: what is left of each while a plan is made, and which is cleared for whom."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.model.ids import NodeId
from tidemill.model.lease import NodeInfo
from tidemill.store.snapshot import LiveAttempt


class Rooms:
    """What is left of the nodes. It only shrinks: what fits nowhere now fits nowhere later in the same plan."""

    def __init__(self, nodes: Sequence[NodeInfo], live: Sequence[LiveAttempt]) -> None:
        by_node: dict[NodeId, list[LiveAttempt]] = {info.id: [] for info in nodes}
        for attempt in live:
            if attempt.node in by_node:
                by_node[attempt.node].append(attempt)
        self._rooms = [_room(info, by_node[info.id]) for info in nodes]

    def open(self) -> bool:
        """Whether there may be room for anything at all."""
        return any(room.slots > 0 and not room.closed for room in self._rooms)

    def able(self, memory_mb: int, region: str) -> bool:
        """Whether a node, were it empty, would do."""
        return any(room.able(memory_mb, region) for room in self._rooms)

    def place(self, memory_mb: int, region: str, *, alone: bool) -> NodeId | None:
        """Take room on the emptiest node of the region that has it, empty for any region; None when none has."""
        fitting = [room for room in self._rooms if room.takes(memory_mb, region, alone=alone)]
        if not fitting:
            return None
        best = max(fitting, key=lambda room: (room.slots, room.free_mb))
        best.take(memory_mb, alone=alone)
        return best.node

    def clear(self, memory_mb: int, region: str) -> NodeId | None:
        """Keep the likeliest node from all others, in this plan; None when each is kept already, or too small.

        A cleared node only gains room, and the one with most is chosen each time: whatever is chosen, room grows until
        there is enough.
        """
        likely = [room for room in self._rooms if room.able(memory_mb, region) and not room.closed]
        if not likely:
            return None
        best = max(likely, key=lambda room: (room.free_mb, -room.used))
        best.closed = True
        return best.node


@dataclass(slots=True, kw_only=True)
class _Room:
    """What is left of a node. ``closed``: nothing more goes there in this plan."""

    node: NodeId
    region: str
    whole_mb: int
    free_mb: int
    slots: int
    used: int
    closed: bool

    def able(self, memory_mb: int, region: str) -> bool:
        return self.whole_mb >= memory_mb and region in {"", self.region}

    def takes(self, memory_mb: int, region: str, *, alone: bool) -> bool:
        free = not self.closed and self.slots > 0 and self.free_mb >= memory_mb
        return free and region in {"", self.region} and not (alone and self.used)

    def take(self, memory_mb: int, *, alone: bool) -> None:
        self.free_mb -= memory_mb
        self.slots -= 1
        self.used += 1
        self.closed = self.closed or alone


def _room(info: NodeInfo, here: Sequence[LiveAttempt]) -> _Room:
    return _Room(
        node=info.id,
        region=info.region,
        whole_mb=info.memory_mb,
        free_mb=info.memory_mb - sum(attempt.memory_mb for attempt in here),
        slots=info.slots - len(here),
        used=len(here),
        closed=any(attempt.alone for attempt in here),
    )
