"""An engine with a script instead of machines: deterministic, driven by the clock it is given.

For tests, simulations and authors of engines. It keeps the contract of ``protocol.Engine`` and can break, on demand,
everything that the contract allows to break: calls that get lost before or after their effect, launches that arrive
late, batches that come twice, nodes that die and come back.
"""

import heapq
import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import (
    Acknowledgement,
    Event,
    EventBatch,
    EventKind,
    Inventory,
    Lease,
    LogBatch,
    LogBlock,
    NodeInfo,
    Outcome,
    OutcomeKind,
    Position,
    Refusal,
)

MAX_EVENTS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """How an attempt goes: it runs for ``seconds``, writes ``output`` (lines) and ends as ``kind``.

    Asked to end, it takes ``dies_after`` seconds (never longer than its grace).
    """

    seconds: float = 0.0
    kind: OutcomeKind = OutcomeKind.SUCCEEDED
    exit_code: int | None = None
    signal: int | None = None
    result: str | None = None
    message: str = ""
    output: tuple[str, ...] = ()
    dies_after: float = 0.0


Script = Callable[[Lease], Play]


class Fault(StrEnum):
    """What happens to a call: it never arrives, its answer gets lost, or it arrives when ``deliver`` is called."""

    LOST = "lost"
    ANSWER_LOST = "answer_lost"
    LATE = "late"


