"""Answers without an end: how many there are, and what wakes them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tidemill.model.errors import Overloaded
from tidemill.store.database import Changes

MAX_STREAMS: Final = 256
MAX_OF_ONE: Final = 192
"""Of one workspace: none of them takes the whole server."""
MAX_OF_STRANGERS: Final = 64
STRANGERS: Final = ""
"""Stands where a workspace does, for all callers of public triggers together."""


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
        most = MAX_OF_STRANGERS if workspace == STRANGERS else MAX_OF_ONE
        if self.count >= MAX_STREAMS or self._open[workspace] >= most:
            raise Overloaded(
                f"as many answers are being waited for as this server holds open ({MAX_STREAMS}, {MAX_OF_ONE} of one "
                f"workspace, {MAX_OF_STRANGERS} of public triggers); ask again, or without following"
            )

    @contextmanager
    def one(self, workspace: str) -> Iterator[None]:
        """Counts as open for as long as it lasts."""
        self._open[workspace] += 1
        try:
            yield
        finally:
            self._open[workspace] -= 1


async def signalled(news: Changes, seen: int) -> None:
    """Once the count differs from ``seen``."""
    loop, rung = asyncio.get_running_loop(), asyncio.Event()

    def ring() -> None:
        loop.call_soon_threadsafe(rung.set)

    if news.call(seen, ring):
        try:
            await rung.wait()
        finally:
            news.forget(ring)
