"""What was committed gets from the log into the database beside the writer, whoever reads meanwhile."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tidemill.store import checkpoints
from tidemill.store.checkpoints import STEP_BYTES, WRITER_PAGES
from tidemill.store.database import Database

PAGE_BYTES = 4096
ROW_BYTES = 1 << 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "tidemill.db", synchronous="OFF")
    found.write(lambda connection: connection.exec_driver_sql("CREATE TABLE bulk (data BLOB) STRICT"))
    yield found
    found.close()


def add(database: Database, rows: int) -> None:
    def unit(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO bulk VALUES (zeroblob(?))", (ROW_BYTES,))

    for _ in range(rows):
        database.write(unit)


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM bulk").scalar_one())


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0)


def log_bytes(database: Database) -> int:
    return database.path.with_name("tidemill.db-wal").stat().st_size


def test_it_is_made_beside_the_writer_long_before_that_would(database: Database) -> None:
    rows = 3 * STEP_BYTES // ROW_BYTES
    assert rows * ROW_BYTES < WRITER_PAGES * PAGE_BYTES / 2
    add(database, rows)
    until(lambda: database.path.stat().st_size > STEP_BYTES)
    assert database.read(count) == rows


def test_a_log_is_begun_anew_and_does_not_grow_for_ever(database: Database) -> None:
    def is_small_again() -> bool:
        add(database, 1)
        return log_bytes(database) < 2 * STEP_BYTES

    for _ in range(2):
        add(database, WRITER_PAGES * PAGE_BYTES // ROW_BYTES)
        until(is_small_again)


def test_who_reads_sees_what_was_when_it_began(database: Database) -> None:
    """A reader holds a checkpoint up at its own place, and nobody's commit."""
    add(database, 5)

    def read(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        add(database, 3 * STEP_BYTES // ROW_BYTES)
        return before, count(connection)

    assert database.read(read) == (5, 5)
    assert database.read(count) == 5 + 3 * STEP_BYTES // ROW_BYTES


def test_what_cannot_be_done_is_no_loss(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BUSY_MS", "nonsense")
    add(database, 3 * STEP_BYTES // ROW_BYTES)
    assert database.read(count) == 3 * STEP_BYTES // ROW_BYTES
    assert database.problem is None


def test_closing_waits_for_it_and_leaves_one_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "tidemill.db", synchronous="OFF")
    database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE bulk (data BLOB) STRICT"))
    add(database, 3 * STEP_BYTES // ROW_BYTES)
    database.close()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["tidemill.db"]
