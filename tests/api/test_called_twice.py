"""Triggers that are called again, by others, or while their job goes: names of requests, and what waits."""

import pytest

from tests.api.asking import Api
from tests.api.test_called_triggers import JOB, URL, accepted, called, have


@pytest.mark.parametrize("name", ["executionId", "id"])
def test_a_call_that_names_itself_and_is_sent_twice_is_one_execution(api: Api, name: str) -> None:
    have(api, called())
    body = {"tasks": [{"a": 1}], name: "my-own-id"}
    first = accepted(api, api.post(f"{URL}?async=true", body))
    assert accepted(api, api.post(f"{URL}?async=true", body)) == first
    assert len(api.get(f"{JOB}/executions").json()["data"]) == 1
