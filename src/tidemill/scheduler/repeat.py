"""A thread that does the same step again and again: one that fails is told of, and tried again."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from tidemill.scheduler.problems import Problems

_LOG: Final = structlog.get_logger("tidemill.scheduler")


class Repeat:
    """``step`` says in how many seconds it wants to be done again; 0 is at once.

    ``source`` is whose problem a failure is; it is tried again after ``again_s``.
    """

    def __init__(
        self, step: Callable[[], float], *, name: str, source: str, problems: Problems, again_s: float
    ) -> None:
        self._step = step
        self._source = source
        self._problems = problems
        self._again_s = again_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tidemill-{name}", daemon=True)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no further step."""
        self._stopping.set()

    def join(self) -> None:
        """Until the last step is done; at once where it was never started."""
        if self._thread.ident is not None:
            self._thread.join()

    def rest(self, seconds: float) -> bool:
        """Wait within a step; True when it is to end."""
        return self._stopping.wait(seconds)

    def _run(self) -> None:
        while not self.is_stopping:
            try:
                wait_s = self._step()
                self._problems.clear(self._source)
            except Exception as error:  # noqa: BLE001 - the top of a loop: said, and tried again
                wait_s = self._again_s
                if self._problems.report(self._source, f"{type(error).__name__}: {error}"):
                    _LOG.error("a step failed", source=self._source, exc_info=error)
            if wait_s > 0:
                self._stopping.wait(wait_s)
