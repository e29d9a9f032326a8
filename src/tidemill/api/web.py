"""uvicorn's server without its clock: that looks ten times a second whether it is to end, and an idle server sleeps."""

import asyncio
from contextlib import suppress
from typing import Final

import uvicorn

# it says whole seconds
_DATE_S: Final = 1.0


class Web(uvicorn.Server):
    """Runs until it is told to ``end``. The date of its answers is at most ``date_s`` old."""

    def __init__(self, config: uvicorn.Config, date_s: float = _DATE_S) -> None:
        super().__init__(config)
        self._date_s = date_s
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Take no new connection, let requests finish, then end. Any thread may say so, at any time."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        # first: whoever says so before sees none, and is seen by the first look
        self._loop = asyncio.get_running_loop()
        # of the ticks that uvicorn counts, those that are divided by ten renew the date
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self._date_s)
