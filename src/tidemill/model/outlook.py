"""What the scheduler alone knows of the present: which nodes it has, and what keeps it from giving work away."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tidemill.model.ids import NodeId, OwnerKind
from tidemill.model.lease import NodeInfo

# a pass comes about once a second; one that waits for a node that does not answer takes some ten
SILENT_AFTER: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """What wants to run: a build, an execution's retry of the task ``index``, or, without one, its next new task.

    ``owner`` is the key of the build or of the execution.
    """

    kind: OwnerKind
    owner: int
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutlook:
    """A node that the engine names. ``trouble`` is why it is given nothing now, in words; empty: it may be given work.

    A node that drains has no memory and no slots. One that is ``cleared_for`` something takes nothing else.
    """

    info: NodeInfo
    trouble: str = ""
    cleared_for: Waiter | None = None

    @property
    def id(self) -> NodeId:
        return self.info.id

    @property
    def drains(self) -> bool:
        """Whether it takes nothing new until it is replaced."""
        return self.info.slots == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How things look to the scheduler. ``looked_at`` is when its last pass ended, None before the first.

    ``stopped`` says why nothing at all is given away (no room on the disk, say), ``engine`` why the engine names no
    node; both are empty when that is not so. ``grace`` is what a task has between its time and its end by force.
    """

    looked_at: datetime | None = None
    stopped: str = ""
    engine: str = ""
    nodes: tuple[NodeOutlook, ...] = ()
    grace: timedelta = timedelta(seconds=10)

    def silent(self, now: datetime) -> bool:
        """Whether the scheduler has not looked for so long that it cannot be at work."""
        return self.looked_at is None or now - self.looked_at > SILENT_AFTER

    def node(self, node: NodeId) -> NodeOutlook | None:
        """The node of this id; None when the engine does not name it."""
        return next((each for each in self.nodes if each.id == node), None)
