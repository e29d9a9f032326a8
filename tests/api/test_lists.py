"""Pages of lists: whole while rows come and go, bound to their query, and as cheap at the end as at the beginning."""

import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text

from tests.api.asking import MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tests.costs import Cost, cost

JOBS: Final = "/v0/jobs"
RUNS: Final = "/v0/jobs/sweep/executions"
SORTS: Final = ["createdAt:desc", "createdAt:asc", "name:asc", "name:desc"]
MANY: Final = 2_000

COUNT: Final = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :total)"


def names(page: dict[str, Any]) -> list[str]:
    return [each["metadata"].get("name") or each["metadata"]["id"] for each in page["data"]]


def add_job(api: Api, name: str, **metadata: Any) -> None:
    assert api.post(f"{JOBS}?upload=true", {"metadata": {"name": name, **metadata}, "spec": {}}).status_code == 200
    api.later(1)


def walk(api: Api, path: str, between: Callable[[int], None] = lambda _: None) -> list[str]:
    """All that the pages show in order; ``between`` is called with the number of each page that has been read."""
    seen, cursor, number = list[str](), "", 0
    while True:
        page = api.get(f"{path}&cursor={cursor}").json()
        seen += names(page)
        assert page["meta"]["hasMore"] is bool(page["meta"]["nextCursor"])
        if not (cursor := page["meta"]["nextCursor"]):
            return seen
        number += 1
        between(number)


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_jobs_have_no_gap_and_no_double_while_jobs_come_and_go(api: Api, sort: str) -> None:
    kept = [f"b-{number}" for number in range(9)]
    gone = ["c-1", "c-2"]
    for name in (kept[0], gone[0], *kept[1:8], gone[1], kept[8]):
        add_job(api, name)

    def between(number: int) -> None:
        if number > 3:
            return  # else an ascending list would never end
        add_job(api, f"a-{number}")
        add_job(api, f"z-{number}")
        if number <= len(gone):
            api.delete(f"{JOBS}/{gone[number - 1]}")

    seen = walk(api, f"{JOBS}?limit=2&sort={sort}", between)
    assert len(seen) == len(set(seen))
    ordered = [name for name in seen if name in kept]
    assert ordered == (kept if sort.endswith(":asc") else kept[::-1])


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_executions_have_no_gap_and_no_double_while_they_come(api: Api, sort: str) -> None:
    api.deployed()
    kept = [f"between-{number}" for number in range(7)]
    for name in kept:
        api.post(RUNS, {"executionId": name})
        api.later(1)

    def between(number: int) -> None:
        for letter in "az" * (number <= 3):
            api.post(RUNS, {"executionId": f"{letter}-later-{number}"})
        api.later(1)

    seen = walk(api, f"{RUNS}?limit=2&sort={sort}", between)
    assert len(seen) == len(set(seen))
    assert [name for name in seen if name in kept] == (kept if sort.endswith(":asc") else kept[::-1])


def test_of_the_same_moment_the_key_decides(api: Api) -> None:
    for number in range(7):
        answer = api.post(f"{JOBS}?upload=true", {"metadata": {"name": f"tied-{number}"}, "spec": {}})
        assert answer.status_code == 200
    down, up = (walk(api, f"{JOBS}?limit=2&sort=createdAt:{way}") for way in ("desc", "asc"))
    assert down == up[::-1]
    assert len(set(up)) == 7


