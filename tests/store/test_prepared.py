"""A prepared statement gives what SQLAlchemy gives, and is heard of where SQLAlchemy's are."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update

from tests.costs import cost
from tidemill.store import schema
from tidemill.store.database import Database
from tidemill.store.prepared import Prepared

AT = datetime(2026, 11, 23, 12, 0, 0, 123_456, tzinfo=UTC)
JOB = schema.job.c
ROW: dict[str, Any] = {
    "key": 7,
    "workspace": "main",
    "name": "sweep",
    "state": "DEPLOYED",
    "display_name": "Sweep",
    "external_id": "",
    "labels": {"team": "ä", "of": None},
    "enabled": 1,
    "extra": {"spec": [1, 2.5]},
    "created_at": AT,
    "created_by": "me",
    "updated_at": AT,
    "updated_by": "me",
}

_INSERT = Prepared(insert(schema.job), ROW)
_COUNT = Prepared(update(schema.job).where(JOB.key == bindparam("of")).values(events_total=JOB.events_total + 2))
_QUERY = (
    select(*schema.job.c, JOB.name.label("again"))
    .where(
        JOB.workspace == bindparam("workspace"),
        JOB.state.in_(["DEPLOYED", "FAILED"]),
        JOB.created_at >= bindparam("since"),
        JOB.updated_at < datetime(2027, 1, 1, tzinfo=UTC),
    )
    .order_by(JOB.key)
)
_SELECT = Prepared(_QUERY)
_NAME = Prepared(update(schema.job).where(JOB.key == bindparam("of")).values(created_by=bindparam("who")))
_MORE = Prepared(update(schema.job).values(updated_at=bindparam("at")).returning(JOB.events_total, JOB.updated_at))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "tidemill.db")
    yield opened
    opened.close()


def put(connection: Connection) -> None:
    _INSERT.run(connection, ROW)


def count(connection: Connection) -> None:
    _COUNT.run(connection, {"of": 7})


def test_it_writes_and_reads_what_sqlalchemy_does(database: Database) -> None:
    database.write(put)
    database.write(count)
    wanted = {"workspace": "main", "since": AT}
    ours = database.read(lambda connection: _SELECT.run(connection, wanted).all())
    theirs = database.read(lambda connection: connection.execute(_QUERY, wanted).all())
    assert [tuple(row) for row in ours] == [tuple(row) for row in theirs]
    row = ours[0]
    assert {name: getattr(row, name) for name in ROW} == ROW
    assert (row.events_total, row.terminated_at, row.again, row[0]) == (2, None, "sweep", 7)


def test_values_are_told_apart_by_the_types_of_their_columns(database: Database) -> None:
    database.write(put)
    later = AT.replace(microsecond=123_457)
    assert database.read(lambda c: _SELECT.run(c, {"workspace": "main", "since": later}).one_or_none()) is None
    assert database.read(lambda c: _SELECT.run(c, {"workspace": "other", "since": AT}).one_or_none()) is None


def test_many_rows_are_one_statement_and_each_statement_is_heard_of(database: Database) -> None:
    rows = [{**ROW, "key": key, "name": f"job-{key}"} for key in range(3)]
    assert cost(lambda: database.write(lambda connection: _INSERT.run_many(connection, rows))).statements == 1
    read = cost(lambda: database.read(lambda c: _SELECT.run(c, {"workspace": "main", "since": AT})))
    assert (read.statements, read.steps > 0) == (1, True)
    found = database.read(lambda c: _SELECT.run(c, {"workspace": "main", "since": AT}).all())
    assert [row.name for row in found] == ["job-0", "job-1", "job-2"]


def test_a_parameter_that_is_missing_is_an_error_and_no_null(database: Database) -> None:
    with pytest.raises(KeyError, match="since"):
        database.read(lambda connection: _SELECT.run(connection, {"workspace": "main"}))


def test_of_each_run_it_is_told_whether_it_found_its_row(database: Database) -> None:
    database.write(put)
    rows = [{"of": 7, "who": "you"}, {"of": 8, "who": "nobody"}, {"of": 7, "who": "they"}]
    assert database.write(lambda connection: _NAME.run_each(connection, rows)) == [True, False, True]
    (row,) = database.read(lambda connection: _SELECT.run(connection, {"workspace": "main", "since": AT}).all())
    assert row.created_by == "they"
    assert database.write(lambda connection: cost(lambda: _NAME.run_each(connection, rows))).statements == 1


def test_what_a_write_returns_is_converted_like_what_is_read(database: Database) -> None:
    database.write(put)
    later = AT.replace(microsecond=7)
    row = database.write(lambda connection: _MORE.run(connection, {"at": later}).one())
    assert (row.events_total, row.updated_at) == (0, later)
