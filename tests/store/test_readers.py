import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tidemill.store.readers import Readers, driver_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "readers.db"
    with sqlite3.connect(file) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE number (value INTEGER)")
        made.execute("INSERT INTO number VALUES (1)")
    made.close()
    return file


@pytest.fixture
def readers(path: Path) -> Iterator[Readers]:
    opened = Readers(path)
    yield opened
    opened.close()


def put(path: Path) -> None:
    with sqlite3.connect(path) as writer:
        writer.execute("INSERT INTO number VALUES (1)")
    writer.close()


def count(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT count(*) FROM number")) or 0)


def driver(connection: Connection) -> sqlite3.Connection:
    return driver_of(connection)


def test_a_read_is_a_snapshot_and_the_next_one_sees_what_was_written_since(readers: Readers, path: Path) -> None:
    def twice(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        put(path)
        return before, count(connection)

    assert readers.run(twice) == (1, 1)
    assert readers.run(count) == 2


def test_a_connection_is_lent_again_and_never_to_two(readers: Readers) -> None:
    first = readers.run(driver)
    assert readers.run(driver) is first
    outer, inner = readers.run(lambda connection: (driver(connection), readers.run(driver)))
    assert outer is not inner


def test_a_read_that_fails_leaves_its_connection_to_the_next_one_with_a_new_snapshot(
    readers: Readers, path: Path
) -> None:
    failed = readers.run(driver)

    def wrong(connection: Connection) -> None:
        assert count(connection) == 1
        connection.execute(text("SELECT value FROM nowhere"))

    with pytest.raises(DBAPIError, match="no such table"):
        readers.run(wrong)
    put(path)
    assert readers.run(lambda connection: (driver(connection), count(connection))) == (failed, 2)


def test_nothing_can_be_written(readers: Readers) -> None:
    with pytest.raises(DBAPIError, match="readonly"):
        readers.run(lambda connection: connection.execute(text("DELETE FROM number")))


def test_what_is_lent_while_all_is_closed_is_closed_when_it_comes_back(readers: Readers) -> None:
    def close(connection: Connection) -> sqlite3.Connection:
        readers.close()
        assert count(connection) == 1
        return driver(connection)

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        readers.run(close).execute("SELECT 1")