def test_a_cursor_holds_in_its_own_workspace_only_and_for_any_key_of_it(api: Api) -> None:
    for number in range(3):
        add_job(api, f"job-{number}")
    cursor = api.get(f"{JOBS}?limit=1").json()["meta"]["nextCursor"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    assert api.get(f"{JOBS}?limit=1&cursor={cursor}", headers={"Authorization": f"Bearer {MEMBER}"}).status_code == 200
    other = api.get(f"{JOBS}?limit=1&cursor={cursor}", headers={"Authorization": f"Bearer {STRANGER}"})
    assert "cursor" in assert_problem(other, 400, "INVALID")
    # one of another list, and one changed in any place
    api.deployed()
    assert_problem(api.get(f"{RUNS}?cursor={cursor}"), 400, "INVALID")
    for place in range(0, len(cursor) - 1, 3):
        forged = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        assert_problem(api.get(f"{JOBS}?limit=1&cursor={forged}"), 400, "INVALID")


def test_q_finds_parts_of_names_and_of_keys_and_values_of_labels(api: Api) -> None:
    add_job(api, "night", displayName="Übung 7%", labels={"Team_Key": "Blue_Value"})
    add_job(api, "day")
    for asked in ("IGH", "team_k", "ue_va", "7%25", "%C3%BCbung", "%20%20night%20"):
        assert names(api.get(f"{JOBS}?q={asked}").json()) == ["night"], asked
    # these are letters and no patterns
    for asked in ("%25%25", "__", "n_ght", "teamXkey", "blue%00"):
        assert names(api.get(f"{JOBS}?q={asked}").json()) == [], asked
    assert len(api.get(f"{JOBS}?q=%20n%20").json()["data"]) == 2  # shorter than two: no filter


def test_the_search_goes_through_pages_and_total_counts_the_workspace(api: Api) -> None:
    for number in range(9):
        add_job(api, f"{'odd' if number % 2 else 'even'}-{number}")
    assert walk(api, f"{JOBS}?limit=2&q=odd&sort=name:asc") == ["odd-1", "odd-3", "odd-5", "odd-7"]
    assert api.get(f"{JOBS}?limit=2&q=odd").json()["meta"]["total"] == 9


def test_the_end_is_one_page_in_the_order_of_the_sort(api: Api) -> None:
    for number in range(5):
        add_job(api, f"job-{number}")
    for sort, last in (("createdAt:desc", ["job-1", "job-0"]), ("createdAt:asc", ["job-3", "job-4"])):
        page = api.get(f"{JOBS}?limit=2&anchor=end&sort={sort}").json()
        assert (names(page), page["meta"]["hasMore"], page["meta"]["nextCursor"]) == (last, False, "")
    assert_problem(api.get(f"{JOBS}?anchor=end&sort=name:asc"), 400, "INVALID")


def test_only_the_list_of_jobs_knows_an_anchor(api: Api) -> None:
    api.deployed()
    tasks: dict[str, Any] = {"tasks": [{}, {}, {}]}
    ids = [api.post(RUNS, tasks).json()["executionId"] for _ in range(3)]
    for path in (RUNS, f"{RUNS}/{ids[0]}/tasks"):
        for anchor in ("end", "nothing"):
            page = api.get(f"{path}?limit=2&anchor={anchor}").json()
            assert len(page["data"]) == 2
            assert page["meta"]["hasMore"] is True
            assert walk(api, f"{path}?limit=2&anchor={anchor}") == walk(api, f"{path}?limit=2")


def test_a_limit_past_the_most_is_the_most_however_long_its_number(api: Api) -> None:
    for value in ("201", "999999999", "9" * 30):
        assert api.get(f"{JOBS}?limit={value}").status_code == 200
    assert "1 to 200" in assert_problem(api.get(f"{JOBS}?limit=0"), 400, "INVALID")


@pytest.mark.parametrize("version", [None, "2026-04-16", "2026-04-20.preview", "2026-04-28"])
def test_pages_of_tasks_can_be_walked_and_searched_in_every_version(api: Api, version: str | None) -> None:
    api.deployed()
    path = f"{RUNS}/{api.post(RUNS, {'tasks': [{}] * 5}).json()['executionId']}/tasks"
    api.headers = {name: text for name, text in api.headers.items() if name != "Blaxel-Version"}
    api.headers |= {} if version is None else {"Blaxel-Version": version}
    assert walk(api, f"{path}?limit=2") == [f"task-{index}" for index in range(5)]
    assert walk(api, f"{path}?limit=2&sort=name:desc") == [f"task-{index}" for index in (4, 3, 2, 1, 0)]
    assert walk(api, f"{path}?q=task-3") == ["task-3"]
    for wrong in ("sort=size", "cursor=none", f"q={'x' * 201}"):
        assert_problem(api.get(f"{path}?{wrong}"), 400, "INVALID")


def test_old_versions_know_no_sort_no_search_and_no_cursor(api: Api) -> None:
    for name in ("b", "a", "c"):
        add_job(api, name)
    for version in (None, "2026-04-16", "2026-04-20", "2026-04-16.preview"):
        bare = api.get(f"{JOBS}?sort=name:asc&q=bb&cursor=x&anchor=x", headers={"Blaxel-Version": version}).json()
        assert [each["metadata"]["name"] for each in bare] == ["c", "a", "b"]


def many_jobs(api: Api, total: int) -> None:
    """Copies of the job sweep, made inside SQLite, each a microsecond older than the one before."""

    def write(connection: Connection) -> None:
        row = connection.execute(text("SELECT * FROM job WHERE name = 'sweep'")).mappings().one()
        changed = {"key": "key + n.i", "name": "'many-' || printf('%06d', n.i)", "created_at": "created_at - n.i"}
        cells = ", ".join(changed.get(column, column) for column in row)
        columns = ", ".join(row.keys())
        query = f"INSERT INTO job ({columns}) {COUNT} SELECT {cells} FROM job, n WHERE job.name = 'sweep'"
        connection.execute(text(query), {"total": total})

    api.parts.database.write(write)


def many_executions(api: Api, total: int) -> None:
    assert api.post(RUNS, {"executionId": "the-first"}).status_code == 200
    api.delete(f"{RUNS}/the-first")

    def write(connection: Connection) -> None:
        row = connection.execute(text("SELECT * FROM execution WHERE id = 'the-first'")).mappings().one()
        changed = {"key": "key + n.i", "id": "'many-' || printf('%06d', n.i)", "created_at": "created_at - n.i"}
        cells = ", ".join(changed.get(column, f"execution.{column}") for column in row)
        cells = cells.replace("key + n.i", "execution.key + n.i").replace(
            "created_at - n.i", "execution.created_at - n.i"
        )
        columns = ", ".join(row.keys())
        query = f"INSERT INTO execution ({columns}) {COUNT} SELECT {cells} FROM execution, n WHERE id = 'the-first'"
        connection.execute(text(query), {"total": total})

    api.parts.database.write(write)


def page_cost(api: Api, path: str) -> Cost:
    assert api.get(path).status_code == 200
    return cost(lambda: api.get(path))


@pytest.mark.parametrize("sort", SORTS)
def test_the_last_page_of_many_jobs_costs_what_the_first_does(api: Api, sort: str) -> None:
    api.deployed()
    many_jobs(api, MANY)
    first = api.get(f"{JOBS}?limit=20&sort={sort}").json()["meta"]["nextCursor"]
    cursor = first
    while cursor:
        last, cursor = cursor, api.get(f"{JOBS}?limit=200&sort={sort}&cursor={cursor}").json()["meta"]["nextCursor"]
    early = page_cost(api, f"{JOBS}?limit=20&sort={sort}&cursor={first}")
    late = page_cost(api, f"{JOBS}?limit=20&sort={sort}&cursor={last}")
    assert late.statements == early.statements
    assert late.steps < early.steps * 1.5 + 500
    assert early.steps < 10_000


@pytest.mark.parametrize("sort", SORTS)
def test_the_last_page_of_many_executions_costs_what_the_first_does(api: Api, sort: str) -> None:
    api.deployed()
    many_executions(api, MANY)
    first = api.get(f"{RUNS}?limit=20&sort={sort}").json()["meta"]["nextCursor"]
    cursor = first
    while cursor:
        last, cursor = cursor, api.get(f"{RUNS}?limit=100&sort={sort}&cursor={cursor}").json()["meta"]["nextCursor"]
    early = page_cost(api, f"{RUNS}?limit=20&sort={sort}&cursor={first}")
    late = page_cost(api, f"{RUNS}?limit=20&sort={sort}&cursor={last}")
    assert late.statements == early.statements
    assert late.steps < early.steps * 1.5 + 500
    assert early.steps < 20_000


def test_a_search_that_finds_nothing_reads_each_job_once_and_nothing_else_of_it(api: Api) -> None:
    api.deployed()
    many_jobs(api, MANY)
    found = page_cost(api, f"{JOBS}?q=nothing-like-it")
    assert names(api.get(f"{JOBS}?q=nothing-like-it").json()) == []
    assert found.statements < 10
    assert found.steps < 40 * MANY


def test_a_search_among_many_executions_is_one_statement_more_for_none(api: Api) -> None:
    api.deployed()
    many_executions(api, MANY)
    found = page_cost(api, f"{RUNS}?q=nothing-like-it")
    assert found.statements < 10
    assert found.steps < 40 * MANY
