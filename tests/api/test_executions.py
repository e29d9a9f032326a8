"""Executions: what a request may hold, idempotency, queueing, reading, cancelling."""

import asyncio
import json
import random
from typing import Any

import httpx2
import pytest
from dirty_equals import IsStr

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.lease import OutcomeKind
from tidemill.store import inputs
from tidemill.store.schema import execution as execution_table
from tidemill.store.schema import input_chunk, input_set, workspace

PATH = "/v0/jobs/sweep/executions"


@pytest.fixture
def job(api: Api) -> dict[str, Any]:
    return api.deployed(memory=512, timeout=90, maxRetries=2, maxConcurrentTasks=7)


def started(api: Api, body: object = None, **options: Any) -> str:
    answer = api.post(PATH, b"" if body is None else body, **options)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["executionId"]
    return found


def arguments(api: Api, execution: str) -> list[str]:
    """The arguments of every task as they are stored."""
    found = api.parts.database.read(
        lambda connection: connection.execute(execution_table.select().where(execution_table.c.id == execution)).one()
    )
    chunks = api.parts.database.read(lambda connection: inputs.tasks(connection, found.input_set, range(found.total)))
    texts = inputs.decode(chunks, range(found.total))
    return [texts[index] for index in range(found.total)]


def counted(api: Api) -> tuple[int, int, int]:
    """How many executions, input sets and chunks there are."""

    def work(connection: Any) -> tuple[int, int, int]:
        tables = (execution_table, input_set, input_chunk)
        return tuple(len(connection.execute(table.select()).all()) for table in tables)  # type: ignore[return-value]

    return api.parts.database.read(work)