class FakeEngine:
    """Nodes that run a script. Safe to call from several threads; ``pause`` is what waiting for events means."""

    def __init__(
        self,
        nodes: Iterable[NodeInfo],
        script: Script,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._pause = pause
        self._script = script
        self._nodes = {info.id: _Node(info, script, clock()) for info in nodes}
        self._down: set[NodeId] = set()
        self._faults: dict[str, deque[Fault]] = {}
        self._late: list[tuple[NodeId, Sequence[Lease], int]] = []
        self._repeat: set[NodeId] = set()

    # the protocol

    def nodes(self) -> Sequence[NodeInfo]:
        with self._lock:
            self._fault("nodes")
            return [node.info for key, node in self._nodes.items() if key not in self._down]

    def launch(self, node: NodeId, leases: Sequence[Lease], term: int) -> Sequence[Acknowledgement]:
        with self._lock:
            faults = self._faults.get("launch")
            if faults and faults[0] is Fault.LATE:
                faults.popleft()
                self._late.append((node, tuple(leases), term))
                raise EngineUnavailable(f"node {node} does not answer")
            found = self._node(node, "launch", term)
            answers = found.launch(leases)
            self._answer("launch")
            return answers

    def events(self, node: NodeId, after: Position, wait_s: float) -> EventBatch:
        with self._lock:
            found = self._node(node, "events")
            if node in self._repeat:
                self._repeat.discard(node)
                return found.shown
            batch = found.events(after)
            self._answer("events")
        if not batch.events and wait_s > 0:
            self._pause(wait_s)
            with self._lock:
                return self._node(node, "events").events(after)
        return batch

    def logs(self, node: NodeId, after: Position, max_bytes: int) -> LogBatch:
        with self._lock:
            batch = self._node(node, "logs").logs(after, max_bytes)
            self._answer("logs")
            return batch

    def renew(self, node: NodeId, attempts: Sequence[AttemptId], ttl_s: float, term: int) -> None:  # noqa: ARG002
        with self._lock:
            self._node(node, "renew", term)

    def cancel(self, node: NodeId, attempts: Sequence[AttemptId], grace_s: float, term: int) -> None:
        with self._lock:
            self._node(node, "cancel", term).cancel(attempts, grace_s)
            self._answer("cancel")

    def withdraw(self, node: NodeId, attempts: Sequence[AttemptId], term: int) -> Sequence[AttemptId]:
        with self._lock:
            gone = self._node(node, "withdraw", term).withdraw(attempts)
            self._answer("withdraw")
            return gone

    def inventory(self, node: NodeId) -> Inventory:
        with self._lock:
            return self._node(node, "inventory").inventory()

    def close(self, *, stop_tasks: bool) -> None:
        with self._lock:
            for node in self._nodes.values():
                if stop_tasks:
                    node.restart(self._clock(), planned=True)

    # what goes wrong

    def fail(self, method: str, fault: Fault, times: int = 1) -> None:
        """The next ``times`` calls of ``method`` go wrong like this (LATE: only ``launch``)."""
        with self._lock:
            self._faults.setdefault(method, deque()).extend([fault] * times)

    def mend_calls(self) -> None:
        """No call goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def deliver(self) -> None:
        """Launches that were late arrive now, however much has happened since."""
        with self._lock:
            late, self._late = self._late, []
            for node, leases, term in late:
                if term >= self._nodes[node].term:
                    self._nodes[node].launch(leases, self._clock())

    def repeat(self, node: NodeId) -> None:
        """The next question for events gets the same answer as the last one."""
        with self._lock:
            self._repeat.add(node)

    def cut(self, node: NodeId) -> None:
        """The node goes on, but nobody reaches it."""
        with self._lock:
            self._down.add(node)

    def mend(self, node: NodeId) -> None:
        with self._lock:
            self._down.discard(node)

    def crash(self, node: NodeId) -> None:
        """The node dies with all that runs on it, and comes back as a new incarnation with its journal."""
        with self._lock:
            self._nodes[node].restart(self._clock(), planned=False)

    def refuse(self, node: NodeId, *, closing: bool) -> None:
        """While ``closing``, the node takes no leases."""
        with self._lock:
            self._nodes[node].closing = closing

    # what a test may look at

    def running(self, node: NodeId) -> frozenset[AttemptId]:
        """The attempts that a process runs for right now."""
        with self._lock:
            self._nodes[node].advance(self._clock())
            return frozenset(self._nodes[node].runs)

    def starts(self) -> Mapping[AttemptId, int]:
        """How often each attempt was started, over all incarnations."""
        with self._lock:
            total: dict[AttemptId, int] = {}
            for node in self._nodes.values():
                for attempt, times in node.starts.items():
                    total[attempt] = total.get(attempt, 0) + times
            return total

    def next_end(self) -> float | None:
        """When the next process ends by itself; None when none runs."""
        with self._lock:
            return min((run.ends_at for node in self._nodes.values() for run in node.runs.values()), default=None)

    def _fault(self, method: str) -> None:
        """Before the effect of a call."""
        waiting = self._faults.get(method)
        if waiting and waiting[0] is Fault.LOST:
            waiting.popleft()
            raise EngineUnavailable(f"the call of {method} was lost")

    def _answer(self, method: str) -> None:
        """After the effect of a call."""
        waiting = self._faults.get(method)
        if waiting and waiting[0] is Fault.ANSWER_LOST:
            waiting.popleft()
            raise EngineUnavailable(f"the answer of {method} was lost")

    def _node(self, node: NodeId, method: str, term: int | None = None) -> "_Node":
        if node in self._down or node not in self._nodes:
            raise EngineUnavailable(f"node {node} does not answer")
        self._fault(method)
        found = self._nodes[node]
        found.advance(self._clock())
        if term is not None:
            if term < found.term:
                raise StaleTerm(f"node {node} has seen term {found.term}; {term} is older")
            found.term = term
        return found


@dataclass(slots=True, kw_only=True)
class _Run:
    play: Play
    lease: Lease
    started_at: float
    ends_at: float
    killed: bool = False


@dataclass(slots=True)
class _Node:
    """One node and its journal."""

    info: NodeInfo
    script: Script
    now: float
    term: int = 0
    closing: bool = False
    queue: deque[Lease] = field(default_factory=deque)
    runs: dict[AttemptId, _Run] = field(default_factory=dict)
    ends: list[tuple[float, AttemptId]] = field(default_factory=list)
    unread: deque[Event] = field(default_factory=deque)
    blocks: deque[LogBlock] = field(default_factory=deque)
    starts: dict[AttemptId, int] = field(default_factory=dict)
    shown: EventBatch = field(default_factory=lambda: EventBatch(incarnation="", events=()))
    number: int = 0
    block_number: int = 0
    blocks_made: int = 0
    lives: int = 1

    def advance(self, now: float) -> None:
        """Let time pass up to ``now``: what is due ends, what waits starts in its place."""
        self._fill()
        while self.ends and self.ends[0][0] <= now:
            due, attempt = heapq.heappop(self.ends)
            run = self.runs.get(attempt)
            if run is None or run.ends_at != due:
                continue  # it was killed before
            self.now = max(self.now, run.ends_at)
            del self.runs[attempt]
            self._end(attempt, run)
            self._fill()
        self.now = max(self.now, now)

    def launch(self, leases: Sequence[Lease], now: float | None = None) -> list[Acknowledgement]:
        if now is not None:
            self.advance(now)
        if self.closing:
            return [Acknowledgement(attempt=lease.attempt, refused=Refusal.CLOSING) for lease in leases]
        known = self.inventory().attempts
        for lease in leases:
            if lease.attempt not in known:
                self.queue.append(lease)
        self.advance(self.now)
        return [Acknowledgement(attempt=lease.attempt) for lease in leases]

    def events(self, after: Position) -> EventBatch:
        number = after.number if after.incarnation == self.info.incarnation else 0
        while self.unread and self.unread[0].number <= number:
            self.unread.popleft()
        shown = tuple(self.unread)[:MAX_EVENTS]
        head = self.blocks[-1].number if self.blocks else 0
        self.shown = EventBatch(incarnation=self.info.incarnation, events=shown, log_head=head)
        return self.shown

    def logs(self, after: Position, max_bytes: int) -> LogBatch:
        number = after.number if after.incarnation == self.info.incarnation else 0
        while self.blocks and self.blocks[0].number <= number:
            self.blocks.popleft()
        shown: list[LogBlock] = []
        size = 0
        for block in self.blocks:
            size += len(block.data)
            if shown and size > max_bytes:
                break
            shown.append(block)
        return LogBatch(incarnation=self.info.incarnation, blocks=tuple(shown))

    def cancel(self, attempts: Sequence[AttemptId], grace_s: float) -> None:
        for attempt in attempts:
            run = self.runs.get(attempt)
            if run is not None and not run.killed:
                run.killed = True
                run.ends_at = min(run.ends_at, self.now + min(run.play.dies_after, grace_s))
                heapq.heappush(self.ends, (run.ends_at, attempt))
        for attempt in self.withdraw(attempts):
            self._note(attempt, self._outcome(OutcomeKind.CANCELLED, "cancelled before it started"))
        self.advance(self.now)

    def withdraw(self, attempts: Sequence[AttemptId]) -> list[AttemptId]:
        wanted = set(attempts)
        gone = [lease.attempt for lease in self.queue if lease.attempt in wanted]
        self.queue = deque(lease for lease in self.queue if lease.attempt not in wanted)
        return gone

    def inventory(self) -> Inventory:
        ended = {event.attempt for event in self.unread if event.kind is EventKind.ENDED}
        queued = {lease.attempt for lease in self.queue}
        return Inventory(incarnation=self.info.incarnation, attempts=frozenset(ended | queued | set(self.runs)))

    def restart(self, now: float, *, planned: bool) -> None:
        """A new incarnation: outcomes not acknowledged yet come first, then what was reaped; what waited is gone."""
        self.advance(now)
        ended = [event for event in self.unread if event.kind is EventKind.ENDED]
        reaped = sorted(self.runs)
        self.lives += 1
        self.info = replace(self.info, incarnation=f"{self.info.id}-{self.lives}")
        self.queue.clear()
        self.runs.clear()
        self.ends.clear()
        self.unread.clear()
        self.number = 0
        for event in ended:
            self._note(event.attempt, event.outcome)
        for attempt in reaped:
            lost = self._outcome(OutcomeKind.LOST, "its node was stopped" if planned else "its node died")
            self._note(attempt, replace(lost, planned=planned))
        self.block_number = 0
        kept, self.blocks = list(self.blocks), deque()
        for block in kept:
            self.block_number += 1
            self.blocks.append(replace(block, number=self.block_number))

    def _fill(self) -> None:
        while self.queue and len(self.runs) < self.info.slots:
            lease = self.queue.popleft()
            play = self.script(lease)
            self.starts[lease.attempt] = self.starts.get(lease.attempt, 0) + 1
            self.runs[lease.attempt] = _Run(
                play=play, lease=lease, started_at=self.now, ends_at=self.now + min(play.seconds, lease.timeout_s)
            )
            heapq.heappush(self.ends, (self.runs[lease.attempt].ends_at, lease.attempt))
            self.number += 1
            self.unread.append(Event(number=self.number, attempt=lease.attempt, kind=EventKind.STARTED, at=self.now))

    def _end(self, attempt: AttemptId, run: _Run) -> None:
        play = run.play
        outcome = Outcome(
            kind=play.kind,
            exit_code=play.exit_code,
            signal=play.signal,
            message=play.message,
            started_at=run.started_at,
            ended_at=self.now,
            result=play.result,
        )
        if run.killed:
            outcome = self._outcome(OutcomeKind.CANCELLED, "ended on request", run.started_at)
        elif play.seconds > run.lease.timeout_s:
            outcome = self._outcome(OutcomeKind.TIMED_OUT, f"over {run.lease.timeout_s:g} s", run.started_at)
        if play.output:
            self._block(attempt, run)
        self._note(attempt, outcome)

    def _outcome(self, kind: OutcomeKind, message: str, started_at: float | None = None) -> Outcome:
        return Outcome(kind=kind, message=message, started_at=started_at, ended_at=self.now)

    def _note(self, attempt: AttemptId, outcome: Outcome | None) -> None:
        self.number += 1
        self.unread.append(
            Event(number=self.number, attempt=attempt, kind=EventKind.ENDED, at=self.now, outcome=outcome)
        )

    def _block(self, attempt: AttemptId, run: _Run) -> None:
        self.block_number += 1
        self.blocks_made += 1
        lines = [
            [attempt.index, attempt.number, "stdout", round(self.now * 1e9), "INFO", text] for text in run.play.output
        ]
        self.blocks.append(
            LogBlock(
                number=self.block_number,
                block_id=f"{self.info.id}-{self.blocks_made}",
                log_key=run.lease.log_key,
                kind=attempt.kind.value,
                owner=attempt.owner,
                first_index=attempt.index,
                last_index=attempt.index,
                first_at=self.now,
                last_at=self.now,
                lines={"INFO": len(lines)},
                data=zlib.compress("\n".join(map(json.dumps, lines)).encode()),
            )
        )
