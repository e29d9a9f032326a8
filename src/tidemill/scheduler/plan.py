"""What to do now: a snapshot in, decisions out. Pure: no clock, no I/O, no randomness.

Free capacity goes round robin over workspaces, then jobs, then executions; whoever was served longest ago comes first.
What fits nowhere lets others pass, and is remembered as overtaken; overtaken for long, it gets a node cleared for it
(docs/decisions/0060-the-overtaken-get-a-node-cleared.md).
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.model.ids import AttemptId, ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import NodeInfo
from tidemill.model.outlook import Waiter
from tidemill.model.trigger import is_ahead
from tidemill.scheduler.rooms import Rooms
from tidemill.store.ledger_claim import BuildClaim, Claim, RetryClaim, TaskClaim
from tidemill.store.snapshot import Claimable, LiveAttempt, PendingBuild, Queued, Retry, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a plan is made of. ``nodes`` are those that may be given work now; ``turns`` say who was served when.

    Keys of ``turns`` are ("workspace", name), ("job", key) and ("queue", job key); a higher number is later, no number
    is never. ``overtaken`` are those that an earlier plan called so, first come first; the first ``favoured`` of them
    have waited so long that a node is cleared for each.
    """

    now: datetime
    nodes: Sequence[NodeInfo]
    view: View
    turns: Mapping[Hashable, int] = field(default_factory=dict)
    overtaken: Sequence[Waiter] = ()
    favoured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Let a queued execution run."""

    execution: ExecutionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOut:
    """End an execution whose deadline has come."""

    execution: ExecutionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Tell a node to end these attempts."""

    node: NodeId
    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """To be remembered until the next plan: its turn came, it fitted nowhere, and something behind it was served.

    ``cleared`` is the node that nothing else goes to until there is room for it; None while it is not favoured.
    """

    waiter: Waiter
    cleared: NodeId | None = None


Decision = TimeOut | Promote | Cancel | Overtaken | Claim


def plan(snapshot: Snapshot) -> list[Decision]:
    """Decisions in order: what times out, cancels, promotions, who was overtaken, claims.

    Safe to act on late: each is checked again when it is done.
    """
    making = _Plan(snapshot)
    making.favour()
    making.claim_builds()
    making.claim_tasks()
    overtaken = [Overtaken(waiter=waiter, cleared=node) for waiter, node in making.overtaken.items()]
    return [
        *_time_outs(snapshot),
        *_cancels(snapshot.view.doomed),
        *_promotions(snapshot),
        *overtaken,
        *making.builds,
        *making.tally.claims(),
    ]


def next_due(view: View, now: datetime) -> datetime | None:
    """When something that only waits for its time becomes due; None when nothing does."""
    times = [retry.not_before for execution in view.claimable for retry in execution.retries]
    times += [execution.due_at for execution in view.claimable if execution.due_at is not None]
    times += [build.not_before for build in view.builds if build.not_before is not None]
    times += [deadline.at for deadline in view.deadlines]
    return min((time for time in times if time > now), default=None)


def _time_outs(snapshot: Snapshot) -> list[Decision]:
    return [TimeOut(execution=one.execution) for one in snapshot.view.deadlines if one.at <= snapshot.now]


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


@dataclass(slots=True, kw_only=True)
class _Line:
    """What one execution still wants: due retries first, they have waited longest, then tasks without a row.

    ``room`` is what its own parallelism leaves. ``known``: the retries are all that there are, not a window.
    """

    execution: Claimable
    retries: deque[Retry]
    unclaimed: int
    room: int
    known: bool

    def empty(self) -> bool:
        return self.room <= 0 or not (self.retries or self.unclaimed)

    def wants(self, waiter: Waiter) -> bool:
        """Whether the waiter still waits, as far as is known."""
        if waiter.index is None:
            return self.unclaimed > 0
        return not self.known or any(retry.index == waiter.index for retry in self.retries)


