"""What does not work right now: logged once when it changes, asked for by ``/readyz``."""

import threading
from typing import Final

import structlog

_LOG: Final = structlog.get_logger("tidemill.scheduler")


class Problems:
    """The present problem of each source. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present: dict[str, str] = {}

    def report(self, source: str, message: str) -> bool:
        """``source`` does not work, and why. True when that is news."""
        with self._lock:
            new = self._present.get(source) != message
            self._present[source] = message
        if new:
            _LOG.warning("problem", source=source, message=message)
        return new

    def clear(self, source: str) -> None:
        """``source`` works."""
        with self._lock:
            gone = self._present.pop(source, None)
        if gone is not None:
            _LOG.info("problem is gone", source=source)

    def of(self, source: str) -> str:
        """What does not work with ``source``; empty when it works."""
        with self._lock:
            return self._present.get(source, "")

    def current(self) -> str | None:
        """One sentence for all of them; None when everything works."""
        with self._lock:
            return "; ".join(f"{source}: {message}" for source, message in sorted(self._present.items())) or None
