"""``spec.triggers``: their form is checked, ids are made, and they come back as they were sent."""

from datetime import timedelta
from typing import Any

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.api.wire import timestamp
from tidemill.scheduler.fire import TriggerClock
from tidemill.store import nodes

JOB = "/v0/jobs/sweep"
CRON = {"schedule": "0 3 * * *"}


def put(api: Api, *triggers: object) -> list[dict[str, Any]]:
    answer = api.put(JOB, {"spec": {"triggers": triggers}})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["spec"]["triggers"]
    assert api.get(JOB).json()["spec"]["triggers"] == found
    return found


def refused(api: Api, **trigger: Any) -> str:
    return assert_problem(api.put(JOB, {"spec": {"triggers": [trigger]}}), 400, "INVALID")


def test_ids_are_made_where_there_is_none_and_stay_the_same_for_the_same_request(api: Api) -> None:
    api.deployed()
    sent = [
        {"type": "cron", "configuration": CRON},
        {"type": "http", "id": ""},
        {"type": "cron", "configuration": CRON},
    ]
    assert [trigger["id"] for trigger in put(api, *sent)] == ["cron-1", "http-1", "cron-2"]
    assert [trigger["id"] for trigger in put(api, *sent)] == ["cron-1", "http-1", "cron-2"]


def test_ids_are_unique_inside_a_job(api: Api) -> None:
    api.deployed()
    names = ("a", "a", "a-2", "a", None, "cron-1", "x" * 64, "x" * 64)
    ids = [
        trigger["id"] for trigger in put(api, *({"type": "cron", "id": name, "configuration": CRON} for name in names))
    ]
    assert ids == ["a", "a-3", "a-2", "a-4", "cron-2", "cron-1", "x" * 64, f"{'x' * 56}-2"]


def test_enabled_is_true_unless_it_is_false(api: Api) -> None:
    api.deployed()
    cron = {"type": "cron", "configuration": CRON}
    sent = [cron, *({**cron, "enabled": value} for value in (None, True, False))]
    assert [trigger["enabled"] for trigger in put(api, *sent)] == [True, True, True, False]


def test_all_members_come_back_and_so_do_unknown_ones(api: Api) -> None:
    api.deployed()
    trigger = {
        "id": "t1",
        "type": "http-async",
        "enabled": False,
        "mood": "calm",
        "configuration": {
            "schedule": "*/5 0-6 L JAN,MAR MON#2",
            "timezone": "Europe/Paris",
            "catchUp": "all",
            "overlap": "skip",
            "tasks": [{"a": 1}, {}],
            "path": "/in/voke",
            "authenticationType": "public",
            "retry": 0,
            "timeout": 900,
            "callbackUrl": "https://example.org/hook?a=b",
            "colour": "blue",
        },
    }
    put_first = api.put(JOB, {"spec": {"triggers": [trigger]}})  # the only answer with the secret of its callback
    assert put_first.status_code == 200
    configuration: dict[str, Any] = {**trigger["configuration"], "callbackSecret": "****"}  # type: ignore[dict-item]
    assert put(api, trigger) == [{**trigger, "configuration": configuration}]
    answer = api.put(f"{JOB}?strict=true", {"spec": {"triggers": [trigger]}})
    message = assert_problem(answer, 400, "INVALID")
    assert "spec.triggers.configuration.colour" in message
    assert "spec.triggers.mood" in message


def test_what_go_prints_of_members_never_set_is_left_out(api: Api) -> None:
    api.deployed()
    zero = {"schedule": "", "path": "", "authenticationType": "", "timeout": 0, "callbackUrl": "", "tasks": None}
    (found,) = put(api, {"id": "t1", "type": "http", "configuration": {**zero, "callbackSecret": "****"}})
    assert found["configuration"] == {}


