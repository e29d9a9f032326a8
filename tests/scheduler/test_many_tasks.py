"""A pass of the scheduler costs what runs and what is free, never what waits."""

from typing import Final

import pytest
from sqlalchemy import Connection, text, update

from tests.costs import Cost, cost
from tidemill.model.ids import ExecutionKey
from tidemill.store import schema
from tidemill.testing.sim import Given, Sim

FEW: Final = 50
MANY: Final = 30_000
WAITING: Final = """
INSERT INTO task (execution, idx, state, attempt, charged, not_before, created_at, updated_at)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :total)
SELECT :key, i, 'pending', 1, 1, :due + i, 0, 0 FROM n"""


def passes(sim: Sim, count: int) -> Cost:
    """What so many passes ask of the database, tasks ending and beginning meanwhile."""

    def work() -> None:
        for _ in range(count):
            sim.tick()
            sim.move(1)

    return cost(work)


def waiting(sim: Sim, total: int, *, due: float) -> ExecutionKey:
    """An execution of which ``total`` tasks have failed once, and wait for a retry from ``due`` seconds on."""
    key = sim.submit(Given(tasks=FEW, max_retries=1))
    micros = int((sim.clock.seconds() + due) * 1_000_000)

    def write(connection: Connection) -> None:
        connection.execute(text(WAITING), {"key": key, "total": total, "due": micros})
        table = schema.execution
        change = {"state": "running", "total": total, "next_index": total, "waiting": total}
        connection.execute(update(table).where(table.c.key == key).values(change))

    sim.database.write(write)
    return key


def test_a_pass_costs_the_same_when_more_tasks_have_not_begun(sim: Sim) -> None:
    sim.submit(Given(tasks=FEW))
    few = passes(sim, 5)
    sim.reset()
    sim.submit(Given(tasks=MANY))
    flat(few, passes(sim, 5))


@pytest.mark.parametrize("due", [-60, 3_600])
def test_a_pass_costs_the_same_when_more_retries_wait(sim: Sim, due: float) -> None:
    waiting(sim, FEW, due=due)
    few = passes(sim, 5)
    sim.reset()
    waiting(sim, MANY, due=due)
    flat(few, passes(sim, 5))


def flat(few: Cost, many: Cost) -> None:
    assert few.statements > 0
    assert many.statements <= few.statements, (few, many)
    assert many.steps < 2 * few.steps, (few, many)


def test_while_tasks_come_and_go_nothing_is_told_of_their_execution_but_its_turns(sim: Sim) -> None:
    """Who waits for an execution wakes for its start and its end, not for each of its passes."""
    sim.submit(Given(tasks=40, parallelism=4))
    passes(sim, 2)
    news, milestones = sim.database.news.count, sim.database.milestones.count
    passes(sim, 4)
    assert sim.database.news.count > news
    assert sim.database.milestones.count == milestones
    sim.run()
    assert sim.database.milestones.count == milestones + 1
