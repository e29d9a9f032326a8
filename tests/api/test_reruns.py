"""Reruns over HTTP: what is selected, with what it runs, what is refused, and the results of a chain."""

import json
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, insert, select, update

from tests.api.asking import NODE, Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import oldest_key
from tidemill.model.lease import EventKind, OutcomeKind
from tidemill.store import ledger_claim, nodes, ranges
from tidemill.store.ledger_claim import TaskClaim
from tidemill.store.schema import execution as execution_table
from tidemill.store.schema import execution_alias, task, task_range, workspace

PATH = "/v0/jobs/sweep/executions"
ENDS: dict[str, tuple[OutcomeKind, dict[str, Any]]] = {
    "s": (OutcomeKind.SUCCEEDED, {"result": "1"}),
    "x": (OutcomeKind.EXIT_CODE, {"exit_code": 3, "message": "exit code 3"}),
    "y": (OutcomeKind.EXIT_CODE, {"exit_code": 4, "message": "exit code 4"}),
    "m": (OutcomeKind.OUT_OF_MEMORY, {"message": "out of memory"}),
}


@pytest.fixture(autouse=True)
def _job(api: Api) -> None:
    api.deployed(memory=512, timeout=90, maxRetries=0, maxConcurrentTasks=7)


def ended(api: Api, ends: str, **body: object) -> str:
    """An execution whose tasks ended as the letters say (see ENDS)."""
    answer = api.post(PATH, {"tasks": [{"n": number} for number in range(len(ends))], **body})
    execution: str = answer.json()["executionId"]
    api.run_task(execution, len(ends) - 1)
    for index, end in enumerate(ends):
        kind, facts = ENDS[end]
        api.end_task(execution, index, kind, **facts)
    api.later(1)
    return execution


def rerun(api: Api, execution: str, body: object = None, **options: Any) -> httpx2.Response:
    return api.post(f"{PATH}/{execution}/rerun", b"" if body is None else body, **options)


