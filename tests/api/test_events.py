"""What GET /v0/events tells: everything that changed in the workspace, in order, once."""

import asyncio
import json
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from tests.api.asking import MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.api.streams import MAX_OF_ONE, MAX_STREAMS, Streams
from tidemill.model.errors import Overloaded
from tidemill.model.lease import OutcomeKind
from tidemill.store import events as stored
from tidemill.store import schema

RUN = "/v0/jobs/sweep/executions"
EVENTS = "/v0/events"
STREAM = {"Accept": "text/event-stream"}


def told(api: Api, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"{EVENTS}?limit=1000&{query}").json()["events"]
    return found


def short(events: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(each["type"], each.get("task", ""), each["status"]) for each in events]


def started(api: Api, tasks: int = 2, **body: Any) -> str:
    made: str = api.post(RUN, {"tasks": [{"n": n} for n in range(tasks)], **body}).json()["executionId"]
    return made


def test_a_job_and_its_executions_are_told_of_in_order(api: Api) -> None:
    api.deployed()
    execution = started(api)
    api.run_task(execution, 0)
    api.end_task(execution, 0)
    events = told(api)
    assert [each["seq"] for each in events] == sorted({each["seq"] for each in events})
    of_job = [each["status"] for each in events if each["type"] == "job"]
    assert of_job == ["UPLOADING", "BUILDING", "DEPLOYING", "DEPLOYED"]
    rest = [each for each in events if each["type"] != "job"]
    assert {each["execution"] for each in rest} == {execution}
    assert short(rest) == [("execution", "", "pending"), ("execution", "", "running"), ("task", "task-0", "succeeded")]


def test_of_several_changes_of_a_task_the_last_is_told_at_its_place(api: Api) -> None:
    api.deployed()
    execution = started(api, 3)
    api.claim(execution, 3)
    before = told(api, "after=newest")
    assert before == []
    seen = [each["seq"] for each in told(api) if each["type"] == "task"]
    assert len(seen) == 3
    api.end_task(execution, 1, OutcomeKind.EXIT_CODE, exit_code=3, message="bad")
    now = [each for each in told(api) if each["type"] == "task"]
    assert [(each["task"], each["status"]) for each in now] == [
        ("task-0", "running"),
        ("task-2", "running"),
        ("task-1", "failed"),
    ]
    last = now[-1]
    assert (last["exitCode"], last["reason"], last["message"], last["attempt"]) == (3, "ExitCode", "bad", 1)
    assert last["seq"] > max(seen)


def test_a_task_that_waits_for_its_retry_says_so(api: Api) -> None:
    api.deployed(maxRetries=1)
    execution = started(api, 1)
    api.claim(execution, 1)
    api.end_task(execution, 0, OutcomeKind.EXIT_CODE, exit_code=3)
    last = told(api)[-1]
    assert (last["status"], last["reason"]) == ("pending", "Retrying")


def test_a_reader_page_by_page_sees_the_end_of_everything(api: Api) -> None:
    api.deployed()
    execution = started(api, 5)
    api.claim(execution, 5)
    latest: dict[str, str] = {}
    after, pages = 0, 0
    done = 0
    while True:
        page = api.get(f"{EVENTS}?after={after}&limit=2").json()
        assert all(each["seq"] > after for each in page["events"])
        latest |= {each.get("task", each["type"]): each["status"] for each in page["events"]}
        assert page["next"] >= after
        after, pages = page["next"], pages + 1
        if done < 5:
            api.end_task(execution, done)
            done += 1
        elif not page["more"]:
            break
    assert pages > 5
    assert latest == {"job": "DEPLOYED", "execution": "succeeded", **{f"task-{n}": "succeeded" for n in range(5)}}


def test_tasks_that_never_ran_are_covered_by_their_executions_end(api: Api) -> None:
    api.deployed()
    execution = started(api, 100_000)
    after = api.get(f"{EVENTS}?after=newest").json()["next"]
    api.delete(f"{RUN}/{execution}")
    assert short(told(api, f"after={after}")) == [("execution", "", "cancelling"), ("execution", "", "cancelled")]


