"""Finding the account of somebody whom a provider vouches for."""

from datetime import UTC, datetime
from pathlib import Path

from tests.costs import cost
from tidemill.store import identity, vouching
from tidemill.store.database import Connection, Database
from tidemill.store.identity import Account
from tidemill.store.vouching import Vouched

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def filled(database: Database, count: int) -> None:
    def unit(connection: Connection) -> None:
        for number in range(count):
            linked = {} if number % 2 else {"issuer": "https://id.example.org", "subject": f"s{number}"}
            new = Account(id=f"user-{number}", email=f"{number}@example.org", created_at=NOW, **linked)
            identity.add_account(connection, new)

    database.write(unit)


def test_it_costs_as_much_among_many_as_among_few(tmp_path: Path) -> None:
    steps = []
    for count in (4, 4_000):
        database = Database(tmp_path / f"{count}.db")
        filled(database, count)
        looks = [
            lambda connection: vouching.by_subject(connection, "https://id.example.org", "s2"),
            lambda connection: vouching.by_subject(connection, "https://id.example.org", "nobody"),
            lambda connection: vouching.by_email(connection, "3@example.org"),
        ]
        spent = cost(lambda database=database, looks=looks: [database.read(look) for look in looks])  # type: ignore[misc]
        assert spent.statements == len(looks)
        steps.append(spent.steps)
        database.close()
    assert steps[1] <= 2 * steps[0]


def test_an_account_without_a_provider_is_nobodys_subject(tmp_path: Path) -> None:
    database = Database(tmp_path / "tidemill.db")
    filled(database, 2)
    assert database.read(lambda connection: vouching.by_subject(connection, "", "")) is None
    database.write(lambda connection: vouching.vouch(connection, "user-1", "https://other.example", "s0", now=NOW))
    assert database.read(lambda connection: vouching.by_subject(connection, "https://other.example", "s0")) == "user-1"
    found = database.read(lambda connection: vouching.by_email(connection, "1@example.org"))
    assert found == Vouched("user-1", "https://other.example", "s0")
    database.close()
