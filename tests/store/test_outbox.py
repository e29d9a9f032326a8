"""What looking into the outbox costs: as much as there are receivers, however much waits for one of them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.costs import Cost, cost
from tidemill.model.ids import JobKey
from tidemill.model.states import DeliveryState
from tidemill.store import outbox, schema
from tidemill.store.database import Database
from tidemill.store.outbox import DeliveryPage, Pick

NOW = datetime(2026, 6, 1, tzinfo=UTC)
STATS = {"total": 1, "pending": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 0, "retried": 0}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "tidemill.db", synchronous="OFF")
    yield found
    found.close()


def fill(database: Database, first: int, count: int, receiver: str, state: DeliveryState) -> None:
    """``receiver`` may have a workspace before it, WORKSPACE/HOST:PORT."""
    workspace, _, host = receiver.rpartition("/")
    pending = state is DeliveryState.PENDING
    rows = [
        {
            "execution": key,
            "execution_id": f"execution-{key}",
            "workspace": workspace or "main",
            "job": 1,
            "trigger_id": "t1",
            "receiver": host,
            "state": state.value,
            "status": "succeeded",
            "code": 200,
            "stats": STATS,
            "due_at": NOW + timedelta(seconds=key) if pending else None,
            "settled_at": None if pending else NOW + timedelta(seconds=key),
            "created_at": NOW,
        }
        for key in range(first, first + count)
    ]
    database.write(lambda connection: connection.execute(schema.outbox.insert(), rows))


def test_what_waits_for_one_receiver_costs_the_others_nothing(database: Database) -> None:
    costs = list[Cost]()
    first = 1
    for many in (10, 5_000):
        for receiver, state in (
            ("one:80", DeliveryState.PENDING),
            ("two:80", DeliveryState.PENDING),
            ("other/one:80", DeliveryState.PENDING),
            ("third/three:80", DeliveryState.PENDING),
            ("two:80", DeliveryState.PARKED),
            ("two:80", DeliveryState.DELIVERED),
        ):
            fill(database, first, many, receiver, state)
            first += many

        def measured() -> None:
            with pytest.raises(AssertionError, match="undone"):
                database.write(undone)

        costs.append(cost(measured))
    few, lots = costs
    assert lots.statements == few.statements
    # deeper trees, and no more than that
    assert lots.steps < few.steps * 2


def undone(connection: Connection) -> None:
    """Everything that is asked of the outbox again and again, and what a page and a sweep read of it."""
    far = NOW + timedelta(days=9)
    found = [(place.workspace, place.receiver) for place in outbox.places(connection)]
    assert found == [("main", "one:80"), ("main", "two:80"), ("other", "one:80"), ("third", "three:80")]
    assert len(outbox.claim(connection, [Pick(workspace="main", receiver="two:80", count=2)], now=far)) == 2
    for states in ({DeliveryState.PARKED}, set[DeliveryState]()):
        page = DeliveryPage(job=JobKey(1), states=frozenset(states), limit=5)
        assert len(outbox.find_page(connection, page)) == 5
    outbox.replay(connection, JobKey(1), "execution-1", now=far)
    assert outbox.forget(connection, NOW + timedelta(seconds=46), 5) == 5
    raise AssertionError("undone")


def test_a_sweep_takes_what_was_settled_long_ago_and_nothing_else(database: Database) -> None:
    fill(database, 1, 10, "one:80", DeliveryState.PENDING)
    fill(database, 11, 10, "one:80", DeliveryState.PARKED)
    fill(database, 21, 10, "one:80", DeliveryState.DELIVERED)
    sweep = partial(outbox.forget, cutoff=NOW + timedelta(seconds=25), limit=6)
    assert [database.write(sweep) for _ in range(4)] == [6, 6, 2, 0]
    left = database.read(
        lambda connection: [key for key, _ in outbox.find_page(connection, DeliveryPage(job=JobKey(1), limit=100))]
    )
    assert left == [*range(30, 24, -1), *range(10, 0, -1)]
