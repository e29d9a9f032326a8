"""One node of the fake engine: its queue, its processes as a script plays them, its leases and its journal."""

import heapq
import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tidemill.model.errors import StaleTerm
from tidemill.model.ids import AttemptId
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
_MESSAGES: Final = {
    OutcomeKind.CANCELLED: "cancelled while it ran",
    OutcomeKind.LOST: "its lease expired: the node heard nothing for too long",
}


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


@dataclass(slots=True, kw_only=True)
class _Run:
    """A process. ``stopped`` is what it ends as because the node has told it to."""

    play: Play
    lease: Lease
    started_at: float
    ends_at: float
    stopped: OutcomeKind | None = None


@dataclass(slots=True)
class FakeNode:
    """Lives in steady time: ``now`` is what it has lived through, ``ahead`` how far its wall clock is before that.

    Nothing happens but by ``advance``; while ``frozen``, not even then: processes go on, and nobody sees to them.
    """

    info: NodeInfo
    script: Script
    now: float
    ahead: float = 0.0
    term: int = 0
    closing: bool = False
    frozen: bool = False
    queue: deque[Lease] = field(default_factory=deque)
    runs: dict[AttemptId, _Run] = field(default_factory=dict)
    ends: list[tuple[float, AttemptId]] = field(default_factory=list)
    expires_at: dict[AttemptId, float] = field(default_factory=dict)
    expiries: list[tuple[float, AttemptId]] = field(default_factory=list)
    unread: deque[Event] = field(default_factory=deque)
    blocks: deque[LogBlock] = field(default_factory=deque)
    starts: dict[AttemptId, int] = field(default_factory=dict)
    shown: EventBatch = field(default_factory=lambda: EventBatch(incarnation="", events=()))
    shown_logs: LogBatch = field(default_factory=lambda: LogBatch(incarnation="", blocks=()))
    number: int = 0
    block_number: int = 0
    blocks_made: int = 0
    lives: int = 1

    def advance(self, now: float) -> None:
        """Let time pass up to ``now``: what is due ends or expires, what waits starts in its place."""
        if self.frozen:
            return
        self._fill()
        while (due := self._next_due()) is not None and due <= now:
            self.now = max(self.now, due)
            # in this order: after a freeze all of it is due, and what has expired is not to start, nor to count
            self._expire()
            self._end_due()
            self._fill()
        self.now = max(self.now, now)

    def thaw(self, now: float) -> None:
        """Go on after a time in which nothing was seen to: what has expired meanwhile is killed first."""
        self.frozen = False
        self.now = max(self.now, now)
        self.advance(now)

    def alive(self, now: float) -> frozenset[AttemptId]:
        """The attempts that a process runs for at ``now``."""
        self.advance(now)
        return frozenset(attempt for attempt, run in self.runs.items() if run.ends_at > now or not self.frozen)

    def next_due(self) -> float | None:
        """When a process ends or a lease expires, if nobody does anything; None when nothing is going to."""
        return None if self.frozen else self._next_due()

    def check_term(self, term: int) -> None:
        """Raises StaleTerm for one older than the highest seen."""
        if term < self.term:
            raise StaleTerm(f"node {self.info.id} has seen term {self.term}; {term} is older")
        self.term = term

    def launch(self, leases: Sequence[Lease]) -> list[Acknowledgement]:
        known = set(self.inventory().attempts)
        answers = []
        for lease in leases:
            refused = Refusal.CLOSING if self.closing and lease.attempt not in known else None
            answers.append(Acknowledgement(attempt=lease.attempt, refused=refused))
            if refused is None and lease.attempt not in known:
                known.add(lease.attempt)
                self.queue.append(lease)
                self._expire_after(lease.attempt, lease.ttl_s)
            elif lease.attempt in self.expires_at:
                self._expire_after(lease.attempt, lease.ttl_s)
        self.advance(self.now)
        return answers

    def renew(self, attempts: Sequence[AttemptId], ttl_s: float) -> None:
        for attempt in attempts:
            if attempt in self.expires_at:
                self._expire_after(attempt, ttl_s)

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
        self.shown_logs = LogBatch(incarnation=self.info.incarnation, blocks=tuple(shown))
        return self.shown_logs

    def cancel(self, attempts: Sequence[AttemptId], grace_s: float) -> None:
        for attempt in attempts:
            if attempt in self.runs:
                self._stop(attempt, OutcomeKind.CANCELLED, grace_s)
        for attempt in self.withdraw(attempts):
            self._note(attempt, self._outcome(OutcomeKind.CANCELLED, "cancelled before it started"))
        self.advance(self.now)

    def withdraw(self, attempts: Sequence[AttemptId]) -> list[AttemptId]:
        wanted = set(attempts)
        gone = [lease.attempt for lease in self.queue if lease.attempt in wanted]
        self.queue = deque(lease for lease in self.queue if lease.attempt not in wanted)
        for attempt in gone:
            self.expires_at.pop(attempt, None)
        return gone

    def inventory(self) -> Inventory:
        ended = {event.attempt for event in self.unread if event.kind is EventKind.ENDED}
        queued = {lease.attempt for lease in self.queue}
        return Inventory(incarnation=self.info.incarnation, attempts=frozenset(ended | queued | set(self.runs)))

    def restart(self, now: float, *, planned: bool) -> None:
        """A new incarnation: outcomes not acknowledged yet come first, then what was reaped; what waited is gone."""
        self.advance(now)
        self.frozen, self.now = False, max(self.now, now)
        ended = [event for event in self.unread if event.kind is EventKind.ENDED]
        reaped = sorted(self.runs)
        self.lives += 1
        self.info = replace(self.info, incarnation=f"{self.info.id}-{self.lives}")
        for kept in (self.queue, self.runs, self.ends, self.expires_at, self.expiries, self.unread):
            kept.clear()
        self.number = 0
        for event in ended:
            self._note(event.attempt, event.outcome)
        for attempt in reaped:
            lost = self._outcome(OutcomeKind.LOST, "its node was stopped" if planned else "its node died")
            self._note(attempt, replace(lost, planned=planned))
        self.block_number = 0
        waiting, self.blocks = list(self.blocks), deque()
        for block in waiting:
            self.block_number += 1
            self.blocks.append(replace(block, number=self.block_number))

    def _next_due(self) -> float | None:
        while self.ends and not self._is_end(*self.ends[0]):
            heapq.heappop(self.ends)
        while self.expiries and self.expires_at.get(self.expiries[0][1]) != self.expiries[0][0]:
            heapq.heappop(self.expiries)
        return min((heap[0][0] for heap in (self.ends, self.expiries) if heap), default=None)

    def _is_end(self, due: float, attempt: AttemptId) -> bool:
        """Not of a process that has ended before, or is going to."""
        return attempt in self.runs and self.runs[attempt].ends_at == due

    def _expire(self) -> None:
        """SIGTERM to what has expired, and SIGKILL when its grace is over: counted from its expiry."""
        while self._next_due() is not None and self.expiries and self.expiries[0][0] <= self.now:
            due, attempt = heapq.heappop(self.expiries)
            del self.expires_at[attempt]
            if attempt in self.runs:
                left_s = due + self.runs[attempt].lease.grace_s - self.now
                self._stop(attempt, OutcomeKind.LOST, max(0.0, left_s))
            else:
                self.withdraw([attempt])

    def _expire_after(self, attempt: AttemptId, ttl_s: float | None) -> None:
        if ttl_s is None:
            return
        self.expires_at[attempt] = self.now + ttl_s
        heapq.heappush(self.expiries, (self.now + ttl_s, attempt))

    def _stop(self, attempt: AttemptId, ends_as: OutcomeKind, grace_s: float) -> None:
        """The first reason counts, the shortest grace too."""
        run = self.runs[attempt]
        run.stopped = run.stopped or ends_as
        run.ends_at = min(run.ends_at, self.now + min(run.play.dies_after, grace_s))
        heapq.heappush(self.ends, (run.ends_at, attempt))

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
            self.unread.append(
                Event(number=self.number, attempt=lease.attempt, kind=EventKind.STARTED, at=self._wall(self.now))
            )

    def _end_due(self) -> None:
        while self._next_due() is not None and self.ends and self.ends[0][0] <= self.now:
            _, attempt = heapq.heappop(self.ends)
            self.expires_at.pop(attempt, None)
            self._end(attempt, self.runs.pop(attempt))

    def _end(self, attempt: AttemptId, run: _Run) -> None:
        play = run.play
        outcome = Outcome(
            kind=play.kind,
            exit_code=play.exit_code,
            signal=play.signal,
            message=play.message,
            started_at=self._wall(run.started_at),
            ended_at=self._wall(self.now),
            result=play.result,
        )
        if run.stopped is not None:
            outcome = self._outcome(run.stopped, _MESSAGES[run.stopped], run.started_at)
        elif play.seconds > run.lease.timeout_s:
            outcome = self._outcome(OutcomeKind.TIMED_OUT, f"over {run.lease.timeout_s:g} s", run.started_at)
        if play.output:
            self._block(attempt, run)
        self._note(attempt, outcome)

    def _outcome(self, kind: OutcomeKind, message: str, started_at: float | None = None) -> Outcome:
        began = None if started_at is None else self._wall(started_at)
        return Outcome(kind=kind, message=message, started_at=began, ended_at=self._wall(self.now))

    def _note(self, attempt: AttemptId, outcome: Outcome | None) -> None:
        self.number += 1
        self.unread.append(
            Event(number=self.number, attempt=attempt, kind=EventKind.ENDED, at=self._wall(self.now), outcome=outcome)
        )

    def _block(self, attempt: AttemptId, run: _Run) -> None:
        self.block_number += 1
        self.blocks_made += 1
        at = self._wall(self.now)
        lines = [[attempt.index, attempt.number, "stdout", round(at * 1e9), "INFO", text] for text in run.play.output]
        self.blocks.append(
            LogBlock(
                number=self.block_number,
                block_id=f"{self.info.id}-{self.blocks_made}",
                log_key=run.lease.log_key,
                kind=attempt.kind.value,
                owner=attempt.owner,
                first_index=attempt.index,
                last_index=attempt.index,
                first_at=at,
                last_at=at,
                lines={"INFO": len(lines)},
                data=zlib.compress("\n".join(map(json.dumps, lines)).encode()),
            )
        )

    def _wall(self, at: float) -> float:
        return at + self.ahead
