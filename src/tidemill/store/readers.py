"""Read-only connections to the SQLite file: kept open, lent to one reader at a time."""

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from tidemill.store.compiled import shared

T = TypeVar("T")

BUSY_MS: Final = 10_000
_KEPT: Final = 16


@dataclass(frozen=True, slots=True)
class _Reader:
    """A connection, and the driver's own connection under it."""

    connection: Connection
    driver: sqlite3.Connection


class Readers:
    """As many connections as there are readers at once; up to 16 are kept for the next ones.

    To SQLAlchemy each is in one transaction for as long as it lives. The real ones, a snapshot each, are begun and
    ended on the driver's connection: by way of a pool and its events they would cost more than what most reads do.
    """

    def __init__(self, path: Path) -> None:
        self._engine = shared(
            create_engine(
                f"sqlite:///file:{path}?mode=ro&uri=true",
                poolclass=NullPool,
                hide_parameters=True,  # else an error that is logged repeats what users sent
                connect_args={"check_same_thread": False},
            )
        )
        event.listen(self._engine, "connect", _prepare)
        self._idle: deque[_Reader] = deque()  # its append and pop are atomic
        self._closed = False

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a snapshot. Raises what it raises."""
        reader = self._lent()
        try:
            reader.driver.execute("BEGIN")
            return work(reader.connection)
        finally:
            self._give_back(reader)

    def close(self) -> None:
        """Close what is not lent now; what is, is closed when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().connection.close()
        self._engine.dispose()

    def _lent(self) -> _Reader:
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._engine.connect()
            return _Reader(connection, driver_of(connection))

    def _give_back(self, reader: _Reader) -> None:
        with suppress(sqlite3.Error):
            reader.driver.execute("ROLLBACK")  # nothing was written: the cheapest end there is
        if self._closed or reader.driver.in_transaction or len(self._idle) >= _KEPT:
            reader.connection.close()
        else:
            self._idle.append(reader)


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for statements that need nothing of SQLAlchemy."""
    driver: object = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN is ours
    for pragma in ("query_only=1", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")