def test_a_repeated_request_is_told_once(api: Api) -> None:
    api.deployed()
    for _ in range(2):
        api.post(RUN, {"executionId": "the-same-one"})
    assert len([each for each in told(api) if each["type"] == "execution"]) == 1


def test_it_is_of_this_workspace_and_its_members_read_it(api: Api) -> None:
    api.deployed()
    started(api)
    assert len(told(api)) == 5
    assert len(api.get(EVENTS, headers={"Authorization": f"Bearer {MEMBER}"}).json()["events"]) == 5
    others = api.get(EVENTS, headers={"Authorization": f"Bearer {STRANGER}"}).json()
    assert (others["events"], others["more"]) == ([], False)
    # where to go on from is the same line for all
    assert others["next"] == api.get(EVENTS).json()["next"]


def test_it_can_be_about_a_job_or_an_execution_with_its_tasks_or_without(api: Api) -> None:
    api.deployed()
    api.deployed("other")
    first, second = started(api), started(api)
    api.claim(first, 2)
    assert {each["job"] for each in told(api, "job=other")} == {"other"}
    of_first = told(api, f"execution={first[:8]}")
    assert {each["execution"] for each in of_first} == {first}
    assert len([each for each in of_first if each["type"] == "task"]) == 2
    assert short(told(api, f"execution={first}&tasks=false")) == [
        ("execution", "", "pending"),
        ("execution", "", "running"),
    ]
    assert short(told(api, f"job=sweep&execution={second}")) == [("execution", "", "pending")]
    assert_problem(api.get(f"{EVENTS}?execution=nothing-like-it"), 404, "NOT_FOUND")
    assert_problem(api.get(f"{EVENTS}?job=other&execution={first}"), 404, "NOT_FOUND")


WRONG = ("after=-1", "after=x", "after=%C2%B2", "after=" + "9" * 19, "after=999999", "limit=0", "limit=x", "wait=61")


@pytest.mark.parametrize("query", [*WRONG, "wait=-1", "tasks=yes", "execution=a"])
def test_what_is_wrong_is_named(api: Api, query: str) -> None:
    name = query.partition("=")[0]
    message = api.get(f"{EVENTS}?{query}").json()
    assert message["code"] in {400, 404}
    assert name in message["message"]


def test_events_are_kept_for_their_time_and_who_comes_later_is_told(api: Api) -> None:
    api.deployed()
    first = told(api)[0]["seq"]
    api.later(3600)
    execution = started(api)
    kept = told(api)[-1]["seq"]
    swept = api.parts.database.write(
        lambda connection: stored.sweep(connection, api.now[0] - timedelta(minutes=1), limit=1_000)
    )
    assert swept == 4
    assert [each["seq"] for each in told(api)] == [kept]
    assert_problem(api.get(f"{EVENTS}?after={first}"), 410, "GONE")
    assert short(told(api, f"after={kept - 1}&execution={execution}")) == [("execution", "", "pending")]


def test_a_page_looks_at_a_bounded_part_of_the_line_and_goes_on(api: Api) -> None:
    api.deployed()
    with_gap = schema.event_line.update().values(last=schema.event_line.c.last + 3 * stored.WINDOW)
    api.parts.database.write(lambda connection: connection.execute(with_gap))
    execution = started(api)
    page = api.get(f"{EVENTS}?execution={execution}").json()
    assert (page["events"], page["more"]) == ([], True)
    looks = 1
    while page["more"]:
        page = api.get(f"{EVENTS}?execution={execution}&after={page['next']}").json()
        looks += 1
    assert short(page["events"]) == [("execution", "", "pending")]
    assert looks == 4