def made(api: Api, execution: str, body: object = None) -> dict[str, Any]:
    """The rerun as GET shows it."""
    answer = rerun(api, execution, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = api.get(f"{PATH}/{answer.json()['executionId']}").json()
    return found


def names(shown: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in shown["tasks"]]


def row(api: Api, execution: str) -> Any:
    query = execution_table.select().where(execution_table.c.id == execution)
    return api.parts.database.read(lambda connection: connection.execute(query).one())


def counted(api: Api) -> list[int]:
    """How many executions, aliases and ranges there are."""
    tables = (execution_table, execution_alias, task_range)
    return api.parts.database.read(
        lambda connection: [connection.scalar(select(func.count()).select_from(one)) or 0 for one in tables]
    )


class TestWhich:
    def test_what_failed_is_the_default_and_keeps_its_names(self, api: Api) -> None:
        origin = ended(api, "sxsm")
        answer = rerun(api, origin)
        assert answer.json().keys() == {"executionId", "id", "jobId", "workspaceId"}
        shown = api.get(f"{PATH}/{answer.json()['executionId']}").json()
        assert names(shown) == ["task-1", "task-3"]
        assert shown["stats"]["total"] == 2
        assert shown["metadata"]["rerunOf"] == origin
        assert api.get(f"{PATH}/{origin}").json()["metadata"]["reruns"] == [answer.json()["executionId"]]
        assert row(api, origin).input_set == row(api, shown["metadata"]["id"]).input_set

    @pytest.mark.parametrize(
        ("select", "indices"),
        [
            ("failed", [1, 2, 4]),
            ("not_succeeded", [1, 2, 4]),
            (None, [1, 2, 4]),
            ({"status": "succeeded"}, [0, 3, 5]),
            ({"status": ["FAILED", "cancelled"]}, [1, 2, 4]),
            ({"exitCode": 3}, [1]),
            ({"exitCode": [3, 4]}, [1, 2]),
            ({"reason": "outofmemory"}, [4]),
            ({"indices": [5, "0-2", "2"]}, [0, 1, 2, 5]),
            ({"status": "failed", "indices": ["2-5"]}, [2, 4]),
            ({"status": "failed", "exitCode": 4, "reason": ["ExitCode"], "indices": [2]}, [2]),
        ],
    )
    def test_filters_hold_all_at_once(self, api: Api, select: object, indices: list[int]) -> None:
        shown = made(api, ended(api, "sxysms"), {"select": select})
        assert names(shown) == [f"task-{index}" for index in indices]

    def test_tasks_that_never_began_count_as_cancelled(self, api: Api) -> None:
        origin = api.post(PATH, {"tasks": [{}] * 3}).json()["executionId"]
        api.delete(f"{PATH}/{origin}")
        assert "0 succeeded, 0 failed, 3 cancelled" in assert_problem(rerun(api, origin), 400, "INVALID")
        assert made(api, origin, {"select": "not_succeeded"})["stats"]["total"] == 3

    @pytest.mark.parametrize(
        ("select", "named"),
        [
            ("all", "select"),
            (7, "select"),
            ({}, "select"),
            ({"status": "pending"}, "select.status"),
            ({"reason": "Sad"}, "select.reason"),
            ({"exitCode": "3"}, "select.exitCode"),
            ({"indices": ["7-3"]}, "7-3"),
            ({"indices": ["a"]}, "select.indices"),
            ({"indices": [-1]}, "select.indices"),
            ({"indices": [True]}, "select.indices"),
            ({"indices": "1,"}, "select.indices"),
            ({"indices": [2]}, "0 to 1"),
            ({"stats": "failed"}, "select.stats"),
            ({"exitCode": 9}, "1 succeeded, 1 failed, 0 cancelled"),
        ],
    )
    def test_a_selection_that_cannot_be_right_is_named(self, api: Api, select: object, named: str) -> None:
        origin = ended(api, "sx")
        before = counted(api)
        assert named in assert_problem(rerun(api, origin, {"select": select}), 400, "INVALID")
        assert counted(api) == before


class TestHow:
    def test_same_keeps_what_the_origin_ran_with(self, api: Api) -> None:
        origin = ended(api, "x", memory=64)
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 30, "maxRetries": 5, "maxConcurrentTasks": 2}}})
        shown, first, active = made(api, origin), row(api, origin), api.revisions("sweep")[-1]
        spec = shown["spec"]
        assert (spec["parallelism"], spec["timeout"], spec["memoryOverride"]) == (7, 90, 64)
        again = row(api, shown["metadata"]["id"])
        for name in ("revision", "image_digest", "max_retries", "memory_mb", "retry_policy"):
            assert getattr(again, name) == getattr(first, name)
        latest = row(api, made(api, origin, {"revision": "latest"})["metadata"]["id"])
        assert (latest.revision, latest.timeout_s, latest.memory_mb, latest.max_retries) == (active, 30, 512, 5)
        kept = row(api, made(api, origin, {"revision": first.revision, "timeout": 77})["metadata"]["id"])
        assert (kept.revision, kept.timeout_s, kept.memory_mb, kept.max_retries) == (first.revision, 77, 512, 0)
        assert "'rev-none'" in assert_problem(rerun(api, origin, {"revision": "rev-none"}), 404, "NOT_FOUND")

    def test_memory_may_go_up_to_the_biggest_node(self, api: Api) -> None:
        origin = ended(api, "m")
        assert made(api, origin, {"memory": 4_000})["spec"]["memoryOverride"] == 4_000
        for wrong in (4_001, 15):
            message = assert_problem(rerun(api, origin, {"memory": wrong}), 400, "INVALID")
            assert "16 to 4000" in message
            assert str(wrong) in message

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"timeout": 86_401}, "timeout"),
            ({"timeout": -1}, "timeout"),
            ({"timeout": "90s"}, "timeout"),
            ({"env": {"A=B": "x"}}, "env"),
            ({"executionId": "short"}, "executionId"),
            ({"revision": 7}, "revision"),
            ([], "object"),
        ],
    )
    def test_members_that_cannot_be_right_are_named(self, api: Api, body: object, named: str) -> None:
        assert named in assert_problem(rerun(api, ended(api, "x"), body), 400, "INVALID")

    def test_env_lies_over_that_of_the_origin_and_is_never_shown(self, api: Api) -> None:
        origin = ended(api, "x", env={"A": "alpha", "B": "beta"})
        shown = made(api, origin, {"env": {"B": "bravo", "C": "charlie"}})
        assert shown["spec"]["envOverride"] == {"A": "***", "B": "***", "C": "***"}
        found = row(api, shown["metadata"]["id"])
        assert json.loads(api.parts.keyring.open(found.env_sealed, f"execution/{found.key}")) == {
            "A": "alpha",
            "B": "bravo",
            "C": "charlie",
        }
        assert not any(word in str(found) for word in ("alpha", "bravo", "charlie"))


