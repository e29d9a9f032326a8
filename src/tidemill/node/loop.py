"""The one loop of a node: descriptors, timers, and calls from other threads, all in one thread."""

import heapq
import itertools
import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
ERROR: Final = select.EPOLLERR | select.EPOLLHUP

log = logging.getLogger(__name__)


# below this many, cancelled timers are not worth clearing away
_STALE_TIMERS: Final = 1024


class Timer:
    """A call in the future. ``cancel`` may be called at any time, any number of times."""

    __slots__ = ("_cancelled", "action")

    def __init__(self, action: Callable[[], None], cancelled: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action
        self._cancelled = cancelled

    def cancel(self) -> None:
        if self.action is not None:
            self.action = None
            self._cancelled()


class Loop:
    """``now_ns`` is wall time, ``monotonic`` is in seconds; both are read once a turn, before anything is called.

    Only ``call_from_thread`` may be called from another thread.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._stale = 0
        self._order = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._turn_ends: list[Callable[[], None]] = []
        self._running = False
        self.now_ns = 0
        self.monotonic = 0.0
        self.watch(self._wake, READ, self._woken)
        self._read_clock()

    @property
    def now(self) -> float:
        """Wall time in seconds."""
        return self.now_ns / 1e9

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with what epoll saw, as long as it sees it (level-triggered)."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """To be called before ``fd`` is closed; unknown descriptors are ignored."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action, self._timer_cancelled)
        heapq.heappush(self._timers, (self.monotonic + delay_s, next(self._order), timer))
        return timer

    def call_from_thread(self, action: Callable[[], None]) -> None:
        self._posted.append(action)
        with suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def at_turn_end(self, action: Callable[[], None]) -> None:
        """Call ``action`` after each turn, in the order given: what a turn has gathered is written at once."""
        self._turn_ends.append(action)

    def run(self) -> None:
        """Until ``stop``. An error of a handler is logged and ends nothing else."""
        self._running = True
        while self._running:
            self._turn()

    def run_posted(self) -> None:
        """Make the calls that other threads have asked for by now."""
        while self._posted:
            self._call(self._posted.popleft())

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wake)

    def _turn(self) -> None:
        try:
            ready = self._epoll.poll(self._wait_s(), 256)
        except InterruptedError:
            ready = []
        self._read_clock()
        # timers first: a node that was frozen kills what has expired before it hears anything new
        while (action := self._next_due()) is not None:
            self._call(action)
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:
                try:
                    handler(events)
                except Exception:
                    log.exception("handler failed")
        self.run_posted()
        for action in self._turn_ends:
            self._call(action)

    def _call(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            log.exception("action failed")

    def _read_clock(self) -> None:
        self.now_ns = time.time_ns()
        self.monotonic = time.monotonic()

    def _wait_s(self) -> float:
        self._drop_cancelled()
        if self._posted:
            return 0.0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1.0

    def _next_due(self) -> Callable[[], None] | None:
        self._drop_cancelled()
        if not self._timers or self._timers[0][0] > self.monotonic:
            return None
        timer = heapq.heappop(self._timers)[2]
        action, timer.action = timer.action, None
        return action

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
            self._stale -= 1

    def _timer_cancelled(self) -> None:
        # a task's timeout is far away and nearly always cancelled: without this they would pile up
        self._stale += 1
        if self._stale > max(_STALE_TIMERS, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].action is not None]
            heapq.heapify(self._timers)
            self._stale = 0

    def _woken(self, _events: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
