"""The old end of the audit is cut: the rest is as whole as before, and nobody else can cut."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.costs import cost
from tests.store.test_audit import ENTRY, MAC, RING, doctor, run, violations
from tidemill.scheduler.audit_end import AuditEnd
from tidemill.secrets import KeyRing
from tidemill.store import audit
from tidemill.store.audit_anchor import Mac
from tidemill.store.database import Database

DAY: Final = timedelta(days=1)
NOON: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
# of the last of ten days, on each of which three rows were written
LAST: Final = NOON + 9 * DAY


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Rows 1 to 30, three a day at noon."""
    (tmp_path / "keyring.json").write_text(RING.text())
    opened = Database(tmp_path / "tidemill.db", synchronous="OFF")
    filled(opened)
    yield opened
    opened.close()


def filled(database: Database) -> None:
    for number in range(30):
        entry = replace(ENTRY, at=NOON + number // 3 * DAY, resource=f"jobs/{number + 1}")
        database.write(lambda connection, entry=entry: audit.append(connection, entry, MAC))  # type: ignore[misc]


def end(database: Database, days: float = 5, rows: int = 1_000, mac: Mac = MAC) -> AuditEnd:
    return AuditEnd(database=database, mac=mac, workspace="main", days=days, rows=rows)


def cut(database: Database, now: datetime = LAST, days: float = 5, rows: int = 1_000) -> int:
    """How many units it took."""
    return len(list(end(database, days, rows).units(now)))


def numbers(database: Database) -> list[int]:
    return database.read(lambda c: list(c.scalars(text("SELECT number FROM audit ORDER BY number"))))


def checked(database: Database) -> audit.Checked:
    return database.read(lambda connection: audit.check(connection, MAC))


def test_whole_days_go_and_a_row_tells_of_it(database: Database) -> None:
    assert cut(database) == 1
    # of ten days the last five and the begun one are kept, whatever the hour
    assert numbers(database) == [*range(13, 31), 31]
    page = audit.AuditPage(workspace="main", action="audit.cut", limit=10)
    (row,) = database.read(lambda connection: audit.find_page(connection, page))
    assert (row.entry.actor_kind, row.entry.resource, row.entry.at) == ("server", "audit/1-12", LAST)
    found = checked(database)
    assert (found.rows, found.violations) == (19, [])
    assert found.cut is not None
    assert (found.cut.number, found.cut.at) == (12, NOON + 3 * DAY)


def test_the_same_day_nothing_more_goes_and_looking_costs_a_statement(database: Database) -> None:
    cut(database)
    later = LAST.replace(hour=23, minute=59)
    assert cost(lambda: cut(database, later)).statements == 1
    assert cut(database, later) == 0
    assert cut(database, LAST + DAY) == 1
    assert numbers(database)[0] == 16
    assert violations(database) == []


def test_it_goes_in_units_of_so_many_rows_and_each_leaves_a_good_chain(database: Database) -> None:
    found = [(numbers(database)[0], violations(database)) for _ in end(database, rows=5).units(LAST)]
    assert found == [(6, []), (11, []), (13, [])]
    assert numbers(database) == [*range(13, 34)]


def test_all_of_it_may_go_and_the_chain_goes_on(database: Database) -> None:
    cut(database, LAST + 100 * DAY)
    assert numbers(database) == [31]
    database.write(lambda connection: audit.append(connection, ENTRY, MAC))
    assert (checked(database).rows, violations(database)) == (2, [])


def test_where_the_clock_was_wrong_a_row_is_kept_and_all_behind_it(database: Database) -> None:
    fresh = replace(ENTRY, at=NOON + 50 * DAY)
    for entry in (fresh, ENTRY):
        database.write(lambda connection, entry=entry: audit.append(connection, entry, MAC))  # type: ignore[misc]
    cut(database, NOON + 40 * DAY)
    assert numbers(database) == [31, 32, 33]
    assert violations(database) == []


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (["DELETE FROM audit WHERE number = 13"], "row 13 is missing"),
        (["DELETE FROM audit WHERE number <= 20"], "rows 13 to 20 are missing"),
        (["DELETE FROM audit"], "rows 13 to 31 are missing"),
        (["UPDATE audit SET actor = 'x' WHERE number = 13"], "row 13 is not what was written after row 12"),
        (["DELETE FROM audit_anchor"], "rows 1 to 12 are missing"),
        (
            [
                "DELETE FROM audit WHERE number <= 20",
                "UPDATE audit_anchor SET number = 20, mac = 'x'",
            ],
            "the anchor of the audit was changed",
        ),
        (
            [
                "UPDATE audit_anchor SET number = 20, mac = (SELECT mac FROM audit WHERE number = 20)",
                "DELETE FROM audit WHERE number <= 20",
            ],
            "the anchor of the audit was changed",
        ),
        (["UPDATE audit_anchor SET at = 0"], "the anchor of the audit was changed"),
        (
            [
                "CREATE TEMP TABLE copied AS SELECT * FROM audit WHERE number = 13",
                "UPDATE copied SET number = 7",
                "INSERT INTO audit SELECT * FROM copied",
            ],
            "row 7 was put in",
        ),
    ],
)
def test_what_was_done_to_the_rest_or_to_the_anchor_is_found(database: Database, done: list[str], said: str) -> None:
    cut(database)
    run(database, *done)
    assert violations(database)[0].startswith(said)


