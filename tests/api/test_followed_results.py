"""Results that are followed end before their time with a line that says why."""

import asyncio
import json

import httpx2
import pytest

from tests.api.asking import Api
from tidemill.api import streams
from tidemill.model.lease import OutcomeKind

RUN = "/v0/jobs/sweep/executions"


@pytest.fixture
def execution(api: Api) -> str:
    """Of two tasks, of which the first has failed and the second runs."""
    api.deployed()
    made: str = api.post(RUN, {"tasks": [{}, {}]}).json()["executionId"]
    api.claim(made, 2)
    api.end_task(made, 0, OutcomeKind.EXIT_CODE, exit_code=3)
    return made


def test_with_the_credential(api: Api, execution: str) -> None:
    made = api.post("/v0/profile/api_keys", {"name": "for a while"}).json()
    path = f"{RUN}/{execution}/results?follow=true"

    async def both(client: httpx2.AsyncClient) -> httpx2.Response:
        asked = asyncio.ensure_future(client.get(path, headers={"Authorization": f"Bearer {made['apiKey']}"}))
        while not api.context.streams.count:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.001)
        assert (await client.delete(f"/v0/profile/api_keys/{made['id']}", headers=api.headers)).status_code == 200
        return await asyncio.wait_for(asked, 30)

    answer = api.session(both)
    first, last = (json.loads(line) for line in answer.text.splitlines())
    assert (first["index"], first["status"]) == (0, "failed")
    assert last["error"]["code"] == 401


def test_not_more_are_followed_than_a_server_holds(api: Api, execution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_OF_ONE", 0)
    answer = api.get(f"{RUN}/{execution}/results?follow=true")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
    assert api.get(f"{RUN}/{execution}/results").status_code == 200
