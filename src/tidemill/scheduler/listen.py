"""Hearing what nodes report: one thread per node asks, the scheduler's thread takes."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import NodeId
from tidemill.model.lease import EventBatch, EventKind, Position
from tidemill.scheduler.pace import gather_s
from tidemill.scheduler.parts import Handed, Parts
from tidemill.store import nodes

_AGAIN_S = 0.02


class Inbox:
    """Batches that wait for the scheduler's thread. Closed, it takes none: what it refuses is read again some day."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[Handed] = deque()
        self._closed = False

    def put(self, handed: Handed) -> None:
        """Hand a batch over and wake the scheduler."""
        with self._lock:
            if self._closed:
                handed.done.set()
                return
            self._waiting.append(handed)
        self._wake()

    def take(self) -> Handed | None:
        """The batch that has waited longest."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Refuse what comes from now on; what waits can still be taken."""
        with self._lock:
            self._closed = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Hears:
    """Who hears of what: the scheduler's ``inbox`` of events, ``on_logs`` of log blocks.

    ``live`` is how many attempts the node held when the scheduler last looked.
    """

    inbox: Inbox
    on_logs: Callable[[NodeId], None]
    live: Callable[[], int]


class Listener:
    """Asks one node for events until it is stopped.

    It asks again only when the batch before is committed, and acknowledges it by that: meanwhile the next one grows.
    """

    def __init__(self, parts: Parts, node: NodeId, hears: Hears) -> None:
        self._parts = parts
        self._node = node
        self._hears = hears
        self._heard_at = parts.steady()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tidemill-listen-{node}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. ``join`` waits for the answer to the question that is under way."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        source = f"events of {self._node}"
        position: Position | None = None
        while not self._stop.is_set():
            try:
                if position is None:
                    position = self._parts.database.read(
                        lambda connection: nodes.read_up_to(connection, self._node)
                    ).events
                batch = self._parts.engine.events(self._node, position, self._parts.policy.poll_s)
                self._parts.problems.clear(source)
                position = self._hand_over(batch, position)
            except EngineUnavailable as error:
                self._parts.problems.report(source, error.message)
                self._stop.wait(self._parts.policy.look_every_s)
            except Exception as error:  # noqa: BLE001 - the top of a loop: said, and tried again
                self._parts.problems.report(source, f"{type(error).__name__}: {error}")
                self._stop.wait(self._parts.policy.look_every_s)

    def _hand_over(self, batch: EventBatch, position: Position) -> Position:
        if batch.log_head:
            self._hears.on_logs(self._node)
        if not batch.events:
            if batch.log_head:
                # the collector is at it; until it has acknowledged them a node may answer at once, again and again
                self._stop.wait(_AGAIN_S)
            return position
        since_s, self._heard_at = self._parts.steady() - self._heard_at, self._parts.steady()
        handed = Handed(node=self._node, batch=batch)
        self._hears.inbox.put(handed)
        handed.done.wait()
        if handed.position is None:
            self._stop.wait(self._parts.policy.look_every_s)
            return position
        ended = sum(event.kind is EventKind.ENDED for event in batch.events)
        self._stop.wait(gather_s(max(ended, len(batch.events) - ended), since_s, self._hears.live()))
        return handed.position