class TestRefused:
    def test_an_execution_that_has_not_ended(self, api: Api) -> None:
        origin = api.post(PATH, {"tasks": [{}]}).json()["executionId"]
        answer = rerun(api, origin)
        assert "pending" in assert_problem(answer, 409, "CONFLICT")
        assert answer.headers["x-should-retry"] == "false"

    @pytest.mark.parametrize("spec", [{"enabled": False}, {"revision": {"traffic": 0}}])
    def test_a_job_that_takes_no_executions(self, api: Api, spec: dict[str, Any]) -> None:
        origin = ended(api, "x")
        api.put("/v0/jobs/sweep", {"spec": spec})
        answer = rerun(api, origin)
        assert_problem(answer, 409, "NOT_RUNNABLE")
        assert answer.headers["x-should-retry"] == "false"

    def test_an_execution_that_is_not_there(self, api: Api) -> None:
        assert_problem(rerun(api, "no-such-execution"), 404, "NOT_FOUND")
        other = api.post(f"{PATH}/{ended(api, 'x')}/rerun", b"", headers={"Authorization": "Bearer nobody"})
        assert_problem(other, 401, "UNAUTHORIZED")

    def test_one_of_a_job_that_was_deleted(self, api: Api) -> None:
        origin = ended(api, "x")
        api.delete("/v0/jobs/sweep")
        assert rerun(api, origin).status_code in {404, 409}


class TestAgain:
    @pytest.mark.parametrize(
        ("body", "headers"),
        [({"executionId": "again-0001"}, {}), ({"id": "message-1"}, {}), ({}, {"Idempotency-Key": "key-1"})],
    )
    def test_the_same_request_is_the_same_rerun(
        self, api: Api, body: dict[str, object], headers: dict[str, str]
    ) -> None:
        origin = ended(api, "xx")
        first = rerun(api, origin, body, headers=headers)
        before = counted(api)
        api.put("/v0/jobs/sweep", {"spec": {"enabled": False}})
        again = rerun(api, origin, body, headers=headers)
        assert (again.status_code, again.json()) == (200, first.json())
        for more in ({"select": {"indices": [1]}}, {"memory": 64}, {"timeout": 5}, {"env": {"A": "1"}}):
            other = rerun(api, origin, {**body, **more}, headers=headers)
            assert_problem(other, 409, "CONFLICT")
            assert other.headers["x-should-retry"] == "false"
        assert counted(api) == before

    def test_what_stops_between_the_units_leaves_nothing_that_can_be_seen(self, api: Api) -> None:
        origin = ended(api, "x")
        _scatter(api, origin, 9_000)
        blocker = api.post(PATH, {"tasks": [{}]}).json()["executionId"]
        quota = update(workspace).where(workspace.c.name == "main").values(max_parallel_executions=1)
        api.parts.database.write(lambda connection: connection.execute(quota))
        before = counted(api)
        # only the last unit finds the workspace full: the units before it are written by then
        headers = {"Idempotency-Key": "once"}
        assert_problem(rerun(api, origin, {"allowQueue": False}, headers=headers), 429, "OVER_QUOTA")
        executions, aliases, rows = counted(api)
        assert [executions, aliases] == before[:2]
        assert rows == before[2] + 4_500
        assert "reruns" not in api.get(f"{PATH}/{origin}").json()["metadata"]
        api.delete(f"{PATH}/{blocker}")
        answer = rerun(api, origin, {"allowQueue": False}, headers=headers)
        assert api.get(f"{PATH}/{answer.json()['executionId']}").json()["stats"]["total"] == 4_500
        oldest = oldest_key(int(api.now[0].timestamp() * 1000) + 1)
        half = api.parts.database.read(lambda connection: ranges.find_unmade(connection, 0, oldest))
        assert half is not None
        drop = partial(ranges.drop_unmade, execution=half, limit=1_000)
        assert [api.parts.database.write(drop) for _ in range(6)] == [1_000, 1_000, 1_000, 1_000, 500, 0]
        assert api.parts.database.read(lambda connection: ranges.find_unmade(connection, 0, oldest)) is None
        assert counted(api)[2] == before[2] + 4_500
        kept = row(api, answer.json()["executionId"]).key
        left = select(func.count()).select_from(task_range).where(task_range.c.execution == kept)
        assert api.parts.database.read(lambda connection: connection.scalar(left)) == 4_500