def test_a_failed_unit_takes_no_numbers(api: Api) -> None:
    before = api.parts.database.read(stored.newest)

    def unit(connection: Any) -> None:
        stored.numbers(connection, 5)
        connection.execute(update(schema.workspace).values(name=None))

    with pytest.raises(Exception, match="NOT NULL"):
        api.parts.database.write(unit)
    assert api.parts.database.read(stored.newest) == before


def test_one_workspace_does_not_take_all_streams() -> None:
    streams = Streams()
    with ExitStack() as stack:
        for _ in range(MAX_OF_ONE):
            streams.check("main")
            stack.enter_context(streams.one("main"))
        with pytest.raises(Overloaded):
            streams.check("main")
        for _ in range(MAX_STREAMS - MAX_OF_ONE):
            streams.check("other")
            stack.enter_context(streams.one("other"))
        with pytest.raises(Overloaded):
            streams.check("third")
    streams.check("main")


class TestWaiting:
    def test_a_page_is_answered_when_something_happens(self, api: Api) -> None:
        api.deployed()

        async def both(client: httpx2.AsyncClient) -> httpx2.Response:
            after = (await client.get(f"{EVENTS}?after=newest", headers=api.headers)).json()["next"]
            asked = asyncio.ensure_future(
                client.get(f"{EVENTS}?after={after}&wait=60&execution=made-while-waiting", headers=api.headers)
            )
            # it is refused: there is no such execution yet; of a job there may be one to come
            assert (await asked).status_code == 404
            asked = asyncio.ensure_future(client.get(f"{EVENTS}?after={after}&wait=60&job=sweep", headers=api.headers))
            await asyncio.sleep(0)
            body = json.dumps({"executionId": "made-while-waiting"})
            assert (await client.post(RUN, content=body, headers=api.headers)).status_code == 200
            return await asyncio.wait_for(asked, 30)

        assert [each["execution"] for each in api.session(both).json()["events"]] == ["made-while-waiting"]

    def test_who_waits_is_not_told_of_what_comes_after_their_credential_has_ended(self, api: Api) -> None:
        api.deployed()
        made = api.post("/v0/profile/api_keys", {"name": "for a while"}).json()
        other = {**api.headers, "Authorization": f"Bearer {made['apiKey']}"}

        async def both(client: httpx2.AsyncClient) -> httpx2.Response:
            asked = asyncio.ensure_future(client.get(f"{EVENTS}?after=newest&wait=60", headers=other))
            while not api.parts.database.news.is_awaited:  # noqa: ASYNC110 - another thread's list has no event
                await asyncio.sleep(0.001)
            await client.delete(f"/v0/profile/api_keys/{made['id']}", headers=api.headers)
            await client.post(RUN, content=b"{}", headers=api.headers)
            return await asyncio.wait_for(asked, 30)

        assert_problem(api.session(both), 401, "UNAUTHORIZED")

    @pytest.mark.parametrize("tasks", [True, False])
    def test_who_leaves_tasks_out_is_woken_by_what_they_wait_for_only(self, api: Api, tasks: bool) -> None:
        api.deployed()
        database = api.parts.database

        async def both(client: httpx2.AsyncClient) -> tuple[bool, httpx2.Response]:
            query = f"?after=newest&wait=60&tasks={str(tasks).lower()}"
            asked = asyncio.ensure_future(client.get(f"{EVENTS}{query}", headers=api.headers))
            while not (database.news.is_awaited or database.milestones.is_awaited):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
            by_tasks = database.news.is_awaited
            await client.post(RUN, content=b"{}", headers=api.headers)
            return by_tasks, await asyncio.wait_for(asked, 30)

        by_tasks, answer = api.session(both)
        assert (by_tasks, len(answer.json()["events"])) == (tasks, 1)

    def test_nothing_happens_and_the_time_is_over(self, api: Api) -> None:
        after = api.get(f"{EVENTS}?after=newest").json()["next"]
        assert api.get(f"{EVENTS}?after={after}&wait=1").json() == {"events": [], "next": after, "more": False}