@pytest.mark.usefixtures("job")
class TestCreate:
    def test_the_answer_has_ids_and_no_tasks(self, api: Api) -> None:
        answer = api.post(PATH, {"tasks": [{"a": 1}, {}]})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "executionId": IsStr(regex=r"[0-9a-f]{8}-[0-9a-f]{4}-4.*"),
            "id": IsStr(min_length=8),
            "jobId": "sweep",
            "workspaceId": "main",
        }

    @pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"tasks":null}', b'{"tasks":[{}]}'])
    def test_nothing_is_one_task_without_arguments(self, api: Api, body: bytes) -> None:
        execution = started(api, body)
        assert arguments(api, execution) == ["{}"]
        assert api.get(f"{PATH}/{execution}").json()["stats"]["total"] == 1

    def test_arguments_are_kept_as_they_were_sent(self, api: Api) -> None:
        texts = ['{"a": 1.50}', '{ "b":"\\u00e9\\n" , "b": 2}', '{"big":123456789012345678901234567890}', '{"é":"ü"}']
        body = f'{{"tasks": [{", ".join(texts)}]}}'.encode()
        assert arguments(api, started(api, body)) == texts

    def test_thousands_of_tasks_lie_in_chunks(self, api: Api) -> None:
        tasks = [{"n": number} for number in range(2_500)]
        execution = started(api, {"tasks": tasks})
        assert counted(api) == (1, 1, 3)
        assert [json.loads(text) for text in arguments(api, execution)] == tasks

    def test_inputs_that_fit_no_unit_are_stored_before_their_execution(self, api: Api) -> None:
        dice = random.Random(4711)
        noise = [{"n": number, "x": dice.randbytes(5_000).hex()} for number in range(900)]
        execution = started(api, {"tasks": noise})
        assert [json.loads(text) for text in arguments(api, execution)] == noise
        executions, sets, chunks = counted(api)
        assert (executions, sets) == (1, 1)
        assert chunks > 3

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            (b"{", "JSON"),
            (b"[]", "object"),
            (b'{"tasks":[{"a":1},]}', "JSON"),
            (b'{"tasks":[{"a":"\xff"}]}', "UTF-8"),
            (b'{"tasks":{"a":1}}', "list"),
            (b'{"tasks":"x"}', "list"),
            (b'{"tasks":[]}', "tasks has 0"),
            (b'{"tasks":[{},7]}', "tasks[1]"),
            (b'{"tasks":[{},{},[]]}', "tasks[2]"),
            (b'{"tasks":[null]}', "tasks[0]"),
            (b'{"tasks":[{}],"env":{"A":1}}', "env.A"),
            (b'{"tasks":[{}],"env":["A"]}', "env"),
            (b'{"tasks":[{}],"env":{"A=B":"x"}}', "env"),
            (b'{"tasks":[{}],"memory":"512"}', "memory"),
            (b'{"tasks":[{}],"memory":-1}', "memory"),
            (b'{"tasks":[{}],"memory":513}', "512"),
            (b'{"tasks":[{}],"memory":8}', "16"),
            (b'{"tasks":[{}],"executionId":"short"}', "executionId"),
            (b'{"tasks":[{}],"executionId":"has a space"}', "executionId"),
            (b'{"tasks":[{}],"executionId":"' + b"x" * 65 + b'"}', "executionId"),
            (b'{"tasks":[{}],"executionId":12345678}', "executionId"),
            (b'{"tasks":[{}],"allowQueue":"no"}', "allowQueue"),
            (b'{"tasks":[{"a":' + b"[" * 3000 + b"]" * 3000 + b"}]}", "deep"),
        ],
    )
    def test_a_bad_request_is_400_and_makes_nothing(self, api: Api, body: bytes, word: str) -> None:
        assert word in assert_problem(api.post(PATH, body), 400, "INVALID")
        assert counted(api) == (0, 0, 0)

    def test_a_task_too_many_is_400_naming_the_limit(self, api: Api) -> None:
        body = b'{"tasks":[' + b",".join([b"{}"] * 1_000_001) + b"]}"
        assert "1000000" in assert_problem(api.post(PATH, body), 400, "INVALID")
        assert counted(api) == (0, 0, 0)

    def test_a_million_tasks_are_one_execution(self, api: Api) -> None:
        execution = started(api, b'{"tasks":[' + b",".join([b'{"a":1}'] * 1_000_000) + b"]}")
        shown = api.get(f"{PATH}/{execution}").json()
        assert shown["stats"]["total"] == 1_000_000
        assert len(shown["tasks"]) == len(shown["spec"]["tasks"]) == 1_000

    def test_a_task_over_its_limit_is_413(self, api: Api) -> None:
        fits = {"tasks": [{}, {"a": "x" * ((1 << 20) - 8)}]}
        assert len(json.dumps(fits["tasks"][1], separators=(",", ":"))) == 1 << 20
        assert api.post(PATH, json.dumps(fits, separators=(",", ":")).encode()).status_code == 200
        body = {"tasks": [{}, {"a": "x" * (1 << 20)}]}
        assert "tasks[1]" in assert_problem(api.post(PATH, body), 413, "TOO_LARGE")

    def test_a_body_over_its_limit_is_413(self, api: Api) -> None:
        api.limit(execution_body_bytes=100, body_bytes=50)
        assert_problem(api.post(PATH, b" " * 101), 413, "TOO_LARGE")
        assert api.post(PATH, b" " * 100).status_code == 200

    def test_unknown_members_are_kept_and_refused_only_when_asked(self, api: Api) -> None:
        body = {"tasks": [{}], "mood": "calm", "jobId": "sweep", "workspaceId": "main"}
        assert "mood" in assert_problem(api.post(f"{PATH}?strict=true", body), 400, "INVALID")
        assert api.get(f"{PATH}/{started(api, body)}").json()["spec"]["mood"] == "calm"

    def test_the_path_without_v0_starts_the_same_execution(self, api: Api) -> None:
        answer = api.post("/main/jobs/sweep/executions", {"tasks": [{}]})
        assert answer.status_code == 200
        assert api.get(f"{PATH}/{answer.json()['executionId']}").status_code == 200
        url = api.get("/v0/jobs/sweep").json()["metadata"]["url"].removeprefix("http://tide.test")
        assert api.post(f"{url}/executions", b"").status_code == 200
        assert api.post(f"{PATH}?workspace=main", b"").status_code == 200

    def test_a_job_that_is_not_there_is_404(self, api: Api) -> None:
        assert_problem(api.post("/v0/jobs/nobody/executions", b""), 404, "NOT_FOUND")

    @pytest.mark.parametrize("spec", [{"enabled": False}, {"revision": {"traffic": 0}}])
    def test_a_disabled_or_paused_job_refuses_for_good(self, api: Api, spec: dict[str, Any]) -> None:
        api.put("/v0/jobs/sweep", {"spec": spec})
        answer = api.post(PATH, b"")
        assert_problem(answer, 409, "NOT_RUNNABLE")
        assert answer.headers["x-should-retry"] == "false"
        assert counted(api) == (0, 0, 0)


