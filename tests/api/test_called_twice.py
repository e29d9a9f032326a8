"""Triggers that are called again, by others, or while their job goes: names of requests, and what waits."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tests.api.test_called_triggers import JOB, NOBODY, OPEN, URL, accepted, called, have, succeeds, waited


def audited(api: Api) -> list[str]:
    """What calls of triggers were about, newest first."""
    rows = api.get("/v0/audit").json()["data"]
    return [row["resource"] for row in rows if row["action"] == "triggers.call"]


@pytest.mark.parametrize("name", ["executionId", "id"])
def test_a_call_that_names_itself_and_is_sent_twice_is_one_execution(api: Api, name: str) -> None:
    have(api, called())
    body = {"tasks": [{"a": 1}], name: "my-own-id"}
    first = accepted(api, api.post(f"{URL}?async=true", body))
    assert accepted(api, api.post(f"{URL}?async=true", body)) == first
    assert len(api.get(f"{JOB}/executions").json()["data"]) == 1


@pytest.mark.parametrize("size", [1, 100_000])
def test_the_audit_says_which_execution_a_repeated_call_was_answered_with(api: Api, size: int) -> None:
    have(api, called("http"))
    key, body = {"Idempotency-Key": "once"}, {"a": "x" * size}
    first = waited(api, succeeds(api), json=body, headers=key).json()["executionId"]
    again = api.post(URL, httpx2.Request("POST", "http://tide.test", json=body).read(), headers=key)
    assert again.json()["executionId"] == first
    assert audited(api) == [f"jobs/sweep/{first}"] * 2


def test_who_waits_is_answered_although_the_name_of_the_job_means_another_one_by_now(api: Api) -> None:
    have(api, called("http"))

    def work(execution: str) -> None:
        # as a job that is deleted and made anew between two looks
        api.parts.database.write(
            lambda connection: connection.exec_driver_sql("UPDATE job SET name = 'gone' WHERE name = 'sweep'")
        )
        succeeds(api)(execution)

    answer = waited(api, work, json={"a": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded"


# ---- strangers


def test_a_key_of_a_stranger_stands_in_nobodys_way(api: Api) -> None:
    have(api, called(**OPEN))
    key = {"Idempotency-Key": "order-1"}
    theirs = accepted(api, api.post(f"{URL}?async=true", {"a": 1}, headers={**NOBODY, **key}))
    assert accepted(api, api.post(f"{URL}?async=true", {"a": 1}, headers={**NOBODY, **key})) == theirs
    ours = api.post(f"{JOB}/executions", {"tasks": [{"a": 2}]}, headers=key)
    assert ours.status_code == 200, ours.text
    assert ours.json()["executionId"] != theirs
    bare = accepted(api, api.post(f"{URL}?async=true", b"", headers={**NOBODY, "Idempotency-Key": "order-2"}))
    fired = api.post(f"{JOB}/triggers/t1/fire", headers={"Idempotency-Key": "order-2"})
    assert fired.status_code == 200, fired.text
    assert fired.json()["executionId"] != bare


def test_a_stranger_learns_no_execution_from_a_key_that_is_taken(api: Api) -> None:
    have(api, called(**OPEN))
    key = {"Idempotency-Key": "order-1"}
    ours = api.post(f"{JOB}/executions", {"tasks": [{"a": 2}]}, headers=key).json()["executionId"]
    theirs = accepted(api, api.post(f"{URL}?async=true", {"a": 1}, headers={**NOBODY, **key}))
    assert theirs != ours


@pytest.mark.parametrize(
    "wish", [{"executionId": "my-own-id"}, {"id": "mine"}, {"allowQueue": False}, {"note": "x" * 1000}]
)
def test_a_stranger_names_nothing(api: Api, wish: dict[str, Any]) -> None:
    have(api, called(**OPEN))
    answer = api.post(f"{URL}?async=true", {"tasks": [{}], **wish}, headers=NOBODY)
    message = assert_problem(answer, 403, "FORBIDDEN")
    assert next(iter(wish)) in message
    assert api.get(f"{JOB}/executions").json()["data"] == []


def test_a_stranger_takes_no_room_to_wait_before_all_of_the_body_is_there(api: Api) -> None:
    have(api, called("http", timeout=1, **OPEN))
    held = list[int]()

    async def body() -> AsyncIterator[bytes]:
        held.append(api.context.streams.count)
        yield b"{"
        held.append(api.context.streams.count)
        yield b"}"

    assert api.request("POST", URL, content=body(), headers=NOBODY).status_code == 202
    assert held == [0, 0]
