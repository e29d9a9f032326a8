"""What a request costs does not follow how many tasks an execution has: statements, and steps inside SQLite."""

from typing import Final

import httpx2
import pytest
from sqlalchemy import Connection, text, update

from tests.api.asking import Api
from tests.costs import Cost, cost
from tidemill.store import schema

PATH: Final = "/v0/jobs/sweep/executions"
FEW: Final = 2_000
MANY: Final = 40_000


def made(api: Api, tasks: int, path: str = PATH) -> str:
    answer = api.post(path, {"tasks": [{}] * tasks})
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["executionId"]
    return found


# made inside SQLite: a row a time through Python takes seconds
COUNT: Final = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :total)"
ROWS: Final = f"""
INSERT INTO task (execution, idx, state, attempt, created_at, started_at, ended_at, updated_at) {COUNT}
SELECT :key, i * :step, CASE WHEN i + 1 < :total THEN 'succeeded' ELSE 'failed' END, 1, 0, 0, 0, 0 FROM n"""
RANGES: Final = f"""
INSERT INTO task_range (execution, first_position, first_index, count) {COUNT} SELECT :key, i, i * :step, 1 FROM n"""


def with_rows(api: Api, execution: str, total: int, *, rerun_of: str = "") -> str:
    """All of ``total`` tasks have ended, the last one failed; those of a rerun have every other index."""
    key = api.key(execution)
    values = {"key": key, "total": total, "step": 2 if rerun_of else 1}
    change = {"state": "failed", "next_index": total, "succeeded": total - 1, "failed": 1, "total": total}

    def write(connection: Connection) -> None:
        connection.execute(text(ROWS), values)
        if rerun_of:
            connection.execute(text(RANGES), values)
        table = schema.execution
        origin = api.key(rerun_of) if rerun_of else None
        connection.execute(update(table).where(table.c.key == key).values(**change, origin=origin))

    api.parts.database.write(write)
    return execution


@pytest.fixture
def deployed(api: Api) -> Api:
    api.deployed()
    return api


def pair(api: Api, kind: str) -> tuple[str, str]:
    """Executions with few and with many tasks: all waiting, all ended, or all ended of a rerun."""
    if kind == "waiting":
        return made(api, FEW), made(api, MANY)
    origin = made(api, 1) if kind == "rerun" else ""
    few, many = (with_rows(api, made(api, 1), total, rerun_of=origin) for total in (FEW, MANY))
    return few, many


READS: Final = (
    "",
    "/tasks",
    "/tasks?limit=200",
    "/tasks?limit=200&sort=name:desc",
    "/tasks?status=failed",
    "/tasks?status=failed&sort=name:desc",
    "/tasks?status=pending",
    "/tasks?status=running,failed",
    "/tasks?status=cancelled",
    "/tasks?q=99",
    "/tasks?q=99&sort=name:desc",
    "/tasks?q=task-1",
    "/tasks?q=1999&status=failed",
    "/tasks?q=nothing",
    "/tasks/task-6",
)


@pytest.mark.parametrize("kind", ["waiting", "ended", "rerun"])
def test_no_read_of_an_execution_costs_more_when_it_has_more_tasks(deployed: Api, kind: str) -> None:
    few, many = pair(deployed, kind)
    for read in READS:
        for_few, for_many = (asked(deployed, f"{PATH}/{execution}{read}") for execution in (few, many))
        assert for_many.statements <= 12, read
        flat(read, for_few, for_many)


def test_a_list_of_executions_costs_no_more_when_they_have_more_tasks(deployed: Api) -> None:
    deployed.deployed("other")
    other = PATH.replace("sweep", "other")
    for _ in range(3):
        with_rows(deployed, made(deployed, 1), FEW)
        with_rows(deployed, made(deployed, 1, other), MANY)
    for read in ("", "?sort=name:asc", "?limit=2"):
        flat(read, asked(deployed, PATH + read), asked(deployed, other + read))


def test_results_pass_over_all_tasks_that_have_not_begun(deployed: Api) -> None:
    few, many = (asked(deployed, f"{PATH}/{execution}/results") for execution in pair(deployed, "waiting"))
    flat("results", few, many)


@pytest.mark.parametrize("force", ["", "?force=true"])
def test_a_cancel_costs_no_more_when_more_tasks_wait(deployed: Api, force: str) -> None:
    executions = pair(deployed, "waiting")
    few, many = (cost(lambda path=path: good(deployed.delete(path))) for path in paths(executions, force))  # type: ignore[misc]  # bound to this turn
    flat("cancel", few, many)
    again, many_again = (asked(deployed, path) for path in paths(executions, "/tasks?status=cancelled"))
    flat("cancelled", again, many_again)


def paths(executions: tuple[str, str], rest: str) -> list[str]:
    return [f"{PATH}/{execution}{rest}" for execution in executions]


def asked(api: Api, path: str) -> Cost:
    return cost(lambda: good(api.get(path)))


def good(answer: httpx2.Response) -> httpx2.Response:
    assert answer.status_code == 200, answer.text
    return answer


def flat(what: str, few: Cost, many: Cost) -> None:
    """Walking ``MANY`` rows takes ten times as many steps as is allowed here."""
    assert many.statements <= few.statements, (what, few, many)
    assert many.steps < 2 * few.steps + 20_000, (what, few, many)
