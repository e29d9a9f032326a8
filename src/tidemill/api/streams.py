"""Answers without an end: how many there are, and what ends one before its time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tidemill.model.errors import Overloaded

MAX_STREAMS: Final = 256
MAX_OF_ONE: Final = 192
"""Of one workspace: none of them takes the whole server."""


class Streams:
    """Counts those that are open, for the event loop's thread."""

    def __init__(self) -> None:
        self._open = Counter[str]()

    @property
    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    def check(self, workspace: str) -> None:
        """Whether there is room for another one. Raises Overloaded."""
        if self.count >= MAX_STREAMS or self._open[workspace] >= MAX_OF_ONE:
            raise Overloaded(
                f"as many answers are being followed as this server holds open ({MAX_STREAMS}, {MAX_OF_ONE} of one "
                "workspace); ask again, or without following"
            )

    @contextmanager
    def one(self, workspace: str) -> Iterator[None]:
        """Counts as open for as long as it lasts."""
        self._open[workspace] += 1
        try:
            yield
        finally:
            self._open[workspace] -= 1
