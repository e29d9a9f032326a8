"""A thread for what would block the loop: fsync, unpacking an image, removing a big folder."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from tidemill.node.loop import Loop

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Worker:
    """Runs one piece of work after the other, and reports each to the loop."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Result], done: Callable[[Result | Exception], None]) -> None:
        """Call ``work`` in the thread, then ``done`` in the loop with what it returned or raised."""

        def run() -> None:
            try:
                result: Result | Exception = work()
            except Exception as error:  # noqa: BLE001  # handed to ``done``
                result = error
            self._loop.call_from_thread(lambda: done(result))

        self._work.put(run)

    def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
