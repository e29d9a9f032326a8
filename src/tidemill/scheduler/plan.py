"""What to do now: a snapshot in, decisions out. Pure: no clock, no I/O, no randomness.

Free capacity goes round robin over workspaces, then jobs, then executions; whoever was served longest ago comes first.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.model.ids import AttemptId, ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import NodeInfo
from tidemill.store.ledger_claim import BuildClaim, Claim, RetryClaim, TaskClaim
from tidemill.store.snapshot import Claimable, LiveAttempt, PendingBuild, Queued, Retry, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a plan is made of. ``nodes`` are those that may be given work now; ``turns`` say who was served when.

    Keys of ``turns`` are ("workspace", name), ("job", key) and ("queue", job key); a higher number is later, no number
    is never. Something that waits since before ``starving_before`` gets a node cleared for it.
    """

    now: datetime
    starving_before: datetime
    nodes: Sequence[NodeInfo]
    view: View
    turns: Mapping[Hashable, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Let a queued execution run."""

    execution: ExecutionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Tell a node to end these attempts."""

    node: NodeId
    attempts: tuple[AttemptId, ...]


Decision = Promote | Cancel | Claim


def plan(snapshot: Snapshot) -> list[Decision]:
    """Decisions in order: cancels, promotions, claims. Safe to act on late: each is checked again when it is done."""
    decisions: list[Decision] = [*_cancels(snapshot.view.doomed), *_promotions(snapshot)]
    rooms = [_room(info, snapshot.view.live) for info in snapshot.nodes]
    decisions += _build_claims(snapshot, rooms)
    decisions += _task_claims(snapshot, rooms)
    return decisions


def next_due(view: View, now: datetime) -> datetime | None:
    """When something that only waits for its time becomes due; None when nothing does."""
    times = [retry.not_before for execution in view.claimable for retry in execution.retries]
    times += [build.not_before for build in view.builds if build.not_before is not None]
    return min((time for time in times if time > now), default=None)


@dataclass(slots=True, kw_only=True)
class _Room:
    """What is left of a node while a plan is made. ``closed``: nothing more goes there in this plan."""

    node: NodeId
    whole_mb: int
    free_mb: int
    slots: int
    used: int
    closed: bool

    def takes(self, memory_mb: int, *, alone: bool) -> bool:
        return not self.closed and self.slots > 0 and self.free_mb >= memory_mb and (self.used == 0 if alone else True)

    def take(self, memory_mb: int, *, alone: bool) -> None:
        self.free_mb -= memory_mb
        self.slots -= 1
        self.used += 1
        self.closed = self.closed or alone


def _room(info: NodeInfo, live: Sequence[LiveAttempt]) -> _Room:
    here = [attempt for attempt in live if attempt.node == info.id]
    return _Room(
        node=info.id,
        whole_mb=info.memory_mb,
        free_mb=info.memory_mb - sum(attempt.memory_mb for attempt in here),
        slots=info.slots - len(here),
        used=len(here),
        closed=any(attempt.alone for attempt in here),
    )


def _place(rooms: Sequence[_Room], memory_mb: int, *, alone: bool, starving: bool) -> NodeId | None:
    """The emptiest node with room. A starving one that fits nowhere yet keeps the likeliest node from all others."""
    fitting = [room for room in rooms if room.takes(memory_mb, alone=alone)]
    if fitting:
        best = max(fitting, key=lambda room: (room.slots, room.free_mb))
        best.take(memory_mb, alone=alone)
        return best.node
    if starving:
        able = [room for room in rooms if room.whole_mb >= memory_mb and not room.closed]
        if able:
            max(able, key=lambda room: (room.free_mb, -room.used)).closed = True
    return None


def _cancels(doomed: Sequence[LiveAttempt]) -> list[Decision]:
    by_node: dict[NodeId, list[AttemptId]] = {}
    for attempt in doomed:
        by_node.setdefault(attempt.node, []).append(attempt.attempt)
    return [Cancel(node=node, attempts=tuple(attempts)) for node, attempts in by_node.items()]


def _promotions(snapshot: Snapshot) -> list[Decision]:
    turns, room = snapshot.turns, dict(snapshot.view.promotable)
    ring = deque(sorted(snapshot.view.queued, key=lambda queue: (turns.get(("queue", queue.job), 0), queue.keys)))
    taken: dict[int, int] = {}
    promotions: list[Decision] = []
    while ring:
        queue: Queued = ring.popleft()
        position = taken.get(queue.job, 0)
        if position < len(queue.keys) and room.get(queue.workspace, 0) > 0:
            promotions.append(Promote(execution=queue.keys[position]))
            room[queue.workspace] -= 1
            taken[queue.job] = position + 1
            ring.append(queue)
    return promotions


def _build_claims(snapshot: Snapshot, rooms: Sequence[_Room]) -> list[Decision]:
    claims: list[Decision] = []
    due: list[PendingBuild] = [
        build for build in snapshot.view.builds if build.not_before is None or build.not_before <= snapshot.now
    ]
    for build in due:
        starving = (build.not_before or build.created_at) < snapshot.starving_before
        node = _place(rooms, build.memory_mb, alone=False, starving=starving)
        if node is not None:
            claims.append(BuildClaim(build=build.key, node=node))
    return claims


@dataclass(slots=True, kw_only=True)
class _Line:
    """What one execution still wants: due retries first, they have waited longest, then tasks without a row."""

    execution: Claimable
    retries: deque[Retry]
    unclaimed: int
    room: int

    def empty(self) -> bool:
        return self.room <= 0 or not (self.retries or self.unclaimed)


def _task_claims(snapshot: Snapshot, rooms: Sequence[_Room]) -> list[Decision]:
    """One task at a time, a turn each: workspaces in a ring, in each its jobs, in each its executions."""
    view = snapshot.view
    running: dict[int, int] = {}
    in_workspace: dict[str, int] = {}
    for attempt in view.live:
        if attempt.attempt.kind is OwnerKind.TASK:
            running[attempt.attempt.owner] = running.get(attempt.attempt.owner, 0) + 1
            in_workspace[attempt.workspace] = in_workspace.get(attempt.workspace, 0) + 1
    workspaces = _rings(snapshot, running)
    tally = _Tally()
    while workspaces and any(room.slots > 0 and not room.closed for room in rooms):
        name, jobs = workspaces.popleft()
        cap = view.task_caps.get(name)
        if not jobs or (cap is not None and in_workspace.get(name, 0) >= cap):
            continue
        job, lines = jobs.popleft()
        while lines:
            line = lines.popleft()
            claim = _one(line, snapshot, rooms)
            if claim is not None:
                tally.add(claim)
                in_workspace[name] = in_workspace.get(name, 0) + 1
                if not line.empty():
                    lines.append(line)
                break
        if lines:
            jobs.append((job, lines))
        workspaces.append((name, jobs))
    return tally.claims()


_Jobs = deque[tuple[int, deque[_Line]]]


def _rings(snapshot: Snapshot, running: Mapping[int, int]) -> deque[tuple[str, _Jobs]]:
    turns = snapshot.turns
    found: dict[str, dict[int, deque[_Line]]] = {}
    for execution in sorted(snapshot.view.claimable, key=lambda one: (one.served_at, one.key)):
        line = _Line(
            execution=execution,
            retries=deque(retry for retry in execution.retries if retry.not_before <= snapshot.now),
            unclaimed=execution.unclaimed,
            room=execution.parallelism - running.get(execution.key, 0),
        )
        if not line.empty():
            found.setdefault(execution.workspace, {}).setdefault(execution.job, deque()).append(line)
    names = sorted(found, key=lambda name: (turns.get(("workspace", name), 0), name))
    return deque(
        (name, deque(sorted(found[name].items(), key=lambda item: (turns.get(("job", item[0]), 0), item[0]))))
        for name in names
    )


def _one(line: _Line, snapshot: Snapshot, rooms: Sequence[_Room]) -> RetryClaim | TaskClaim | None:
    """Place the execution's next task; None when nothing of it fits anywhere now."""
    execution = line.execution
    memory_mb = execution.memory_mb
    while line.retries:
        retry = line.retries.popleft()
        starving = retry.not_before < snapshot.starving_before
        node = _place(rooms, memory_mb, alone=retry.alone, starving=starving)
        if node is not None:
            line.room -= 1
            return RetryClaim(execution=execution.key, index=retry.index, node=node, alone=retry.alone)
    if line.unclaimed:
        node = _place(rooms, memory_mb, alone=False, starving=execution.served_at < snapshot.starving_before)
        if node is not None:
            line.unclaimed -= 1
            line.room -= 1
            return TaskClaim(execution=execution.key, node=node)
    return None


class _Tally:
    """Claims, those of the same execution on the same node in one, in the order in which each was last given a turn."""

    def __init__(self) -> None:
        self._counts: dict[RetryClaim | tuple[ExecutionKey, NodeId], int] = {}

    def add(self, claim: RetryClaim | TaskClaim) -> None:
        key = claim if isinstance(claim, RetryClaim) else (claim.execution, claim.node)
        self._counts[key] = self._counts.pop(key, 0) + 1

    def claims(self) -> list[Decision]:
        return [
            key if isinstance(key, RetryClaim) else TaskClaim(execution=key[0], node=key[1], count=count)
            for key, count in self._counts.items()
        ]