@pytest.mark.usefixtures("job")
class TestIdempotency:
    @pytest.mark.parametrize(
        ("member", "header"),
        [("executionId", None), ("id", None), (None, "Idempotency-Key")],
    )
    def test_the_same_request_is_the_same_execution(self, api: Api, member: str | None, header: str | None) -> None:
        headers = {header: "chosen-by-caller"} if header else {}

        def send(**more: object) -> httpx2.Response:
            names = {member: "chosen-by-caller"} if member else {}
            return api.post(PATH, {"tasks": [{"a": 1}], **names, **more}, headers=headers)

        first = send()
        assert send().json() == first.json()
        assert counted(api) == (1, 1, 1)
        for more in ({"tasks": [{"a": 2}]}, {"env": {"A": "b"}}, {"memory": 64}, {"mood": "other"}):
            other = send(**more)
            assert_problem(other, 409, "CONFLICT")
            assert other.headers["x-should-retry"] == "false"
        assert send(jobId="sweep", workspaceId="main").json() == first.json()
        assert counted(api) == (1, 1, 1)

    def test_each_tasks_bytes_count(self, api: Api) -> None:
        assert api.post(PATH, b'{"id":"request-1","tasks":[{"a":1}]}').status_code == 200
        assert api.post(PATH, b'{"tasks": [ {"a":1} ], "id":"request-1"}').status_code == 200
        assert_problem(api.post(PATH, b'{"id":"request-1","tasks":[{"a": 1}]}'), 409, "CONFLICT")

    def test_the_same_request_many_times_at_once_is_one_execution(self, api: Api) -> None:
        async def at_once(client: httpx2.AsyncClient) -> list[httpx2.Response]:
            body = b'{"executionId":"execution-1","tasks":[{"a":1}]}'
            return await asyncio.gather(*(client.post(PATH, content=body, headers=api.headers) for _ in range(20)))

        answers = api.session(at_once)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert counted(api)[0] == 1

    def test_an_id_that_we_made_counts_too(self, api: Api) -> None:
        made = api.post(PATH, {"tasks": [{}]}).json()
        assert api.post(PATH, {"tasks": [{}], "executionId": made["executionId"]}).json() == made
        assert api.post(PATH, {"tasks": [{}], "id": made["id"]}).json() == made

    def test_names_of_two_executions_in_one_request_conflict(self, api: Api) -> None:
        started(api, {"executionId": "execution-1"})
        started(api, {"executionId": "execution-2"}, headers={"Idempotency-Key": "two"})
        answer = api.post(PATH, {"executionId": "execution-1"}, headers={"Idempotency-Key": "two"})
        assert_problem(answer, 409, "CONFLICT")

    def test_a_name_of_one_kind_is_no_name_of_another(self, api: Api) -> None:
        first = started(api, {"id": "same-name"})
        assert started(api, {"executionId": "same-name"}) != first
        assert counted(api)[0] == 2

    def test_names_are_unique_per_job_only(self, api: Api) -> None:
        api.deployed("other")
        started(api, {"executionId": "execution-1"})
        answer = api.post("/v0/jobs/other/executions", {"executionId": "execution-1"})
        assert (answer.status_code, counted(api)[0]) == (200, 2)

    def test_a_repeated_request_is_answered_when_the_job_is_disabled_since(self, api: Api) -> None:
        execution = started(api, {"executionId": "execution-1"})
        api.put("/v0/jobs/sweep", {"spec": {"enabled": False}})
        assert started(api, {"executionId": "execution-1"}) == execution

    @pytest.mark.parametrize("path", [PATH])
    def test_a_name_that_is_too_long_is_400(self, api: Api, path: str) -> None:
        assert_problem(api.post(path, {"id": "x" * 201}), 400, "INVALID")
        assert_problem(api.post(path, b"", headers={"Idempotency-Key": "x" * 201}), 400, "INVALID")


@pytest.mark.usefixtures("job")
class TestQueue:
    @pytest.fixture(autouse=True)
    def quota(self, api: Api) -> None:
        api.parts.database.write(
            lambda connection: connection.execute(workspace.update().values(max_parallel_executions=2))
        )

    def test_over_the_quota_an_execution_waits(self, api: Api) -> None:
        ids = [started(api) for _ in range(3)]
        states = [api.get(f"{PATH}/{each}").json()["status"] for each in ids]
        assert states == ["pending", "pending", "queued"]
        # nobody passes those who wait already
        api.delete(f"{PATH}/{ids[0]}")
        assert api.get(f"{PATH}/{started(api)}").json()["status"] == "queued"

    def test_without_a_queue_it_is_refused_and_nothing_is_made(self, api: Api) -> None:
        for _ in range(2):
            started(api, {"allowQueue": False})
        answer = api.post(PATH, {"allowQueue": False})
        assert_problem(answer, 429, "OVER_QUOTA")
        assert answer.json()["error"] == "Maximum parallel executions limit reached"
        assert answer.headers["x-should-retry"] == "false"
        assert counted(api)[0] == 2

    def test_what_can_never_run_is_400(self, api: Api) -> None:
        api.parts.database.write(
            lambda connection: connection.execute(workspace.update().values(max_parallel_executions=0))
        )
        assert_problem(api.post(PATH, {"allowQueue": False}), 400, "INVALID")