class TestChain:
    def lines(self, api: Api, execution: str) -> list[dict[str, Any]]:
        answer = api.get(f"{PATH}/{execution}/results?chain=true")
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.content.splitlines()]

    def test_the_newest_success_of_each_index_and_where_it_came_from(self, api: Api) -> None:
        origin = ended(api, "sxxs")
        again = made(api, origin)["metadata"]["id"]
        now, key = api.now[0], api.key(again)
        claims = [TaskClaim(execution=key, node=NODE, count=2)]
        term = api.parts.database.write(lambda connection: nodes.take_term(connection, "u", holder="test", now=now))
        api.parts.database.write(lambda connection: ledger_claim.claim(connection, claims, term=term, now=now))
        for index in (1, 2):
            api.report(again, index, EventKind.STARTED, None)
        api.end_task(again, 1, result='"fixed"')
        api.end_task(again, 2, OutcomeKind.EXIT_CODE, exit_code=5, message="exit code 5")
        for which in (origin, again):
            found = self.lines(api, which)
            assert [(one["index"], one["status"], one["executionId"]) for one in found] == [
                (0, "succeeded", origin),
                (1, "succeeded", again),
                (2, "failed", again),
                (3, "succeeded", origin),
            ]
            assert found[1]["result"] == "fixed"
            assert found[2]["error"] == {"reason": "ExitCode", "message": "exit code 5"}
        own = [json.loads(line) for line in api.get(f"{PATH}/{again}/results").content.splitlines()]
        assert [one["index"] for one in own] == [1, 2]
        assert "executionId" not in own[0]

    def test_pages_are_cut_by_tasks_and_by_size(self, api: Api) -> None:
        origin = ended(api, "s" * 6)
        big = json.dumps("b" * 1_000_000)
        again = made(api, origin, {"select": {"status": "succeeded"}})["metadata"]["id"]
        now, key = api.now[0], api.key(again)
        term = api.parts.database.write(lambda connection: nodes.take_term(connection, "u", holder="test", now=now))
        for index in range(6):
            claim = partial(ledger_claim.claim, claims=[TaskClaim(execution=key, node=NODE)], term=term, now=now)
            api.parts.database.write(claim)
            api.report(again, index, EventKind.STARTED, None)
            api.end_task(again, index, result=big)
        found = self.lines(api, origin)
        assert [one["index"] for one in found] == list(range(6))
        assert {one["executionId"] for one in found} == {again}
        assert all(one["result"] == json.loads(big) for one in found)

    def test_a_chain_is_not_followed(self, api: Api) -> None:
        answer = api.get(f"{PATH}/{ended(api, 'x')}/results?chain=true&follow=true")
        assert "follow" in assert_problem(answer, 400, "INVALID")


def _scatter(api: Api, execution: str, total: int) -> None:
    """Make an execution look as if every second of ``total`` tasks had failed."""
    found = row(api, execution)
    values = dict(
        api.parts.database.read(lambda c: c.execute(task.select().where(task.c.execution == found.key)).one())._mapping
    )
    rows = [{**values, "idx": index, "state": "succeeded" if index % 2 else "failed"} for index in range(1, total)]

    def work(connection: Any) -> None:
        connection.execute(insert(task), rows)
        counts = {"total": total, "next_index": total, "succeeded": total // 2, "failed": total // 2}
        connection.execute(update(execution_table).where(execution_table.c.key == found.key).values(**counts))

    api.parts.database.write(work)