def test_another_key_cannot_cut(database: Database) -> None:
    other = KeyRing.generate().audit_mac
    old = database.read(lambda connection: audit.find_old_end(connection, LAST, MAC, 10))
    assert isinstance(old, audit.Cut)
    database.write(lambda connection: audit.cut(connection, old, ENTRY, other))
    assert violations(database)[0].startswith("the anchor of the audit was changed")


@pytest.mark.parametrize(
    "done", ["DELETE FROM audit WHERE number = 4", "UPDATE audit SET actor = 'x' WHERE number = 4"]
)
def test_what_is_not_whole_is_evidence_and_is_not_cut(database: Database, done: str) -> None:
    run(database, done)
    before = numbers(database)
    sweeper = end(database)
    with capture_logs() as logs:
        assert list(sweeper.units(LAST)) == list(sweeper.units(LAST)) == []
    assert numbers(database) == before
    (told,) = logs
    assert (told["log_level"], "after row 3" in told["reason"]) == ("error", True)


def test_the_doctor_says_since_when(database: Database) -> None:
    assert doctor(database.path.parent)[1].count("\n") == 1
    cut(database)
    code, said = doctor(database.path.parent)
    first, second = said.splitlines()
    assert (code, first.startswith("the audit is whole: 19 rows, the newest ")) == (0, True)
    assert second == "it begins with row 13: older ones, up to 2026-11-26 12:00:00+00:00, were cut"


@pytest.mark.parametrize("when", ["delete", "anchor", "row"])
def test_a_kill_in_the_middle_leaves_a_good_chain_and_the_next_sweep_goes_on(tmp_path: Path, when: str) -> None:
    (tmp_path / "keyring.json").write_text(RING.text())
    before = Database(tmp_path / "tidemill.db")
    filled(before)
    before.close()
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-c", KILLED, str(tmp_path), when]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    seen = [process.stdout.readline().strip() for _ in range(2)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert seen == ["cut", when]
    after = Database(tmp_path / "tidemill.db")
    # the first unit is there, the second is not: neither its rows are gone nor its own is there
    assert numbers(after) == [*range(6, 32)]
    assert violations(after) == []
    assert cut(after, rows=5) == 2
    assert numbers(after) == [*range(13, 34)]
    assert violations(after) == []
    after.close()


KILLED: Final = """
import sys, time
from pathlib import Path
from tests.store.test_audit_cut import LAST, end
from tidemill.secrets import KeyRing
from tidemill.store import audit, audit_anchor
from tidemill.store.database import Database
database = Database(Path(sys.argv[1]) / "tidemill.db")
ring = KeyRing.parse((Path(sys.argv[1]) / "keyring.json").read_text())
units = end(database, rows=5, mac=ring.audit_mac).units(LAST)
next(units)
print("cut", flush=True)
def dies(name, real, before):
    def unit(*given, **named):
        if not before:
            real(*given, **named)
        print(name, flush=True)
        time.sleep(60)  # to be killed in this unit, before its commit
    return unit
if sys.argv[2] == "row":
    audit.append = dies("row", audit.append, False)
else:
    audit_anchor.move = dies(sys.argv[2], audit_anchor.move, sys.argv[2] == "delete")
next(units)
"""
