"""What keeps work from being given away: caps that are reached, nodes that are full. Pure arithmetic.

The scheduler's plan and these functions must never differ: whatever a plan claims meets no obstacle here, and whatever
it leaves meets one that is real. A test drives both from the same store (tests/agree).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.outlook import NodeOutlook, Outlook, Waiter


class Why(StrEnum):
    """Why something waits, or how it ended: stable words of the wire."""

    CLAIMS_STOPPED = "claims_stopped"
    SCHEDULER_SILENT = "scheduler_silent"
    WORKSPACE_EXECUTIONS = "workspace_executions"
    WORKSPACE_TASKS = "workspace_tasks"
    EXECUTION_TASKS = "execution_tasks"
    NO_NODE = "no_node"
    NO_NODE_IN_REGION = "no_node_in_region"
    NODE_UNAVAILABLE = "node_unavailable"
    NODE_DRAINS = "node_drains"
    TOO_BIG = "too_big"
    NODE_SLOTS = "node_slots"
    NODE_MEMORY = "node_memory"
    NODE_CLEARED = "node_cleared"
    NODE_TAKEN_ALONE = "node_taken_alone"
    RUNS_ALONE = "runs_alone"
    ITS_TURN = "its_turn"
    RETRY = "retry"
    LOST = "lost"
    IMAGE = "image"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """A live attempt: what it holds, whose it is, and for how long at most.

    ``of`` is the id of its execution, or the name of the job that a build is for. ``started_at`` is None until its
    process runs; its time counts from then on.
    """

    attempt: AttemptId
    of: str
    node: NodeId
    workspace: str
    memory_mb: int
    alone: bool
    started_at: datetime | None
    timeout_s: int

    def ends_by(self, grace: timedelta) -> datetime | None:
        """When it has ended at the latest; None as long as nobody can say."""
        return None if self.started_at is None else self.started_at + timedelta(seconds=self.timeout_s) + grace


@dataclass(frozen=True, slots=True, kw_only=True)
class Favoured:
    """Whoever a node is cleared for: it was overtaken for long. ``of`` is as of an occupant."""

    waiter: Waiter
    of: str
    workspace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A task that could be given away: of the execution with this key the retry at ``index``, or its next new one."""

    execution: int
    workspace: str
    memory_mb: int
    parallelism: int
    region: str = ""
    index: int | None = None
    alone: bool = False

    @property
    def waiter(self) -> Waiter:
        """As the scheduler calls it."""
        return Waiter(kind=OwnerKind.TASK, owner=self.execution, index=self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a claim is checked against. ``live`` are all live attempts, whosever; no ``task_cap`` is no limit.

    Whoever of ``favoured`` waits for its node keeps a place under its caps as well.
    """

    outlook: Outlook
    live: Sequence[Occupant]
    task_cap: int | None
    favoured: Sequence[Favoured] = ()

    def near(self, want: Want) -> "Ground":
        """With the nodes only that are in the task's region: all of them when it has none."""
        nodes = tuple(node for node in self.outlook.nodes if want.region in {"", node.info.region})
        return replace(self, outlook=replace(self.outlook, nodes=nodes))

    def others(self, want: Want) -> list[Favoured]:
        """The favoured tasks beside this one."""
        return [one for one in self.favoured if one.waiter.kind is OwnerKind.TASK and one.waiter != want.waiter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a claim is impossible: the cap with what it allows and what is used of it, who holds it, and until when.

    ``until`` is when enough of ``holders`` have ended at the latest; None where nobody can say. ``message`` is what the
    scheduler knows in words of its own. ``kept`` of ``used`` are places of whoever is favoured, and do not run.
    """

    why: Why
    cap: str = ""
    limit: int | None = None
    used: int | None = None
    holders: tuple[Occupant, ...] = ()
    until: datetime | None = None
    node: NodeId | None = None
    message: str = ""
    kept: int = 0
    favoured: Favoured | None = None


def obstacle(want: Want, ground: Ground, now: datetime) -> Obstacle | None:
    """What keeps this task from being claimed now; None when nothing does: then its turn comes."""
    near = ground.near(want)
    return (
        not_at_work(ground.outlook, now)
        or _elsewhere(want, ground.outlook, near.outlook)
        or _no_node(near.outlook)
        or _too_big(want, near.outlook)
        or _own_cap(want, ground)
        or _workspace_cap(want, ground)
        or _no_room(want, near)
    )


def not_at_work(outlook: Outlook, now: datetime) -> Obstacle | None:
    """What keeps the scheduler from giving away anything at all."""
    if outlook.stopped:
        return Obstacle(why=Why.CLAIMS_STOPPED, message=outlook.stopped)
    if outlook.silent(now):
        return Obstacle(why=Why.SCHEDULER_SILENT)
    return None


def _elsewhere(want: Want, outlook: Outlook, near: Outlook) -> Obstacle | None:
    """There are nodes, but none where the task is to run."""
    if near.nodes or not outlook.nodes:
        return None
    return Obstacle(why=Why.NO_NODE_IN_REGION, message=f"there is no node in region {want.region!r}")


def _no_node(outlook: Outlook) -> Obstacle | None:
    """No node that could take anything: none is named, all drain, or those that do not are in trouble."""
    if not outlook.nodes:
        return Obstacle(why=Why.NO_NODE, message=outlook.engine)
    staying = [node for node in outlook.nodes if not node.drains]
    if not staying:
        return Obstacle(why=Why.NODE_DRAINS, node=outlook.nodes[0].id)
    if all(node.trouble for node in staying):
        return Obstacle(why=Why.NODE_UNAVAILABLE, node=staying[0].id, message=staying[0].trouble)
    return None


def _too_big(want: Want, outlook: Outlook) -> Obstacle | None:
    biggest = max(outlook.nodes, key=lambda node: node.info.memory_mb)
    if want.memory_mb <= biggest.info.memory_mb:
        return None
    return Obstacle(why=Why.TOO_BIG, cap="memory", limit=biggest.info.memory_mb, used=want.memory_mb, node=biggest.id)


def _own_cap(want: Want, ground: Ground) -> Obstacle | None:
    own = [one for one in ground.live if one.attempt.owner == want.execution]
    kept = sum(one.waiter.owner == want.execution for one in ground.others(want))
    cap = Obstacle(why=Why.EXECUTION_TASKS, cap="maxConcurrentTasks", kept=kept, holders=tuple(own))
    return _over(cap, want.parallelism, ground.outlook.grace)


def _workspace_cap(want: Want, ground: Ground) -> Obstacle | None:
    if ground.task_cap is None:
        return None
    here = [one for one in ground.live if one.attempt.kind is OwnerKind.TASK and one.workspace == want.workspace]
    kept = sum(one.workspace == want.workspace for one in ground.others(want))
    cap = Obstacle(why=Why.WORKSPACE_TASKS, cap="workspace.maxConcurrentTasks", kept=kept, holders=tuple(here))
    return _over(cap, ground.task_cap, ground.outlook.grace)


def _over(cap: Obstacle, limit: int, grace: timedelta) -> Obstacle | None:
    """The cap, when it is reached."""
    used = len(cap.holders) + cap.kept
    if used < limit:
        return None
    # so many must end until one more may begin
    return replace(cap, limit=limit, used=used, until=_nth_end(cap.holders, used - limit + 1, grace))


def _nth_end(holders: Iterable[Occupant], count: int, grace: timedelta) -> datetime | None:
    ends = sorted(end for one in holders if (end := one.ends_by(grace)) is not None)
    return ends[count - 1] if 0 < count <= len(ends) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """A node and what lives there."""

    node: NodeOutlook
    here: tuple[Occupant, ...]

    @property
    def free_mb(self) -> int:
        return self.node.info.memory_mb - sum(one.memory_mb for one in self.here)

    @property
    def slots(self) -> int:
        return self.node.info.slots - len(self.here)

    @property
    def closed(self) -> bool:
        return any(one.alone for one in self.here)

    def kept_from(self, want: Want) -> bool:
        """Whether it is cleared for something else."""
        return self.node.cleared_for not in {None, want.waiter}

    def takes(self, want: Want) -> bool:
        if want.alone and self.here:
            return False
        return not self.closed and self.slots > 0 and self.free_mb >= want.memory_mb

    def free_by(self, want: Want, grace: timedelta) -> datetime | None:
        """When the task fits here at the latest, if nothing else begins; None when nobody can say."""
        ending = sorted(((end, one) for one in self.here if (end := one.ends_by(grace))), key=lambda pair: pair[0])
        left, free_mb, alone = len(self.here), self.free_mb, sum(one.alone for one in self.here)
        for end, one in ending:
            left, free_mb, alone = left - 1, free_mb + one.memory_mb, alone - one.alone
            empty_enough = left == 0 if want.alone else left < self.node.info.slots
            if empty_enough and not alone and free_mb >= want.memory_mb:
                return end
        return None


def _no_room(want: Want, ground: Ground) -> Obstacle | None:
    here: dict[NodeId, list[Occupant]] = {}
    for one in ground.live:
        here.setdefault(one.node, []).append(one)
    rooms = [
        _Room(node=node, here=tuple(here.get(node.id, ())))
        for node in ground.outlook.nodes
        if not node.trouble and node.info.memory_mb >= want.memory_mb
    ]
    if any(room.takes(want) and not room.kept_from(want) for room in rooms):
        return None
    if not rooms:
        # the node that is big enough is one of those in trouble
        able = next(node for node in ground.outlook.nodes if node.info.memory_mb >= want.memory_mb)
        return Obstacle(why=Why.NODE_UNAVAILABLE, node=able.id, message=able.trouble)
    room = max(rooms, key=_likeliest(want))
    until = min(filter(None, (each.free_by(want, ground.outlook.grace) for each in rooms)), default=None)
    if room.takes(want):
        favoured = next((one for one in ground.favoured if one.waiter == room.node.cleared_for), None)
        return Obstacle(why=Why.NODE_CLEARED, node=room.node.id, favoured=favoured)
    info, holders = room.node.info, tuple(sorted(room.here, key=lambda one: -one.memory_mb))
    if room.closed:
        alone = tuple(one for one in holders if one.alone)
        return Obstacle(why=Why.NODE_TAKEN_ALONE, node=info.id, holders=alone, until=until)
    if want.alone:
        return Obstacle(why=Why.RUNS_ALONE, used=len(holders), node=info.id, holders=holders, until=until)
    if room.slots <= 0:
        why, cap, limit, used = Why.NODE_SLOTS, "node.slots", info.slots, len(holders)
    else:
        why, cap, limit, used = Why.NODE_MEMORY, "node.memory", info.memory_mb, info.memory_mb - room.free_mb
    return Obstacle(why=why, cap=cap, limit=limit, used=used, node=info.id, holders=holders, until=until)


def _likeliest(want: Want) -> Callable[[_Room], tuple[bool, bool, bool, int]]:
    """Orders nodes by how much they lack: what is said of the best of them is what the task waits for."""
    if want.alone:
        return lambda room: (room.takes(want), not room.closed, True, -len(room.here))
    return lambda room: (room.takes(want), not room.closed, room.slots > 0, room.free_mb)
