import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from tidemill.model.errors import Conflict, OutOfSpace, Overloaded
from tidemill.store import database as database_module
from tidemill.store.database import Database
from tidemill.store.schema import term


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "tidemill.db")
    yield opened
    opened.close()


def put(connection: Connection, name: str) -> str:
    connection.execute(
        text("INSERT INTO term (name, number, holder, taken_at) VALUES (:name, 1, 'test', 0)"), {"name": name}
    )
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(term.c.name).order_by(term.c.name)))


def test_a_unit_answers_after_its_commit(database: Database) -> None:
    assert database.write(lambda connection: put(connection, "a")) == "a"
    assert database.read(names) == ["a"]


def test_a_unit_that_raises_is_undone_alone(database: Database) -> None:
    gate = threading.Event()

    def hold(_: Connection) -> None:
        gate.wait(10)  # the three below gather in one group meanwhile

    def half(connection: Connection) -> None:
        put(connection, "bad")
        raise Conflict("no")

    held = database.submit(hold)
    good, bad, also_good = (
        database.submit(lambda connection: put(connection, "one")),
        database.submit(half),
        database.submit(lambda connection: put(connection, "two")),
    )
    gate.set()
    held.result(10)
    assert good.result(10) == "one"
    assert also_good.result(10) == "two"
    with pytest.raises(Conflict):
        bad.result(10)
    assert database.read(names) == ["one", "two"]


def test_a_unit_that_cannot_be_undone_alone_takes_its_group_along(database: Database) -> None:
    gate, begun = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        gate.wait(10)  # the two below gather in one group meanwhile

    def rude(connection: Connection) -> None:
        put(connection, "half")
        connection.exec_driver_sql("RELEASE unit")  # with its savepoint gone, SQLite cannot go back to it
        raise Conflict("no")

    held = database.submit(hold)
    assert begun.wait(10)
    good, bad = database.submit(lambda connection: put(connection, "one")), database.submit(rude)
    gate.set()
    held.result(10)
    for future in (good, bad):
        with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
            future.result(10)
    assert database.write(lambda connection: put(connection, "after")) == "after"
    assert database.read(names) == ["after"]


def test_a_unit_whose_success_cannot_be_kept_apart_takes_its_group_along(database: Database) -> None:
    def rude(connection: Connection) -> None:
        put(connection, "half")
        connection.exec_driver_sql("RELEASE unit")

    with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
        database.write(rude)
    assert database.read(names) == []


def test_readers_see_whole_commits_and_cannot_write(database: Database) -> None:
    database.write(lambda connection: put(connection, "a"))
    with pytest.raises(Exception, match=r"readonly|query_only|cannot be written"):
        database.read(lambda connection: put(connection, "b"))
    assert database.read(names) == ["a"]


def test_a_commit_wakes_whoever_waits_for_changes_but_not_when_told_not_to(database: Database) -> None:
    seen = database.changes.count
    database.write(lambda connection: put(connection, "quiet"), wakes=False)
    assert database.changes.count == seen
    database.write(lambda connection: put(connection, "loud"))
    assert database.changes.wait(seen, 10) == seen + 1


def test_beyond_the_bound_a_write_is_refused_but_the_schedulers_is_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MAX_WAITING", 2)  # a thousand threads would say the same, later
    gate, begun = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        gate.wait(10)

    held = database.submit(hold)
    assert begun.wait(10)
    waiting = [database.submit(partial(put, name=name)) for name in ("a", "b")]
    with pytest.raises(Overloaded):
        database.submit(lambda connection: put(connection, "c"))
    urgent = database.submit(lambda connection: put(connection, "d"), urgent=True)
    gate.set()
    held.result(10)
    for future in (*waiting, urgent):
        future.result(10)
    assert database.read(names) == ["a", "b", "d"]


def test_a_second_server_on_the_same_file_is_refused(database: Database) -> None:
    with pytest.raises(Conflict, match="another server holds"):
        Database(database.path)


def test_a_full_disk_fails_the_write_in_words_and_the_next_one_works_again(database: Database) -> None:
    pages = database.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    database.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one())
    with pytest.raises(OutOfSpace, match="free disk space"):
        database.write(lambda connection: put(connection, "x" * 100_000))
    assert "free disk space" in str(database.problem)
    database.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000").scalar_one())
    assert database.problem is None
    assert database.write(lambda connection: put(connection, "small")) == "small"
    assert database.read(names) == ["small"]


KILLED = """
import sys
from functools import partial
from pathlib import Path
from sqlalchemy import text
from tidemill.store.database import Database
database = Database(Path(sys.argv[1]))
for number in range(1_000_000):
    database.write(lambda c: c.execute(text("INSERT INTO term VALUES (:n, 1, 'x', 0)"), {"n": f"{number:07}"}).rowcount)
    print(number, flush=True)
"""


def test_what_was_answered_before_kill_9_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "tidemill.db"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    answered = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    answered += [int(line) for line in writer.stdout]
    writer.wait(10)
    writer.stdout.close()
    database = Database(path)
    kept = {int(name) for name in database.read(names)}
    database.close()
    assert set(answered) <= kept
    assert len(kept) - len(answered) <= 1


def test_the_file_is_in_wal_mode_and_every_commit_reaches_the_disk(database: Database) -> None:
    def pragmas(connection: Connection) -> tuple[object, object]:
        return (
            connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
            connection.exec_driver_sql("PRAGMA synchronous").scalar_one(),
        )

    assert database.write(pragmas) == ("wal", 2)  # 2: FULL


def test_a_closed_database_takes_no_unit_and_leaves_no_lock(tmp_path: Path) -> None:
    first = Database(tmp_path / "tidemill.db")
    first.close()
    first.close()
    with pytest.raises(Overloaded, match="shutting down"):
        first.submit(names)
    Database(tmp_path / "tidemill.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "tidemill.db")) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
