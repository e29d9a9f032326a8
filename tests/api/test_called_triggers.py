"""Triggers that are called: paths below the URL of a job, with a credential or without."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tests.api.asking import ADMIN, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.api.app import Edge
from tidemill.api.limits import Rates
from tidemill.api.streams import MAX_OF_STRANGERS, STRANGERS
from tidemill.model.execution import Reason
from tidemill.model.lease import OutcomeKind
from tidemill.store import executions, inputs, ledger

JOB = "/v0/jobs/sweep"
URL = "/main/jobs/sweep"
NOBODY: dict[str, Any] = {"Authorization": None}
OPEN = {"authenticationType": "public"}


def called(kind: str = "http-async", name: str = "t1", **configuration: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "configuration": configuration}


def put(api: Api, *triggers: dict[str, Any]) -> httpx2.Response:
    return api.put(JOB, {"spec": {"triggers": triggers}})


def have(api: Api, *triggers: dict[str, Any]) -> None:
    api.deployed()
    answer = put(api, *triggers)
    assert answer.status_code == 200, answer.text


def accepted(api: Api, answer: httpx2.Response) -> str:
    """The execution of a call that was accepted."""
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"success", "executionId"}
    assert answer.json()["success"] is True
    found: str = answer.json()["executionId"]
    return found


def shown(api: Api, execution: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{JOB}/executions/{execution}").json()
    return found


def given(api: Api, execution: str) -> list[str]:
    """The arguments of its tasks."""

    def read(connection: Any) -> list[str]:
        found = executions.find(connection, "main", execution)
        indices = range(found.stats.total)
        return list(inputs.decode(inputs.tasks(connection, found.input_set, indices), indices).values())

    return api.parts.database.read(read)


def waited(api: Api, work: Callable[[str], None], path: str = URL, **options: Any) -> httpx2.Response:
    """The answer to a call whose caller waits, while ``work`` is done on the execution that it has made."""

    async def both(client: httpx2.AsyncClient) -> httpx2.Response:
        headers = {**api.headers, **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        asked = asyncio.ensure_future(client.post(path, headers=headers, **options))
        made: list[dict[str, Any]] = []
        while not made and not asked.done():
            await asyncio.sleep(0.001)
            made = (await client.get(f"{JOB}/executions", headers=api.headers)).json()["data"]
        if made:
            work(made[0]["metadata"]["id"])
        return await asyncio.wait_for(asked, 30)

    return api.session(both)


def succeeds(api: Api) -> Callable[[str], None]:
    def work(execution: str) -> None:
        for index in range(_total(api, execution)):
            api.claim(execution, 1)
            api.end_task(execution, index, result=f'{{"n": {index}}}')

    return work


def _total(api: Api, execution: str) -> int:
    return api.parts.database.read(lambda connection: executions.find(connection, "main", execution)).stats.total


# ---- http-async


def test_a_call_is_accepted_and_says_its_execution(api: Api) -> None:
    have(api, called(path="/in", timeout=60))
    execution = accepted(api, api.post(f"{URL}/in?async=true", {"text": "hello"}))
    metadata = shown(api, execution)["metadata"]
    assert metadata["trigger"] == "t1"
    assert metadata["deadlineAt"] == "2026-11-23T12:01:00.000000Z"
    assert given(api, execution) == ['{"text": "hello"}']


def test_a_body_with_tasks_is_an_execution_request(api: Api) -> None:
    have(api, called())
    body = {"tasks": [{"a": 1}, {"a": 2}], "executionId": "my-own-id", "env": {"MODE": "x"}}
    assert accepted(api, api.post(f"{URL}?async=true", body)) == "my-own-id"
    assert given(api, "my-own-id") == ['{"a": 1}', '{"a": 2}']
    assert shown(api, "my-own-id")["spec"]["envOverride"] == {"MODE": "***"}


@pytest.mark.parametrize("body", [b'{"id": "x", "env": 7, "executionId": ""}', b' {"a":[1,\n2]} ', b"{}"])
def test_any_other_object_is_the_arguments_of_one_task_as_it_was_sent(api: Api, body: bytes) -> None:
    have(api, called())
    execution = accepted(api, api.post(f"{URL}?async=true", body))
    assert given(api, execution) == [body.strip().decode()]


@pytest.mark.parametrize(("own", "wanted"), [(None, ["{}"]), ([{"day": 1}, {}], ['{"day":1}', "{}"])])
def test_without_a_body_the_triggers_own_arguments_are_taken(api: Api, own: Any, wanted: list[str]) -> None:
    have(api, called(**({} if own is None else {"tasks": own})))
    execution = accepted(api, api.post(f"{URL}?async=true", b""))
    assert given(api, execution) == wanted
    assert "deadlineAt" in shown(api, execution)["metadata"]


@pytest.mark.parametrize(
    "body", [b"7", b"[]", b'"x"', b"null", b"{", b'{"tasks": 7}', b'{"tasks": []}', b'{"tasks": [7]}', b"\xff{}"]
)
def test_what_is_no_object_is_400_and_starts_nothing(api: Api, body: bytes) -> None:
    have(api, called())
    assert_problem(api.post(f"{URL}?async=true", body), 400, "INVALID")
    assert api.get(f"{JOB}/executions").json()["data"] == []


def test_at_its_timeout_it_has_failed_and_what_had_not_ended_is_cancelled(api: Api) -> None:
    have(api, called(timeout=30, callbackUrl="https://hooks.example.org/in"))
    execution = accepted(api, api.post(f"{URL}?async=true", {"tasks": [{}, {}, {}]}))
    api.claim(execution, 2)
    api.end_task(execution, 0)
    api.later(30)
    key = api.key(execution)
    api.parts.database.write(lambda connection: ledger.time_out_executions(connection, [key], now=api.now[0]))
    assert shown(api, execution)["status"] == "cancelling"
    assert "time is over" in api.get(f"{JOB}/executions/{execution}/explain").json()["summary"]
    api.end_task(execution, 1, OutcomeKind.CANCELLED)
    found = shown(api, execution)
    assert found["status"] == "failed"
    assert found["stats"] == {"total": 3, "running": 0, "success": 1, "failure": 0, "retried": 0, "cancelled": 2}
    conditions = [task["conditions"] for task in found["tasks"]]
    assert [[each["type"] for each in one] for one in conditions] == [[], ["Timeout"], ["Timeout"]]
    summary = api.get(f"{JOB}/executions/{execution}/explain").json()["summary"]
    assert summary.startswith("The execution ran out of its 30 s and ended at"), summary
    (told,) = api.get(f"{JOB}/callbacks").json()["data"]
    assert (told["statusCode"], told["executionId"]) == (504, execution)
    listed = api.get(f"{JOB}/executions/{execution}/tasks?status=cancelled").json()
    assert listed["meta"]["total"] == 3
    assert [task["conditions"][0]["reason"] for task in listed["data"]] == [Reason.TIMEOUT, Reason.TIMEOUT]


def test_the_default_timeout_is_fifteen_minutes(api: Api) -> None:
    have(api, called())
    execution = accepted(api, api.post(f"{URL}?async=true", {}))
    assert shown(api, execution)["metadata"]["deadlineAt"] == "2026-11-23T12:15:00.000000Z"


# ---- http


def test_a_caller_waits_for_the_results(api: Api) -> None:
    have(api, called("http", path="/ask"))
    answer = waited(api, succeeds(api), f"{URL}/ask", json={"tasks": [{}, {}]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"executionId", "status", "results"}
    assert document["status"] == "succeeded"
    lines = api.get(f"{JOB}/executions/{document['executionId']}/results").text.splitlines()
    assert [(one["index"], one["result"]) for one in document["results"]] == [(0, {"n": 0}), (1, {"n": 1})]
    assert len(lines) == 2
    assert "deadlineAt" not in shown(api, document["executionId"])["metadata"]
    assert shown(api, document["executionId"])["metadata"]["trigger"] == "t1"


def test_an_execution_that_failed_says_so(api: Api) -> None:
    have(api, called("http"))

    def work(execution: str) -> None:
        api.claim(execution, 1)
        api.end_task(execution, 0, OutcomeKind.EXIT_CODE, exit_code=3)

    document = waited(api, work, json={"a": 1}).json()
    assert document["status"] == "failed"
    assert document["results"][0]["status"] == "failed"
    assert document["results"][0]["error"]["reason"] == "ExitCode"


def test_when_time_is_up_the_answer_is_202_and_the_execution_goes_on(api: Api) -> None:
    have(api, called("http", timeout=1))
    answer = api.post(URL, {"a": 1})
    assert answer.status_code == 202
    assert answer.json().keys() == {"executionId"}
    execution = answer.json()["executionId"]
    assert shown(api, execution)["status"] == "pending"
    succeeds(api)(execution)
    assert shown(api, execution)["status"] == "succeeded"


def test_the_same_request_again_waits_for_the_same_execution(api: Api) -> None:
    have(api, called("http"))
    key = {"Idempotency-Key": "once"}
    first = waited(api, succeeds(api), json={"a": 1}, headers=key).json()
    again = api.post(URL, b'{"a":1}', headers=key)
    assert again.json() == first
    message = assert_problem(api.post(URL, {"a": 2}, headers=key), 409, "CONFLICT")
    assert first["executionId"] in message


def test_a_client_that_goes_away_cancels_nothing(api: Api) -> None:
    have(api, called("http"))

    async def leave(client: httpx2.AsyncClient) -> str:
        asked = asyncio.ensure_future(client.post(URL, headers=api.headers, json={}))
        made: list[dict[str, Any]] = []
        while not made:
            await asyncio.sleep(0.001)
            made = (await client.get(f"{JOB}/executions", headers=api.headers)).json()["data"]
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
        found: str = made[0]["metadata"]["id"]
        return found

    execution = api.session(leave)
    assert api.context.streams.count == 0
    succeeds(api)(execution)
    assert shown(api, execution)["status"] == "succeeded"


def test_a_server_that_ends_answers_202(api: Api) -> None:
    have(api, called("http"))
    closing = False
    api.context = replace(api.context, closing=lambda: closing)

    def work(_execution: str) -> None:
        nonlocal closing
        closing = True

    assert waited(api, work, json={}).status_code == 202


def test_a_credential_that_ends_while_it_waits_gets_no_results(api: Api) -> None:
    have(api, called("http"))
    made = api.post("/v0/profile/api_keys", {"name": "for a while"}).json()

    def work(execution: str) -> None:
        api.parts.database.write(
            lambda connection: connection.exec_driver_sql("DELETE FROM api_key WHERE id = ?", (made["id"],))
        )
        succeeds(api)(execution)

    answer = waited(api, work, json={}, headers={"Authorization": f"Bearer {made['apiKey']}"})
    assert_problem(answer, 401, "UNAUTHORIZED")


# ---- where


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_without_a_path_it_is_the_url_of_the_job_itself(api: Api, path: str) -> None:
    have(api, called())
    accepted(api, api.post(f"{URL}{path}?async=true", {}))


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "/%61/b"])
def test_a_path_is_compared_decoded_and_without_a_slash_at_the_end(api: Api, path: str) -> None:
    have(api, called(path="/a%2Fb/"))
    accepted(api, api.post(f"{URL}{path}?async=true", {}))


def test_async_chooses_between_two_at_one_path(api: Api) -> None:
    have(api, called("http", "now", path="/x"), called("http-async", "later", path="/x"))
    execution = accepted(api, api.post(f"{URL}/x?async=true", {}))
    assert shown(api, execution)["metadata"]["trigger"] == "later"
    answer = waited(api, lambda _: None, f"{URL}/nothing", json={})
    assert_problem(answer, 404, "NOT_FOUND")


def test_the_wrong_one_of_two_is_404_and_says_what_would_be_right(api: Api) -> None:
    have(api, called("http-async", "later", path="/x"), called("http", "now", path="/y"))
    assert "?async=true" in assert_problem(api.post(f"{URL}/x", {}), 404, "NOT_FOUND")
    assert "without async" in assert_problem(api.post(f"{URL}/y?async=true", {}), 404, "NOT_FOUND")
    assert_problem(api.post(f"{URL}/x?async=maybe", {}), 400, "INVALID")
    assert api.get(f"{JOB}/executions").json()["data"] == []


@pytest.mark.parametrize("kind", ["http", "http-async"])
@pytest.mark.parametrize(("first", "second"), [("/a", "/a/"), ("/a", "/%61"), (None, "/")])
def test_two_of_one_type_at_one_path_are_refused(api: Api, kind: str, first: str | None, second: str) -> None:
    api.deployed()
    triggers = [
        called(kind, "t1", path=first),
        called("cron", "c", schedule="0 3 * * *"),
        called(kind, "t2", path=second),
    ]
    message = assert_problem(put(api, *triggers), 400, "INVALID")
    assert message.startswith("spec.triggers[2].configuration.path is")
    assert "spec.triggers[0]" in message
    assert "triggers" not in api.get(JOB).json()["spec"]


@pytest.mark.parametrize("path", ["/executions", "/executions/x", "/%65xecutions", "/executions/"])
def test_the_path_of_executions_is_never_a_triggers(api: Api, path: str) -> None:
    api.deployed()
    assert "starts executions" in assert_problem(put(api, called(path=path)), 400, "INVALID")


def test_a_path_is_moved_by_the_next_put_and_gone_with_the_job(api: Api) -> None:
    have(api, called(path="/a"))
    assert put(api, called(path="/b")).status_code == 200
    assert_problem(api.post(f"{URL}/a?async=true", {}), 404, "NOT_FOUND")
    accepted(api, api.post(f"{URL}/b?async=true", {}))
    assert api.delete(JOB).status_code == 200
    assert_problem(api.post(f"{URL}/b?async=true", {}), 404, "NOT_FOUND")


def test_other_paths_keep_their_answers(api: Api) -> None:
    """A path of any depth below a job takes nothing from the routes that are there."""
    have(api, called("http", **OPEN))
    assert api.post(f"{JOB}/revisions", {}).status_code == 405
    assert_problem(api.post(f"{JOB}/nothing", {}), 404, "NOT_FOUND")
    assert api.get(URL).status_code == 405
    assert api.get(URL).headers["allow"] == "POST"
    for word in ("console", "docs", "uploads"):
        assert_problem(api.post(f"/{word}/jobs/sweep", {}), 404, "NOT_FOUND")
    assert api.post(f"{URL}/executions", b"").json()["jobId"] == "sweep"


# ---- when not


def test_one_that_is_disabled_is_409(api: Api) -> None:
    have(api, {**called(), "enabled": False})
    answer = api.post(f"{URL}?async=true", {})
    assert "disabled" in assert_problem(answer, 409, "NOT_RUNNABLE")
    assert answer.headers["x-should-retry"] == "false"


def test_a_job_that_takes_no_executions_is_409(api: Api) -> None:
    have(api, called())
    assert api.put(JOB, {"spec": {"enabled": False}}).status_code == 200
    assert_problem(api.post(f"{URL}?async=true", {}), 409, "NOT_RUNNABLE")


def test_a_caller_for_whom_there_is_no_room_to_wait_starts_nothing(api: Api) -> None:
    have(api, called("http", **OPEN))
    streams = api.context.streams
    held = [streams.one(STRANGERS) for _ in range(MAX_OF_STRANGERS)]
    for one in held:
        one.__enter__()
    answer = api.post(URL, {}, headers=NOBODY)
    assert_problem(answer, 503, "OVERLOADED")
    assert api.get(f"{JOB}/executions").json()["data"] == []
    for one in held:
        one.__exit__(None, None, None)
    assert waited(api, succeeds(api), json={}, headers=NOBODY).status_code == 200


# ---- who


@pytest.mark.parametrize("kind", ["http", "http-async"])
def test_a_credential_is_asked_for_unless_the_trigger_says_public(api: Api, kind: str) -> None:
    have(api, called(kind), called(kind, "t2", path="/blaxel", authenticationType="blaxel"))
    flag = "?async=true" if kind == "http-async" else ""
    for path in ("", "/blaxel", "/nothing"):
        answers = [api.post(f"{URL}{path}{flag}", {}, headers={"Authorization": each}) for each in (None, "Bearer no")]
        messages = {assert_problem(answer, 401, "UNAUTHORIZED") for answer in answers}
        assert not any("trigger" in message for message in messages)
        stranger = {"Authorization": f"Bearer {STRANGER}"}
        assert_problem(api.post(f"{URL}{path}{flag}", {}, headers=stranger), 403, "FORBIDDEN")
    assert_problem(api.post(f"/main/jobs/none{flag}", {}, headers=NOBODY), 401, "UNAUTHORIZED")
    assert_problem(api.post(f"/nowhere/jobs/sweep{flag}", {}, headers=NOBODY), 401, "UNAUTHORIZED")
    assert api.get(f"{JOB}/executions").json()["data"] == []


@pytest.mark.parametrize("credential", [None, "Bearer not-one-of-ours", f"Bearer {STRANGER}", f"Bearer {ADMIN}"])
def test_a_public_one_is_called_by_everybody_and_reads_no_credential(api: Api, credential: str | None) -> None:
    have(api, called(**OPEN))
    answer = api.post(f"{URL}?async=true", {"a": 1}, headers={"Authorization": credential})
    execution = accepted(api, answer)
    assert shown(api, execution)["metadata"]["trigger"] == "t1"
    (row,) = [each for each in api.get("/v0/audit").json()["data"] if each["action"] == "triggers.call"]
    assert (row["actor"], row["actorType"], row["outcome"]) == ("trigger/t1", "public", "success")
    assert row["resource"] == f"jobs/sweep/{execution}"


@pytest.mark.parametrize("wish", [{"env": {"LD_PRELOAD": "/x"}}, {"memory": 128}])
def test_a_stranger_chooses_arguments_alone(api: Api, wish: dict[str, Any]) -> None:
    have(api, called(**OPEN))
    answer = api.post(f"{URL}?async=true", {"tasks": [{}], **wish}, headers=NOBODY)
    assert_problem(answer, 403, "FORBIDDEN")
    assert api.get(f"{JOB}/executions").json()["data"] == []


def test_a_stranger_may_send_what_ordinary_requests_may(api: Api) -> None:
    have(api, called(**OPEN))
    api.limit(body_bytes=100)
    assert_problem(api.post(f"{URL}?async=true", {"a": "x" * 100}, headers=NOBODY), 413, "TOO_LARGE")
    accepted(api, api.post(f"{URL}?async=true", {"a": "x" * 50}, headers=NOBODY))


def test_strangers_are_counted_by_their_address(api: Api) -> None:
    have(api, called(**OPEN))
    api.edge = Edge(rates=Rates(unauthenticated_per_s=2))
    api.served = None
    statuses = [api.post(f"{URL}?async=true", {}, headers=NOBODY).status_code for _ in range(12)]
    assert {200, 429} == set(statuses)


def test_a_scope_and_a_role_are_asked_for(api: Api) -> None:
    have(api, called())
    made = api.post("/v0/service_accounts", {"name": "ci", "role": "admin"}).json()
    pair = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    for scope, wanted in (("jobs:get", 403), ("jobs:create", 200)):
        body = {"grant_type": "client_credentials", **pair, "scope": scope}
        token = api.post("/v0/oauth/token", body).json()["access_token"]
        answer = api.post(f"{URL}?async=true", {}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == wanted, answer.text


# ---- what is shown


def test_the_list_of_triggers_says_what_a_call_made_last(api: Api) -> None:
    have(api, called(path="/a"))
    assert "lastRun" not in api.get(f"{JOB}/triggers").json()[0]
    accepted(api, api.post(f"{URL}/a?async=true", {}))
    last = accepted(api, api.post(f"{URL}/a?async=true", {}))
    run = api.get(f"{JOB}/triggers").json()[0]["lastRun"]
    assert (run["executionId"], run["outcome"], run["status"]) == (last, "fired", "pending")