@pytest.mark.usefixtures("job")
class TestRead:
    def test_an_execution_shows_what_it_runs_with(self, api: Api) -> None:
        execution = started(api, {"tasks": [{"a": 1}] * 3, "env": {"CITY": "Lyon"}, "memory": 64})
        shown = api.get(f"{PATH}/{execution}").json()
        assert shown["metadata"]["id"] == execution
        assert (shown["metadata"]["job"], shown["metadata"]["workspace"]) == ("sweep", "main")
        assert shown["spec"] | {"tasks": []} == {
            "parallelism": 7,
            "timeout": 90,
            "memoryOverride": 64,
            "envOverride": {"CITY": "***"},
            "tasks": [],
        }
        limits = {"maxRetries": 2, "timeout": "90s"}
        assert shown["spec"]["tasks"][2] == {"metadata": {"name": "task-2"}, "spec": limits, "status": "pending"}
        assert shown["tasks"][2]["metadata"]["name"] == "task-2"
        assert (shown["tasks"][2]["spec"], shown["tasks"][2]["conditions"]) == (limits, [])
        assert "Lyon" not in json.dumps(shown)

    def test_limits_are_frozen_when_an_execution_is_made(self, api: Api) -> None:
        execution = started(api)
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 5, "maxConcurrentTasks": 1}}})
        spec = api.get(f"{PATH}/{execution}").json()["spec"]
        assert (spec["timeout"], spec["parallelism"]) == (90, 7)

    def test_states_and_stats_follow_the_ledger(self, api: Api) -> None:
        execution = started(api, {"tasks": [{}] * 4})
        api.run_task(execution, 2)
        running = api.get(f"{PATH}/{execution}").json()
        assert (running["status"], running["stats"]["running"]) == ("running", 3)
        api.end_task(execution, 0)
        api.end_task(execution, 1, OutcomeKind.LAUNCH_ERROR, message="no such file: main.sh")
        api.end_task(execution, 2, OutcomeKind.EXIT_CODE, exit_code=3, message="exit code 3")
        shown = api.get(f"{PATH}/{execution}").json()
        assert [task["status"] for task in shown["tasks"]][::3] == ["succeeded", "pending"]
        assert shown["stats"]["success"] == 1
        conditions = [[each["type"] for each in task["conditions"]] for task in shown["tasks"]]
        assert conditions[0] == []
        assert conditions[2] == ["Retrying"]
        assert all(
            isinstance(value, str) for task in shown["tasks"] for each in task["conditions"] for value in each.values()
        )

    def test_an_id_may_be_cut_to_8_characters(self, api: Api) -> None:
        execution = started(api)
        for path in (f"{PATH}/{execution[:8]}", f"{PATH}/{execution[:20]}", f"/v0/executions/{execution[:8]}"):
            assert api.get(path).json()["metadata"]["id"] == execution
        assert "8 characters" in assert_problem(api.get(f"{PATH}/{execution[:7]}"), 404, "NOT_FOUND")
        assert_problem(api.get(f"{PATH}/ffffffff-nobody"), 404, "NOT_FOUND")

    def test_a_prefix_of_several_is_400_listing_five(self, api: Api) -> None:
        for number in range(7):
            started(api, {"executionId": f"nightly-{number}"})
        message = assert_problem(api.get(f"{PATH}/nightly-"), 400, "INVALID")
        assert all(f"nightly-{number}" in message for number in range(5))
        assert "nightly-5" not in message
        started(api, {"executionId": "nightly-"})
        assert api.get(f"{PATH}/nightly-").json()["metadata"]["id"] == "nightly-"

    @pytest.mark.parametrize(
        "text", ["%25%25%25%25%25%25%25%25", "________", "a' OR '1'='1", "%F0%9F%98%80" * 8, "%00" * 8]
    )
    def test_a_prefix_is_only_text(self, api: Api, text: str) -> None:
        started(api)
        assert api.get(f"{PATH}/{text}").status_code == 404

    def test_an_execution_of_another_job_is_not_here(self, api: Api) -> None:
        api.deployed("other")
        execution = started(api)
        assert_problem(api.get(f"/v0/jobs/other/executions/{execution}"), 404, "NOT_FOUND")
        assert_problem(api.delete(f"/v0/jobs/other/executions/{execution}"), 404, "NOT_FOUND")