@pytest.mark.parametrize(
    ("kind", "member", "value", "right"),
    [
        ("cron", "schedule", "every day", "five fields"),
        ("cron", "schedule", "0 3 * *", "five fields"),
        ("cron", "schedule", "0 3 * * * *", "five fields"),
        ("cron", "schedule", 5, "five fields"),
        ("http", "schedule", "* * * * " + "1" * 200, "200"),
        ("cron", "schedule", "61 3 * * *", "minute has"),
        ("cron", "schedule", "0 3 * * *\n* * * * *", "five fields"),
        ("cron", "schedule", "0 0 30 2 *", "no date is ever"),
        ("cron", "schedule", "@daily", "'0 0 * * *'"),
        ("http", "timezone", 1, "time zone"),
        ("cron", "timezone", "Europe/Pari", "did you mean"),
        ("cron", "timezone", "../../etc/passwd", "time zone"),
        ("http", "catchUp", "some", "none, last, all"),
        ("http", "overlap", True, "allow, skip"),
        ("http", "tasks", {"a": 1}, "array of objects"),
        ("http", "tasks", "[]", "array of objects"),
        ("http", "path", "invoke", "begins with /"),
        ("http", "path", "/a b", "begins with /"),
        ("http", "path", 1, "begins with /"),
        ("http", "path", "/executions", "another one"),
        ("http", "authenticationType", "private", "blaxel, public"),
        ("http", "authenticationType", ["public"], "blaxel, public"),
        ("http", "retry", -1, "0 to 100"),
        ("http", "retry", 101, "0 to 100"),
        ("http", "retry", "3", "0 to 100"),
        ("http", "retry", True, "0 to 100"),
        ("http-async", "timeout", 901, "1 to 900"),
        ("http-async", "timeout", -1, "1 to 900"),
        ("http", "timeout", 86_401, "1 to 86400"),
        ("http", "timeout", False, "1 to 86400"),
        ("http", "timeout", 1.5, "1 to 86400"),
        ("http", "callbackUrl", "ftp://example.org", "http:// or https://"),
        ("http", "callbackUrl", "https://", "http:// or https://"),
        ("http", "callbackUrl", {}, "http:// or https://"),
    ],
)
def test_a_member_that_cannot_be_is_400_with_path_value_and_what_would_be_right(
    api: Api, kind: str, member: str, value: object, right: str
) -> None:
    api.deployed()
    before = api.get(JOB).json()
    configuration = {**(CRON if kind == "cron" else {}), member: value}
    message = refused(api, type=kind, configuration=configuration)
    assert f"spec.triggers[0].configuration.{member} is {repr(value)[:60]}" in message
    assert right in message
    assert api.get(JOB).json() == before


def test_tasks_have_limits(api: Api) -> None:
    api.deployed()
    put(api, {"type": "http", "configuration": {"tasks": [{}] * 10_000}})
    many = refused(api, type="http", configuration={"tasks": [{}] * 10_001})
    assert "spec.triggers[0].configuration.tasks has 10001 elements" in many
    assert "1048576" in refused(api, type="http", configuration={"tasks": [{"a": "x" * 1_048_576}]})
    assert "spec.triggers[0].configuration.tasks[1] is 5" in refused(api, type="http", configuration={"tasks": [{}, 5]})


def test_a_job_has_up_to_a_hundred(api: Api) -> None:
    api.deployed()
    cron = {"type": "cron", "configuration": CRON}
    put(api, *([cron] * 100))
    answer = api.put(JOB, {"spec": {"triggers": [cron] * 101}})
    assert "spec.triggers has 101 elements; a job may have up to 100" in assert_problem(answer, 400, "INVALID")


def test_an_execution_says_which_trigger_started_it_and_when_that_was_due(api: Api) -> None:
    api.deployed()
    put(api, {"id": "often", "type": "cron", "configuration": {"schedule": "* * * * *", "tasks": [{"a": 1}, {"a": 2}]}})
    clock = TriggerClock(database=api.parts.database, steady=lambda: 0.0, regions=api.parts.regions)
    term = api.parts.database.write(lambda one: nodes.take_term(one, "scheduler", holder="test", now=api.now[0]))
    clock.tick(term, api.now[0])
    api.later(60)
    due = clock.tick(term, api.now[0])
    assert due is not None
    (made,) = api.get(f"{JOB}/executions").json()["data"]
    assert made["metadata"]["trigger"] == "often"
    assert made["metadata"]["dueAt"] == timestamp(due - timedelta(minutes=1))
    assert made["stats"]["total"] == 2
    sent = api.post(f"{JOB}/executions", {"tasks": [{}]}).json()
    assert {"trigger", "dueAt"} & api.get(f"{JOB}/executions/{sent['executionId']}").json()["metadata"].keys() == set()
    again = api.post(f"{JOB}/executions", {"executionId": made["metadata"]["id"]})
    assert_problem(again, 409, "CONFLICT")


def test_a_cron_trigger_needs_a_schedule(api: Api) -> None:
    api.deployed()
    for trigger in ({}, {"configuration": None}, {"configuration": {"schedule": ""}}):
        assert "spec.triggers[0].configuration.schedule is missing" in refused(api, type="cron", **trigger)


@pytest.mark.parametrize("name", ["a b", "x" * 65, "é", "a/b"])
def test_an_id_that_no_path_could_hold_is_400(api: Api, name: str) -> None:
    api.deployed()
    assert f"spec.triggers[0].id is {name!r}"[:60] in refused(api, type="http", id=name)


@pytest.mark.parametrize("trigger", [{"type": "http", "id": 5}, {"type": "http", "enabled": "yes"}, {"id": "t1"}, 5])
def test_a_member_of_another_type_is_400(api: Api, trigger: object) -> None:
    api.deployed()
    answer = api.put(JOB, {"spec": {"triggers": [trigger]}})
    assert "spec.triggers[0]" in assert_problem(answer, 400, "INVALID")
