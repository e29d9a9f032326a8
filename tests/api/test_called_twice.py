"""Triggers that are called again, by others, or while their job goes: names of requests, and what waits."""

import httpx2
import pytest

from tests.api.asking import Api
from tests.api.test_called_triggers import JOB, URL, accepted, called, have, succeeds, waited


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
