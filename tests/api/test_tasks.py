"""Tasks of an execution and their results."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import Connection, insert

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.lease import OutcomeKind
from tidemill.store.schema import result as result_table

PATH = "/v0/jobs/sweep/executions"


def started(api: Api, count: int) -> str:
    api.deployed(maxConcurrentTasks=1000)
    answer = api.post(PATH, {"tasks": [{"n": number} for number in range(count)]})
    found: str = answer.json()["executionId"]
    return found


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content == b"" or answer.content.endswith(b"\n")
    return [json.loads(line) for line in answer.content.splitlines()]


class TestTasks:
    def names(self, api: Api, execution: str, query: str = "") -> list[str]:
        page = api.get(f"{PATH}/{execution}/tasks?{query}").json()
        return [task["metadata"]["name"] for task in page["data"]]

    @pytest.mark.parametrize("version", [None, "2026-04-28"])
    def test_pages_hold_every_task_once_with_rows_and_without(self, api: Api, version: str | None) -> None:
        execution = started(api, 5)
        api.run_task(execution, 1)
        seen, cursor = list[str](), ""
        while True:
            page = api.get(
                f"{PATH}/{execution[:8]}/tasks?limit=2&cursor={cursor}",
                headers={"Blaxel-Version": version} if version else {},
            ).json()
            seen += [task["metadata"]["name"] for task in page["data"]]
            assert page["meta"]["total"] == 5
            cursor = page["meta"]["nextCursor"]
            if not page["meta"]["hasMore"]:
                break
        assert (seen, cursor) == ([f"task-{index}" for index in range(5)], "")

    def test_they_are_listed_by_index_whatever_the_sort(self, api: Api) -> None:
        execution = started(api, 12)
        forward = [f"task-{index}" for index in range(12)]
        assert self.names(api, execution, "sort=name:asc") == forward
        assert self.names(api, execution, "sort=createdAt:asc") == forward
        assert self.names(api, execution, "sort=createdAt:desc") == forward[::-1]
        page = api.get(f"{PATH}/{execution}/tasks?sort=name:desc&limit=5").json()
        assert page["data"][-1]["metadata"]["name"] == "task-7"
        rest = self.names(api, execution, f"sort=name:desc&cursor={page['meta']['nextCursor']}")
        assert rest == forward[6::-1]

    def test_search_reads_digits(self, api: Api) -> None:
        execution = started(api, 130)
        assert self.names(api, execution, "q=12") == ["task-12", "task-112", *(f"task-{n}" for n in range(120, 130))]
        assert self.names(api, execution, "q=TASK-7&limit=2") == ["task-7", "task-70"]
        assert self.names(api, execution, "q=nothing") == []
        assert len(self.names(api, execution, "q=task")) == 50

    def test_states_filter_rows_and_the_rowless(self, api: Api) -> None:
        execution = started(api, 6)
        api.run_task(execution, 3)
        api.end_task(execution, 0)
        api.end_task(execution, 1, OutcomeKind.EXIT_CODE, exit_code=1)
        assert self.names(api, execution, "status=succeeded,FAILED") == ["task-0", "task-1"]
        assert self.names(api, execution, "status=running") == ["task-2", "task-3"]
        assert self.names(api, execution, "status=pending") == ["task-4", "task-5"]
        api.delete(f"{PATH}/{execution}")
        assert self.names(api, execution, "status=pending") == []
        assert self.names(api, execution, "status=cancelled") == ["task-4", "task-5"]
        assert_problem(api.get(f"{PATH}/{execution}/tasks?status=happy"), 400, "INVALID")

    def test_a_filter_walks_past_many_tasks_that_do_not_match(self, api: Api) -> None:
        execution = started(api, 3_500)
        assert self.names(api, execution, "q=task-3499") == ["task-3499"]
        assert self.names(api, execution, "status=failed") == []
        assert self.names(api, execution, "status=pending&limit=2") == ["task-0", "task-1"]

    def test_a_cursor_is_bound_to_its_execution(self, api: Api) -> None:
        first = started(api, 5)
        second = api.post(PATH, {"tasks": [{}] * 5}).json()["executionId"]
        cursor = api.get(f"{PATH}/{first}/tasks?limit=2").json()["meta"]["nextCursor"]
        assert_problem(api.get(f"{PATH}/{second}/tasks?cursor={cursor}"), 400, "INVALID")

    def test_times_and_conditions_tell_how_a_task_went(self, api: Api) -> None:
        execution = started(api, 2)
        api.later(1)
        api.run_task(execution, 1)
        api.later(1)
        api.end_task(execution, 0)
        api.end_task(execution, 1, OutcomeKind.TIMED_OUT, message="took longer than 900 s")
        good, bad = api.get(f"{PATH}/{execution}/tasks").json()["data"]
        assert good["status"] == "succeeded"
        assert good["metadata"]["createdAt"] <= good["metadata"]["startedAt"] < good["metadata"]["completedAt"]
        assert bad["status"] == "failed"
        (condition,) = bad["conditions"]
        assert condition["type"] == condition["reason"] == "Timeout"
        assert "900 s" in condition["message"]


class TestResults:
    def put(self, api: Api, execution: str, index: int, text: bytes | None) -> None:
        api.end_task(execution, index, result=None if text is None else text.decode())

    def test_lines_come_in_index_order_for_tasks_that_have_ended(self, api: Api) -> None:
        execution = started(api, 5)
        api.run_task(execution, 3)
        self.put(api, execution, 3, b'{"score": 1.50}')
        self.put(api, execution, 0, None)
        api.end_task(execution, 1, OutcomeKind.EXIT_CODE, exit_code=3, message="exit code 3")
        first, second, third = lines(api.get(f"{PATH}/{execution}/results"))
        assert (first["index"], first["status"], first["result"], first["attempts"]) == (0, "succeeded", None, 1)
        assert first["startedAt"] <= first["completedAt"]
        assert "error" not in first
        assert (second["index"], second["status"], second["result"]) == (1, "failed", None)
        assert second["error"]["reason"] == "ExitCode"
        assert "3" in second["error"]["message"]
        assert (third["index"], third["result"]) == (3, {"score": 1.5})

    def test_a_result_is_repeated_as_the_task_wrote_it_on_one_line(self, api: Api) -> None:
        execution = started(api, 1)
        api.run_task(execution, 0)
        self.put(api, execution, 0, '{\r\n "big": 123456789012345678901234567890,\n "x": 1.50, "é": "\\n"}'.encode())
        body = api.get(f"{PATH}/{execution}/results").content
        assert body.count(b"\n") == 1
        assert b"123456789012345678901234567890" in body
        assert b"1.50" in body
        assert json.loads(body)["result"]["é"] == "\n"

    def test_cancelled_tasks_have_ended_too(self, api: Api) -> None:
        execution = started(api, 2)
        api.delete(f"{PATH}/{execution}")
        for line in lines(api.get(f"{PATH}/{execution}/results")):
            assert (line["status"], line["attempts"], line["error"]["reason"]) == ("cancelled", 0, "Cancelled")

    def test_an_execution_without_an_end_is_an_empty_answer(self, api: Api) -> None:
        assert lines(api.get(f"{PATH}/{started(api, 3)}/results")) == []

    def test_many_big_results_are_read_page_by_page(self, api: Api) -> None:
        execution = started(api, 1_200)
        api.delete(f"{PATH}/{execution}")
        key = api.key(execution)
        big = json.dumps("x" * 1_000_000).encode()

        def store(connection: Connection) -> None:
            rows = [{"execution": key, "idx": index, "attempt": 1, "data": big} for index in range(0, 1_200, 100)]
            connection.execute(insert(result_table), rows)

        api.parts.database.write(store)
        assert [line["index"] for line in lines(api.get(f"{PATH}/{execution}/results"))] == list(range(1_200))

    def test_a_follower_gets_each_line_when_its_turn_has_come(self, api: Api) -> None:
        execution = started(api, 3)
        api.run_task(execution, 2)
        self.put(api, execution, 1, b"1")
        seen: list[int] = []

        async def follow(client: httpx2.AsyncClient) -> None:
            # the transport hands an answer over when it is whole: so ends are reported while it waits
            asking = asyncio.create_task(client.get(f"{PATH}/{execution}/results?follow=true", headers=api.headers))
            for index in (0, 2):
                done, _ = await asyncio.wait([asking], timeout=0.4)
                assert not done
                await asyncio.to_thread(self.put, api, execution, index, str(index).encode())
            answer = await asyncio.wait_for(asking, 10)
            seen.extend(line["index"] for line in lines(answer))

        api.session(follow)
        assert seen == [0, 1, 2]

    def test_a_follower_of_a_cancelled_execution_is_let_go(self, api: Api) -> None:
        execution = started(api, 2)
        api.delete(f"{PATH}/{execution}")
        assert len(lines(api.get(f"{PATH}/{execution}/results?follow=true"))) == 2

    def test_an_unknown_execution_is_404_before_the_first_byte(self, api: Api) -> None:
        api.deployed()
        assert_problem(api.get(f"{PATH}/ffffffff-nobody/results"), 404, "NOT_FOUND")