@pytest.mark.usefixtures("job")
class TestList:
    def test_pages_hold_every_execution_once_newest_first(self, api: Api) -> None:
        ids = list[str]()
        for number in range(5):
            ids.append(started(api, {"executionId": f"nightly-{4 - number}"}))
            api.later(1)
        for sort, expected in (("createdAt:desc", ids[::-1]), ("createdAt:asc", ids), ("name:asc", ids[::-1])):
            seen, cursor = list[str](), ""
            while True:
                page = api.get(f"{PATH}?limit=2&sort={sort}&cursor={cursor}").json()
                seen += [each["metadata"]["id"] for each in page["data"]]
                assert page["meta"]["total"] == 5
                cursor = page["meta"]["nextCursor"]
                if not page["meta"]["hasMore"]:
                    break
            assert (seen, cursor) == (expected, "")

    def test_twenty_by_default_a_hundred_at_most_and_tasks_of_each(self, api: Api) -> None:
        for _ in range(21):
            started(api, {"tasks": [{}] * 150})
        page = api.get(PATH).json()
        assert len(page["data"]) == 20
        assert all(len(each["tasks"]) == len(each["spec"]["tasks"]) == 100 for each in page["data"])
        assert len(api.get(f"{PATH}?limit=1000").json()["data"]) == 21
        assert_problem(api.get(f"{PATH}?limit=0"), 400, "INVALID")

    def test_old_versions_page_by_offset(self, api: Api) -> None:
        ids = list[str]()
        for _ in range(5):
            ids.insert(0, started(api))
            api.later(1)
        old: dict[str, Any] = {"Blaxel-Version": None}
        assert [each["metadata"]["id"] for each in api.get(f"{PATH}?limit=2&offset=2", headers=old).json()] == ids[2:4]
        assert_problem(api.get(f"{PATH}?offset=x", headers=old), 400, "INVALID")
        # the new versions ignore it, as the Python SDK sends it always
        assert len(api.get(f"{PATH}?offset=3").json()["data"]) == 5

    def test_search_is_by_a_part_of_the_id(self, api: Api) -> None:
        for name in ("nightly-1", "Nightly-2", "daily-01"):
            started(api, {"executionId": name})
        found = api.get(f"{PATH}?q=nightly&sort=name:asc").json()["data"]
        assert [each["metadata"]["id"] for each in found] == ["Nightly-2", "nightly-1"]
        assert api.get(f"{PATH}?q=%25%25").json()["data"] == []


@pytest.mark.usefixtures("job")
class TestCancel:
    def test_what_has_not_begun_is_cancelled_at_once(self, api: Api) -> None:
        execution = started(api, {"tasks": [{}] * 3})
        answer = api.delete(f"{PATH}/{execution[:8]}")
        assert answer.status_code == 200
        body = answer.json()
        assert (body["status"], body["stats"]["cancelled"], body["metadata"]["id"]) == ("cancelled", 3, execution)
        assert {task["status"] for task in body["tasks"]} == {"cancelled"}
        assert body["tasks"][0]["conditions"][0]["type"] == "Cancelled"

    def test_running_tasks_finish_and_no_new_one_starts(self, api: Api) -> None:
        execution = started(api, {"tasks": [{}] * 3})
        api.run_task(execution, 0)
        body = api.delete(f"{PATH}/{execution}").json()
        assert (body["status"], body["stats"]["running"], body["stats"]["cancelled"]) == ("cancelling", 1, 2)
        api.end_task(execution, 0)
        body = api.get(f"{PATH}/{execution}").json()
        assert (body["status"], body["stats"]["success"], body["stats"]["cancelled"]) == ("cancelled", 1, 2)

    def test_cancelling_what_has_ended_changes_nothing(self, api: Api) -> None:
        execution = started(api)
        api.run_task(execution, 0)
        api.end_task(execution, 0)
        before = api.get(f"{PATH}/{execution}").json()
        assert before["status"] == "succeeded"
        for force in ("", "?force=true"):
            answer = api.delete(f"{PATH}/{execution}{force}")
            assert (answer.status_code, answer.json()) == (200, before)

    def test_an_unknown_execution_is_404(self, api: Api) -> None:
        assert_problem(api.delete(f"{PATH}/ffffffff-nobody"), 404, "NOT_FOUND")
        assert_problem(api.delete(f"{PATH}/ffffffff-nobody?force=perhaps"), 400, "INVALID")


def test_more_environment_than_a_program_can_have_is_400(api: Api) -> None:
    api.deployed()
    env = {f"V{number}": "x" * 100_000 for number in range(6)}
    assert "512000" in assert_problem(api.post(PATH, {"tasks": [{}], "env": env}), 400, "INVALID")