class _Plan:
    """The claims of a plan in the making. ``overtaken``: whoever is to be remembered, with the node cleared for it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.builds: list[BuildClaim] = []
        self.tally = _Tally()
        self.overtaken: dict[Waiter, NodeId | None] = {}
        self._snapshot = snapshot
        self._rooms = Rooms(snapshot.nodes, snapshot.view.live)
        self._in_workspace: dict[str, int] = {}
        self._due: dict[int, PendingBuild] = {
            build.key: build
            for build in snapshot.view.builds
            if build.not_before is None or build.not_before <= snapshot.now
        }
        running: dict[int, int] = {}
        for attempt in snapshot.view.live:
            if attempt.attempt.kind is OwnerKind.TASK:
                running[attempt.attempt.owner] = running.get(attempt.attempt.owner, 0) + 1
                self._count(attempt.workspace)
        self._lines = {
            one.key: self._line(one, running.get(one.key, 0))
            for one in snapshot.view.claimable
            if not is_ahead(one.due_at, snapshot.now)
        }
        # whoever fitted nowhere at its turn, at most one of a workspace: overtaken once something else is served
        self._passed: list[Waiter] = []
        self._noted: set[str | None] = set()

    def favour(self) -> None:
        """Serve those that were overtaken before all others; clear a node for each that still fits nowhere."""
        for position, waiter in enumerate(self._snapshot.overtaken):
            favoured = position < self._snapshot.favoured
            if waiter.kind is OwnerKind.BUILD:
                self._favour_build(waiter, favoured=favoured)
            else:
                self._favour_task(waiter, favoured=favoured)

    def claim_builds(self) -> None:
        for build in self._due.values():
            waiter = Waiter(kind=OwnerKind.BUILD, owner=build.key)
            node = self._rooms.place(build.memory_mb, "", alone=False)
            if node is None:
                self._pass(waiter, None, build.memory_mb, "")
            else:
                self.builds.append(BuildClaim(build=build.key, node=node))
                self._served(waiter)

    def claim_tasks(self) -> None:
        """One task at a time, a turn each: workspaces in a ring, in each its jobs, in each its executions."""
        workspaces = self._rings()
        while workspaces and self._rooms.open():
            name, jobs = workspaces.popleft()
            if jobs and not self._capped(name):
                self._turn(jobs)
                workspaces.append((name, jobs))

    def _turn(self, jobs: "_Jobs") -> None:
        """A workspace's turn: it is that of its next job, or where nothing of that fits, of the one behind."""
        while jobs:
            job, lines = jobs.popleft()
            served = self._turn_of_job(lines)
            if lines:
                jobs.append((job, lines))
            if served:
                return

    def _turn_of_job(self, lines: deque[_Line]) -> bool:
        while lines:
            line = lines.popleft()
            if self._serve(line):
                if not line.empty():
                    lines.append(line)
                return True
        return False

    def _serve(self, line: _Line) -> bool:
        """Place the execution's next task; False when nothing of it fits anywhere now."""
        while line.retries:
            if self._try_retry(line, line.retries.popleft()):
                return True
        return line.unclaimed > 0 and self._try_new(line)

    def _try_retry(self, line: _Line, retry: Retry) -> bool:
        execution = line.execution
        waiter = Waiter(kind=OwnerKind.TASK, owner=execution.key, index=retry.index)
        node = self._rooms.place(execution.memory_mb, execution.region, alone=retry.alone)
        if node is None:
            self._pass(waiter, execution.workspace, execution.memory_mb, execution.region)
            return False
        self.tally.add(RetryClaim(execution=execution.key, index=retry.index, node=node, alone=retry.alone))
        self._take(line, waiter)
        return True

    def _try_new(self, line: _Line) -> bool:
        execution = line.execution
        waiter = Waiter(kind=OwnerKind.TASK, owner=execution.key)
        node = self._rooms.place(execution.memory_mb, execution.region, alone=False)
        if node is None:
            self._pass(waiter, execution.workspace, execution.memory_mb, execution.region)
            return False
        self.tally.add(TaskClaim(execution=execution.key, node=node))
        line.unclaimed -= 1
        self._take(line, waiter)
        return True

    def _take(self, line: _Line, waiter: Waiter) -> None:
        line.room -= 1
        self._count(line.execution.workspace)
        self._served(waiter)

    def _favour_build(self, waiter: Waiter, *, favoured: bool) -> None:
        build = self._due.get(waiter.owner)
        if build is None or not self._rooms.able(build.memory_mb, ""):
            return
        self.overtaken[waiter] = None
        if not favoured:
            return
        node = self._rooms.place(build.memory_mb, "", alone=False)
        if node is None:
            self.overtaken[waiter] = self._rooms.clear(build.memory_mb, "")
            del self._due[waiter.owner]
        else:
            self.builds.append(BuildClaim(build=build.key, node=node))
            del self._due[waiter.owner], self.overtaken[waiter]

    def _favour_task(self, waiter: Waiter, *, favoured: bool) -> None:
        line = self._lines.get(ExecutionKey(waiter.owner))
        if line is None or not line.wants(waiter):
            return
        if not self._rooms.able(line.execution.memory_mb, line.execution.region):
            return
        self.overtaken[waiter] = None
        self._noted.add(line.execution.workspace)
        if not favoured or line.room <= 0 or self._capped(line.execution.workspace):
            return
        if waiter.index is None:
            served = self._try_new(line)
        else:
            retry = next((retry for retry in line.retries if retry.index == waiter.index), None)
            if retry is None:
                return  # out of the window for now
            line.retries.remove(retry)
            served = self._try_retry(line, retry)
        if not served:
            self.overtaken[waiter] = self._rooms.clear(line.execution.memory_mb, line.execution.region)
            # its place under the caps is kept as well: its own kind would take it else
            line.room -= 1
            self._count(line.execution.workspace)

    def _pass(self, waiter: Waiter, workspace: str | None, memory_mb: int, region: str) -> None:
        """It had its turn and fits nowhere. Of a workspace only the first is noted: its turns come one by one."""
        if waiter in self.overtaken or not self._rooms.able(memory_mb, region):
            return
        if workspace is None or workspace not in self._noted:
            self._passed.append(waiter)
            self._noted.add(workspace)

    def _served(self, waiter: Waiter) -> None:
        """Whoever was passed over until now has been overtaken."""
        self.overtaken.pop(waiter, None)
        self.overtaken |= dict.fromkeys(self._passed)
        self._passed.clear()

    def _count(self, workspace: str) -> None:
        self._in_workspace[workspace] = self._in_workspace.get(workspace, 0) + 1

    def _capped(self, workspace: str) -> bool:
        cap = self._snapshot.view.task_caps.get(workspace)
        return cap is not None and self._in_workspace.get(workspace, 0) >= cap

    def _line(self, execution: Claimable, running: int) -> _Line:
        now = self._snapshot.now
        room = execution.parallelism - running
        return _Line(
            execution=execution,
            retries=deque(retry for retry in execution.retries if retry.not_before <= now),
            unclaimed=execution.unclaimed,
            room=room,
            known=len(execution.retries) < room,
        )

    def _rings(self) -> "deque[tuple[str, _Jobs]]":
        turns, now = self._snapshot.turns, self._snapshot.now
        found: dict[str, dict[int, deque[_Line]]] = {}
        # a time that is yet to come is of before the clock was set back: how long it waits is unknown, so it is first
        for line in sorted(
            self._lines.values(),
            key=lambda one: (one.execution.served_at <= now, one.execution.served_at, one.execution.key),
        ):
            if not line.empty():
                jobs = found.setdefault(line.execution.workspace, {})
                jobs.setdefault(line.execution.job, deque()).append(line)
        names = sorted(found, key=lambda name: (turns.get(("workspace", name), 0), name))
        return deque(
            (name, deque(sorted(found[name].items(), key=lambda item: (turns.get(("job", item[0]), 0), item[0]))))
            for name in names
        )


_Jobs = deque[tuple[int, deque[_Line]]]


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
