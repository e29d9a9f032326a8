"""What a case of the engine suite works with: an engine, one node, and a way to let time pass."""

import json
import zlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, Protocol

from tidemill.engine.protocol import Engine
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import Event, EventBatch, EventKind, Lease, LogBlock, Outcome, Position

GRACE_S: Final = 5.0
PRINTED: Final = ("one", "two")
RESULT: Final = '{"score": 1}'
EXIT_CODE: Final = 3


class Does(StrEnum):
    """What the process of a lease does."""

    SUCCEED = "succeed"
    FAIL = "fail"
    """Exits with 3."""
    SLEEP = "sleep"
    """Far longer than a case; ends at once on SIGTERM."""
    STUBBORN = "stubborn"
    """The same, but only SIGKILL ends it."""
    TIME_OUT = "time_out"
    """Sleeps, with a timeout of a second or less."""
    PRINT = "print"
    """Prints ``PRINTED``, a line each, and succeeds."""
    RESULT = "result"
    """Leaves ``RESULT`` as its result and succeeds."""


class Harness(Protocol):
    """An engine with one node of two slots, and what a case needs around it."""

    @property
    def engine(self) -> Engine:
        """The engine; the same over ``crash``."""
        ...

    @property
    def node(self) -> NodeId: ...

    @property
    def ttl_s(self) -> float | None:
        """A time to live that is short, but longer than a few calls take; None where the node knows of none."""
        ...

    def lease(self, attempt: AttemptId, does: Does, ttl_s: float | None = None) -> Lease:
        """A lease that half of the node's memory is enough for."""
        ...

    def is_alive(self, attempt: AttemptId) -> bool:
        """Whether a process of an attempt that sleeps (SLEEP, STUBBORN, TIME_OUT) is alive, whatever the node says."""
        ...

    def crash(self) -> None:
        """Kill the node, and return when it is back."""
        ...

    def until(self, ready: Callable[[], bool]) -> None:
        """Let time pass until ``ready``; raises AssertionError when that takes too long."""
        ...


Case = Callable[[Harness], None]


class Reader:
    """Reads events like the scheduler, but acknowledges only when told."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.position = Position()
        self.batch = EventBatch(incarnation="", events=())

    def read(self) -> EventBatch:
        self.batch = self._harness.engine.events(self._harness.node, self.position, 0)
        return self.batch

    def acknowledge(self) -> None:
        if self.batch.events:
            self.position = Position(incarnation=self.batch.incarnation, number=self.batch.events[-1].number)

    def kinds_of(self, attempt: AttemptId) -> list[EventKind]:
        """What the last batch says of an attempt, in order."""
        return [event.kind for event in self.batch.events if event.attempt == attempt]

    def end_of(self, attempt: AttemptId) -> Event | None:
        found = [event for event in self.batch.events if event.attempt == attempt and event.kind is EventKind.ENDED]
        return found[0] if found else None

    def wait_for(self, attempt: AttemptId) -> Event:
        """The attempt's end, once it shows; nothing is acknowledged."""
        self._harness.until(lambda: self.read() is not None and self.end_of(attempt) is not None)
        end = self.end_of(attempt)
        assert end is not None
        return end

    def outcome_of(self, attempt: AttemptId) -> Outcome:
        """The same; how it ended."""
        outcome = self.wait_for(attempt).outcome
        assert outcome is not None
        return outcome

    def wait_for_start(self, *attempts: AttemptId) -> None:
        for attempt in attempts:
            self._harness.until(lambda: self.read() is not None and EventKind.STARTED in self.kinds_of(attempt))  # noqa: B023 - used up before the next turn


def an_attempt(owner: int, index: int = 0, number: int = 1) -> AttemptId:
    """An attempt of a task."""
    return AttemptId(OwnerKind.TASK, owner, index, number)


def lines_of(blocks: Iterable[LogBlock]) -> list[list[object]]:
    """The lines of blocks, in order: index, attempt, stream, time, severity, text."""
    return [json.loads(line) for block in blocks for line in zlib.decompress(block.data).decode().splitlines() if line]
