"""What the chain of the audit tells: every row that was removed, changed, moved or put in."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Connection, text

from tidemill.model.audit import AuditEntry, AuditOutcome
from tidemill.model.errors import Conflict
from tidemill.secrets import KeyRing
from tidemill.service.audit import key_of
from tidemill.store import audit
from tidemill.store.database import Database

RING: Final = KeyRing.generate()
MAC: Final = key_of(RING)
ENTRY: Final = AuditEntry(
    at=datetime(2026, 11, 23, tzinfo=UTC),
    workspace="main",
    actor="user-1",
    actor_kind="user",
    credential="api_key",
    action="jobs.create",
    resource="jobs/a",
    outcome=AuditOutcome.SUCCESS,
    status=200,
    address="127.0.0.1",
    request="0" * 32,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """With ten rows."""
    (tmp_path / "keyring.json").write_text(RING.text())
    opened = Database(tmp_path / "tidemill.db", synchronous="OFF")
    for number in range(1, 11):
        add(opened, number)
    yield opened
    opened.close()


def entry(number: int) -> AuditEntry:
    return replace(ENTRY, resource=f"jobs/{number}")


def add(database: Database, number: int) -> None:
    database.write(partial(audit.append, entry=entry(number), mac=MAC))


def violations(database: Database) -> list[str]:
    return list(database.read(lambda connection: audit.check(connection, MAC)).violations)


def run(database: Database, *statements: str) -> None:
    def unit(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    database.write(unit)


def test_what_was_added_is_whole(database: Database) -> None:
    checked = database.read(lambda connection: audit.check(connection, MAC))
    assert (checked.rows, checked.violations) == (10, [])
    assert len(checked.newest) == 64


def test_an_empty_one_is_whole(tmp_path: Path) -> None:
    fresh = Database(tmp_path / "fresh.db")
    assert violations(fresh) == []
    fresh.close()


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (["DELETE FROM audit WHERE number = 5"], ["row 5 is missing"]),
        (["DELETE FROM audit WHERE number <= 3"], ["rows 1 to 3 are missing"]),
        (["DELETE FROM audit WHERE number >= 9"], ["rows 9 to 10 are missing"]),
        (["DELETE FROM audit"], ["rows 1 to 10 are missing"]),
        (["UPDATE audit SET actor = 'user-2' WHERE number = 4"], ["row 4 is not what was written after row 3"]),
        (["UPDATE audit SET status = 404 WHERE number = 10"], ["row 10 is not what was written after row 9"]),
        (
            [
                "UPDATE audit SET number = 99 WHERE number = 2",
                "UPDATE audit SET number = 2 WHERE number = 7",
                "UPDATE audit SET number = 7 WHERE number = 99",
            ],
            ["row 2 ", "row 3 ", "row 7 ", "row 8 "],
        ),
        (
            # the hole is closed: every later row moves up, and the head is told
            [
                "DELETE FROM audit WHERE number = 9",
                "UPDATE audit SET number = 9 WHERE number = 10",
                "UPDATE audit_head SET number = 9",
            ],
            ["row 9 is not what was written after row 8", "the head of the audit was changed"],
        ),
        (
            # the newest rows are cut off, and the head is made to agree as far as the table allows
            [
                "DELETE FROM audit WHERE number > 6",
                "UPDATE audit_head SET number = 6, mac = (SELECT mac FROM audit WHERE number = 6)",
            ],
            ["the head of the audit was changed: it is not what was written with row 6"],
        ),
        (
            [
                "CREATE TEMP TABLE copied AS SELECT * FROM audit WHERE number = 10",
                "UPDATE copied SET number = 11",
                "INSERT INTO audit SELECT * FROM copied",
            ],
            ["row 11 is not what was written after row 10", "rows after 10 were put in"],
        ),
        (["DELETE FROM audit_head"], ["the head of the audit is gone"]),
    ],
)
def test_what_was_done_to_it_is_found(database: Database, done: list[str], said: list[str]) -> None:
    run(database, *done)
    found = violations(database)
    assert len(found) == len(said), found
    assert [sentence for sentence, begin in zip(found, said, strict=True) if not sentence.startswith(begin)] == []


def test_a_head_that_was_taken_away_is_not_healed_by_going_on(database: Database) -> None:
    run(database, "DELETE FROM audit WHERE number > 6", "DELETE FROM audit_head")
    database.write(lambda connection: audit.append(connection, entry(7), MAC))
    assert violations(database)[0].startswith("row 7 is not what was written after row 6")


def test_another_key_neither_makes_nor_checks_it(database: Database) -> None:
    other = key_of(KeyRing.generate())
    assert len(database.read(lambda connection: audit.check(connection, other)).violations) == 11
    run(database, "DELETE FROM audit WHERE number = 10", "UPDATE audit_head SET number = 9")
    database.write(lambda connection: audit.append(connection, entry(10), other))
    assert violations(database) != []


def test_what_it_cannot_tell_a_copy_of_an_older_day_from_the_day_itself(database: Database) -> None:
    columns = "number, mac, seal"
    then = database.read(lambda c: c.execute(text(f"SELECT {columns} FROM audit_head")).one())
    database.write(lambda connection: audit.append(connection, entry(11), MAC))
    run(
        database,
        "DELETE FROM audit WHERE number = 11",
        f"UPDATE audit_head SET number = {then.number}, mac = '{then.mac}', seal = '{then.seal}'",
    )
    assert violations(database) == []


def test_a_unit_that_is_undone_breaks_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        audit.append(connection, entry(11), MAC)
        raise Conflict("no")

    units: list[Callable[[Connection], None]] = [partial(audit.append, entry=entry(11), mac=MAC), half] * 20
    futures = [database.submit(unit) for unit in units]
    assert [future.exception(10) is None for future in futures] == [True, False] * 20
    checked = database.read(lambda connection: audit.check(connection, MAC))
    assert (checked.rows, checked.violations) == (30, [])


def doctor(folder: Path, *options: str) -> tuple[int, str]:
    words = [sys.executable, "-m", "tidemill.main", "doctor", "--audit", "--data-dir", str(folder), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_doctor_says_whether_it_is_whole(database: Database) -> None:
    folder = database.path.parent
    code, said = doctor(folder)
    assert (code, said.startswith("the audit is whole: 10 rows, the newest ")) == (0, True)
    run(database, "DELETE FROM audit WHERE number = 5")
    assert doctor(folder) == (1, "row 5 is missing\n")
    assert doctor(folder, "--json") == (1, '{\n  "ok": false,\n  "says": [\n    "row 5 is missing"\n  ]\n}\n')


def test_the_doctor_needs_the_key_ring_and_makes_none(database: Database) -> None:
    ring = database.path.parent / "keyring.json"
    ring.unlink()
    code, said = doctor(ring.parent)
    assert (code, "nothing can be said without the key ring" in said) == (1, True)
    assert not ring.exists()
    ring.write_text(json.dumps({"active": "x"}))
    assert doctor(ring.parent)[0] == 1
    assert doctor(ring.parent / "nowhere")[1].startswith("there is no audit")
