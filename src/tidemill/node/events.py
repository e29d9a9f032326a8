"""What a node reports: starts and ends of attempts, journaled first, shown then, kept until acknowledged."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidemill.model.ids import AttemptId
from tidemill.model.lease import Event, EventBatch, EventKind, Outcome
from tidemill.node.journal import Ending, Journal, Running, save_result
from tidemill.node.loop import Loop
from tidemill.node.worker import Worker

INLINE_RESULT_BYTES: Final = 4 << 10
BATCH_EVENTS: Final = 2000
BATCH_RESULT_BYTES: Final = 8 << 20
# how often the journal is synced while no server is there to be told
QUIET_SYNC_S: Final = 1.0
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Noted:
    """An event; ``file`` holds its outcome's result when that is long."""

    event: Event
    file: str | None = None


class Events:
    """Numbers events from 1 and shows them in order, each after the disk has it.

    One fsync serves all events that were noted while the one before was under way.
    """

    def __init__(self, loop: Loop, journal: Journal, disk: Worker, results: Path) -> None:
        """``results`` is the folder of long results. ``on_shown`` is called when there are new events to read."""
        self._loop = loop
        self._journal = journal
        self._disk = disk
        self._results = results
        self._noted: deque[_Noted] = deque()
        self._number = 0
        self._shown = 0
        self._acknowledged = 0
        self._syncing = False
        self._retrying = False
        self._quiet_sync_due = False
        self.heard = False
        """Whether a server is connected."""
        self.on_shown: Callable[[], None] = lambda: None
        loop.at_turn_end(self.flush)

    def replay(self, endings: Sequence[Ending]) -> None:
        """The first events of this incarnation, which its journal was begun with."""
        for ending in endings:
            self._number += 1
            self._note(EventKind.ENDED, ending, ending.outcome.ended_at)
        self._shown = self._number

    def starting(self, attempts: Sequence[AttemptId]) -> None:
        """Journal that these may have started from now on. Raises OSError when there is no room; then they must not."""
        for attempt in attempts:
            self._journal.starting(attempt)
        self._journal.write()

    def started(self, attempt: AttemptId, leader: Running) -> None:
        self._journal.running(attempt, leader)
        self._number += 1
        event = Event(
            number=self._number,
            attempt=attempt,
            kind=EventKind.STARTED,
            at=self._loop.now,
            protections=leader.protections,
        )
        self._noted.append(_Noted(event))

    def ended(self, attempt: AttemptId, outcome: Outcome) -> None:
        """Note an end. A long result is brought to the disk first: a full disk delays the event, and loses nothing."""
        result = outcome.result
        if result is None or len(result) <= INLINE_RESULT_BYTES:
            self._end(Ending(attempt, outcome))
            return
        name = str(attempt).replace("/", "-")

        def saved(error: Exception | None) -> None:
            if error is None:
                self._end(Ending(attempt, replace(outcome, result=None), name))
                return
            log.error("the result of %s cannot be kept yet: %s", attempt, error)
            self._loop.call_later(RETRY_S, lambda: self.ended(attempt, outcome))

        self._disk.submit(lambda: save_result(self._results, name, result), saved)

    def flush(self) -> None:
        """Write what was noted in this turn, and have it synced."""
        if self._retrying or not self._write():
            return
        if self._shown == self._number or self._syncing:
            return
        if self.heard:
            self._sync()
        elif not self._quiet_sync_due:
            self._quiet_sync_due = True
            self._loop.call_later(QUIET_SYNC_S, self._quiet_sync)

    def read(self, after: int) -> tuple[Event, ...]:
        """Events numbered above ``after``, in order, with their results; a part of them when there are many."""
        found: list[Event] = []
        room = BATCH_RESULT_BYTES
        for noted in self._noted:
            if noted.event.number > self._shown or len(found) >= BATCH_EVENTS or room < 0:
                break
            if noted.event.number > after:
                event = self._complete(noted)
                if event.outcome is not None and event.outcome.result is not None:
                    room -= len(event.outcome.result)
                found.append(event)
        return tuple(found)

    def acknowledge(self, number: int) -> list[AttemptId]:
        """Forget all events up to ``number``; returns the attempts whose ends are among them."""
        number = min(number, self._shown)
        if number <= self._acknowledged:
            return []
        self._acknowledged = number
        while self._noted and self._noted[0].event.number <= number:
            self._noted.popleft()
        endings = self._journal.done(number)
        for ending in endings:
            if ending.file is not None:
                (self._results / ending.file).unlink(missing_ok=True)
        return [ending.attempt for ending in endings]

    def batch(self, incarnation: str, after: int, log_head: int) -> EventBatch:
        return EventBatch(incarnation=incarnation, events=self.read(after), log_head=log_head)

    def close(self) -> None:
        """Bring everything to the disk."""
        with suppress(OSError):
            self._journal.write()
            self._journal.sync()

    def _end(self, ending: Ending) -> None:
        self._number += 1
        self._journal.ended(self._number, ending)
        self._note(EventKind.ENDED, ending, ending.outcome.ended_at)

    def _note(self, kind: EventKind, ending: Ending, at: float) -> None:
        event = Event(number=self._number, attempt=ending.attempt, kind=kind, at=at, outcome=ending.outcome)
        self._noted.append(_Noted(event, ending.file))

    def _complete(self, noted: _Noted) -> Event:
        outcome = noted.event.outcome
        if noted.file is None or outcome is None:
            return noted.event
        try:
            text = (self._results / noted.file).read_text()
        except OSError as error:
            lost = f"the result was kept but cannot be read: {error.strerror}"
            return replace(noted.event, outcome=replace(outcome, result_error=lost))
        return replace(noted.event, outcome=replace(outcome, result=text))

    def _write(self) -> bool:
        try:
            self._journal.write()
        except OSError as error:
            log.error("the journal cannot be written: %s", error)  # noqa: TRY400  # the reason is all there is
            self._retrying = True
            self._loop.call_later(RETRY_S, self._retry)
            return False
        if not self._syncing:
            self._journal.compact_if_worth_it()
        return True

    def _retry(self) -> None:
        self._retrying = False

    def _quiet_sync(self) -> None:
        self._quiet_sync_due = False
        if not self._syncing and self._shown < self._number:
            self._sync()

    def _sync(self) -> None:
        self._syncing = True
        upto = self._number
        self._disk.submit(self._journal.sync, lambda error: self._synced(upto, error))

    def _synced(self, upto: int, error: Exception | None) -> None:
        self._syncing = False
        if error is not None:
            log.error("the journal cannot be synced: %s", error)
            return
        self._shown = upto
        self.on_shown()
