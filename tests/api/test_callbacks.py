"""Callbacks by API: secrets that are shown once, what is written when an execution ends, lists, replays, rotation."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.api.asking import STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.model.addresses import Allowed
from tidemill.model.lease import OutcomeKind
from tidemill.model.principal import Principal, Role
from tidemill.model.states import DeliveryEvent
from tidemill.outgoing.guard import Guard
from tidemill.service import executions, key_rotation
from tidemill.service.executions import ExecutionRequest
from tidemill.store import outbox, schema
from tidemill.store.outbox import Claimed, Pick, Result

JOB = "/v0/jobs/sweep"
LIST = f"{JOB}/callbacks"
HOOK = "https://hooks.example.org/in?a=b"
MASK = "****"
WHO = Principal(id="cron", workspace="main", role=Role.ADMIN)


def trigger(name: str = "t1", url: str | None = HOOK, **configuration: Any) -> dict[str, Any]:
    return {
        "id": name,
        "type": "http-async",
        "configuration": {"path": f"/{name}", "callbackUrl": url, **configuration},
    }


def put(api: Api, *triggers: object, upload: bool = False) -> Any:
    answer = api.put(f"{JOB}?upload={str(upload).lower()}", {"spec": {"triggers": triggers}})
    assert answer.status_code == 200, answer.text
    return answer if upload else answer.json()


def secrets(job: dict[str, Any]) -> dict[str, str]:
    return {
        each["id"]: each["configuration"]["callbackSecret"]
        for each in job["spec"].get("triggers", [])
        if "callbackSecret" in each.get("configuration", {})
    }


def started(api: Api, name: str = "t1", tasks: int = 1) -> str:
    """An execution that the trigger has started; its id."""
    api.later(0.01)  # keys of one millisecond are in no order
    request = ExecutionRequest(trigger=name, tasks=executions.ONE_TASK * tasks)
    return executions.create(api.parts, WHO, "sweep", request, now=api.now[0]).id


def ended(api: Api, name: str = "t1") -> str:
    execution = started(api, name)
    api.run_task(execution, 0)
    api.end_task(execution, 0)
    return execution


def listed(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"{LIST}{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def claim(api: Api, count: int = 10) -> list[Claimed]:
    def unit(connection: Any) -> list[Claimed]:
        wanted = [
            Pick(workspace=place.workspace, receiver=place.receiver, count=count) for place in outbox.places(connection)
        ]
        return outbox.claim(connection, wanted, now=api.now[0])

    return api.parts.database.write(unit)


def settle(api: Api, claimed: Claimed, event: DeliveryEvent | None, **facts: Any) -> bool:
    if event is DeliveryEvent.RETRY:
        facts = {"due_at": api.now[0] + timedelta(seconds=1), **facts}
    result = Result(event=event, **facts)
    return api.parts.database.write(lambda connection: outbox.settle(connection, claimed, result, now=api.now[0]))


def park(api: Api) -> None:
    for claimed in claim(api):
        assert settle(api, claimed, DeliveryEvent.PARK, answered=500, message="the receiver answered 500")


# the secret


def test_a_secret_is_made_when_a_url_is_set_and_shown_this_once(api: Api) -> None:
    api.deployed()
    first = put(api, trigger(), trigger("plain", url=None))
    (secret,) = secrets(first).values()
    assert secret.startswith("tmc_")
    assert len(secret) >= 47
    assert "*" not in secret
    assert secrets(first) == {"t1": secret}
    for job in (api.get(JOB).json(), api.get(f"{JOB}?show_secrets=true").json(), api.get("/v0/jobs").json()["data"][0]):
        assert secrets(job) == {"t1": MASK}


def test_what_comes_back_of_a_secret_means_keep(api: Api) -> None:
    api.deployed()
    (secret,) = secrets(put(api, trigger())).values()
    for sent in (MASK, "tmc_a****b", secret, "mine", "", None):
        assert secrets(put(api, trigger(callbackSecret=sent))) == {"t1": MASK}
    assert secrets(put(api, trigger(url="https://other.example.org/"))) == {"t1": MASK}
    assert secrets(api.put(JOB, {"spec": {"enabled": True}}).json()) == {"t1": MASK}
    ended(api)
    (claimed,) = claim(api)
    assert api.parts.keyring.open(claimed.secret_sealed, f"callback/{claimed.key}") == secret


def test_a_url_that_is_taken_away_and_set_again_has_another_secret(api: Api) -> None:
    api.deployed()
    (first,) = secrets(put(api, trigger())).values()
    for without in ([], [trigger(url="")], [trigger("t2", url=None)]):
        put(api, *without)
        assert secrets(api.get(JOB).json()) == {}
        (again,) = secrets(put(api, trigger())).values()
        assert again not in {first, MASK}
        first = again


def test_a_new_job_and_a_staged_deploy_show_theirs_at_once(api: Api) -> None:
    body = {"metadata": {"name": "sweep"}, "spec": {"triggers": [trigger()]}}
    answer = api.post("/v0/jobs?upload=true", body)
    (secret,) = secrets(answer.json()).values()
    assert secret.startswith("tmc_")
    api.upload(answer)
    api.finish_build()
    ended(api)
    staged = put(api, trigger("t2"), upload=True)
    # as they will be: else nobody would ever see the secret
    assert list(secrets(staged.json())) == ["t2"]
    (coming,) = secrets(staged.json()).values()
    assert secrets(api.get(JOB).json()) == {"t1": MASK}
    api.upload(staged)
    # not in force yet: what t1 starts is told of
    ended(api)
    api.finish_build()
    ended(api, "t2")
    assert [(each["triggerId"], each["status"]) for each in listed(api)] == [
        ("t2", "pending"),
        ("t1", "pending"),
        ("t1", "pending"),
    ]
    found = [
        (each.url, each.url and api.parts.keyring.open(each.secret_sealed, f"callback/{each.key}"))
        for each in claim(api)
    ]
    # t1 has no callback any more
    assert found == [("", ""), ("", ""), (HOOK, coming)]


def test_the_secret_lies_nowhere_in_plain_text(api: Api) -> None:
    api.deployed()
    (secret,) = secrets(put(api, trigger())).values()
    ended(api)
    api.parts.database.close()
    folder = api.parts.database.path.parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in files)
    # the search would find it
    assert any(HOOK.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1/", "not on the public Internet"),
        ("http://169.254.169.254/latest/meta-data", "not on the public Internet"),
        ("http://[::ffff:10.0.0.1]/", "not on the public Internet"),
        ("http://2130706433/", "neither the name of a host"),
        ("http://localhost:8700/", "has no domain"),
        ("http://user:pass@hooks.example.org/", "user or a password"),
        ("http://hooks.example.org:22/", "the port 22"),
    ],
)
def test_a_url_that_can_never_be_reached_is_400_when_it_is_set(api: Api, url: str, why: str) -> None:
    api.deployed()
    before = api.get(JOB).json()
    answer = api.put(JOB, {"spec": {"triggers": [trigger(), trigger("t2", url=url)]}})
    message = assert_problem(answer, 400, "INVALID")
    assert f'spec.triggers[1].configuration.callbackUrl is "{url}' in message
    assert why in message
    assert api.get(JOB).json() == before


def test_the_setting_names_exceptions(api: Api) -> None:
    api.deployed()
    guarded = Guard(allowed=Allowed.parse(["10.0.0.0/8", "localhost"]))
    api.parts = replace(api.parts, guard=guarded)
    api.context = replace(api.context, parts=api.parts)
    put(api, trigger(url="http://10.0.0.1:22/"), trigger("t2", url="http://localhost/"))


# what is written when an execution ends


def test_an_end_is_written_with_the_execution_however_it_ends(api: Api) -> None:
    api.deployed(maxRetries=0)
    put(api, trigger())
    told = dict[str, tuple[str, int]]()
    told[ended(api)] = ("succeeded", 200)
    failed = started(api)
    api.run_task(failed, 0)
    api.end_task(failed, 0, OutcomeKind.EXIT_CODE, exit_code=3)
    told[failed] = ("failed", 500)
    late = started(api)
    api.run_task(late, 0)
    api.end_task(late, 0, OutcomeKind.TIMED_OUT)
    told[late] = ("failed", 504)
    both = started(api, tasks=2)
    api.run_task(both, 1)
    api.end_task(both, 0, OutcomeKind.TIMED_OUT)
    api.end_task(both, 1, OutcomeKind.OUT_OF_MEMORY)
    told[both] = ("failed", 500)
    waiting = started(api)
    assert api.delete(f"{JOB}/executions/{waiting}").json()["status"] == "cancelled"
    told[waiting] = ("cancelled", 499)
    running = started(api)
    api.run_task(running, 0)
    api.delete(f"{JOB}/executions/{running}")
    assert running not in {each["executionId"] for each in listed(api)}
    api.end_task(running, 0)
    told[running] = ("cancelled", 499)
    deleted = started(api)
    api.delete(JOB)
    told[deleted] = ("cancelled", 499)
    found = listed(api)
    assert {each["executionId"]: (each["executionStatus"], each["statusCode"]) for each in found} == told
    assert {(each["status"], each["tries"], each["triggerId"]) for each in found} == {("pending", 0, "t1")}
    assert [each["executionId"] for each in found] == list(told)[::-1]


def test_nothing_is_written_for_a_request_a_rerun_or_a_trigger_without_a_callback(api: Api) -> None:
    api.deployed()
    put(api, trigger(), trigger("quiet", url=None))
    ended(api, "quiet")
    ended(api, "gone")
    ended(api, "")
    plain = api.post(f"{JOB}/executions", {}).json()["executionId"]
    api.delete(f"{JOB}/executions/{plain}?force=true")
    told = started(api)
    api.delete(f"{JOB}/executions/{told}")
    again = api.post(f"{JOB}/executions/{told}/rerun", {"select": "not_succeeded"}).json()["executionId"]
    api.delete(f"{JOB}/executions/{again}")
    assert [each["executionId"] for each in listed(api)] == [told]


def test_a_callback_that_was_taken_away_before_the_end_is_not_written(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = started(api)
    put(api)
    api.delete(f"{JOB}/executions/{execution}")
    assert listed(api) == []


def test_a_unit_that_fails_writes_neither_the_end_nor_the_callback(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = started(api)
    api.run_task(execution, 0)
    in_the_way = {
        "execution": int(api.key(execution)),
        "execution_id": execution,
        "workspace": "main",
        "job": 1,
        "trigger_id": "t1",
        "receiver": "r",
        "state": "pending",
        "status": "succeeded",
        "code": 200,
        "stats": {},
        "due_at": api.now[0],
        "created_at": api.now[0],
    }
    api.parts.database.write(lambda connection: connection.execute(schema.outbox.insert(), [in_the_way]))
    with pytest.raises(IntegrityError, match="UNIQUE"):
        api.end_task(execution, 0)
    assert api.get(f"{JOB}/executions/{execution}").json()["status"] == "running"


# claims


def test_a_claim_is_a_lease_that_ends_and_only_the_newest_one_settles(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    ended(api)
    (first,) = claim(api)
    assert claim(api) == []
    api.later(59)
    assert claim(api) == []
    api.later(2)
    (second,) = claim(api)
    assert (second.execution, second.tries) == (first.execution, 0)
    assert not settle(api, first, DeliveryEvent.DELIVER, answered=200)
    assert [each["status"] for each in listed(api)] == ["pending"]
    assert settle(api, second, DeliveryEvent.DELIVER, answered=200)
    assert not settle(api, second, DeliveryEvent.PARK)
    (found,) = listed(api)
    assert (found["status"], found["tries"], found["lastAnswer"]) == ("delivered", 1, 200)


def test_two_servers_never_have_the_same_row(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    for _ in range(5):
        ended(api)
    keys = [claimed.execution for _ in range(4) for claimed in claim(api, 2)]
    assert len(keys) == len(set(keys)) == 5


def test_a_failed_try_waits_and_a_released_one_does_not(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    ended(api)
    (claimed,) = claim(api)
    assert settle(api, claimed, DeliveryEvent.RETRY, answered=503, message="the receiver answered 503")
    assert claim(api) == []
    (found,) = listed(api)
    assert (found["status"], found["tries"], found["lastAnswer"]) == ("pending", 1, 503)
    assert found["lastError"] == "the receiver answered 503"
    api.later(1)
    (claimed,) = claim(api)
    assert settle(api, claimed, None)
    (claimed,) = claim(api)
    assert claimed.tries == 1
    # a server that begins anew knows that nobody sends
    assert api.parts.database.write(lambda connection: outbox.release(connection, now=api.now[0])) == 1
    assert len(claim(api)) == 1


def test_what_waits_goes_where_the_callback_goes_now(api: Api) -> None:
    api.deployed()
    put(api, trigger(retry=2))
    ended(api)
    put(api, trigger(url="https://other.example.org:8443/x", retry=7))
    (claimed,) = claim(api)
    assert (claimed.receiver, claimed.url, claimed.retries) == (
        "other.example.org:8443",
        "https://other.example.org:8443/x",
        7,
    )
    settle(api, claimed, None)
    put(api)
    (claimed,) = claim(api)
    assert claimed.url == ""


# lists and replays


def test_callbacks_are_listed_by_state_over_pages_newest_first(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    old = [ended(api) for _ in range(3)]
    park(api)
    new = [ended(api) for _ in range(2)]
    assert [each["executionId"] for each in listed(api, "?status=parked")] == old[::-1]
    assert [each["executionId"] for each in listed(api, "?status=PENDING,%20delivered")] == new[::-1]
    (one,) = listed(api, "?status=parked&limit=1")
    assert {"nextTryAt"} & set(one) == set()
    assert one["settledAt"] == one["createdAt"]
    seen, cursor = list[str](), ""
    for _ in range(5):
        answer = api.get(f"{LIST}?limit=2&cursor={cursor}").json()
        seen += [each["executionId"] for each in answer["data"]]
        cursor = answer["meta"]["nextCursor"]
        assert answer["meta"]["hasMore"] == bool(cursor)
        if not cursor:
            break
    assert seen == [*old, *new][::-1]
    assert "delivered, parked" in assert_problem(api.get(f"{LIST}?status=lost"), 400, "INVALID").replace(
        "pending, ", ""
    )
    assert_problem(api.get(f"{LIST}?sort=name:asc"), 400, "INVALID")
    assert_problem(api.get("/v0/jobs/nobody/callbacks"), 404, "NOT_FOUND")


def test_parked_ones_are_delivered_again_one_or_all(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    first, second, third = (ended(api) for _ in range(3))
    park(api)
    assert claim(api) == []
    api.later(3_600)
    answer = api.post(f"{LIST}/{first[:8]}/replay")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["executionId"], answer.json()["status"], answer.json()["tries"]) == (first, "pending", 0)
    (claimed,) = claim(api)
    assert claimed.execution_id == first
    assert settle(api, claimed, DeliveryEvent.DELIVER, answered=200)
    assert api.post(f"{LIST}/replay").json() == {"replayed": 2}
    assert sorted(each.execution_id for each in claim(api)) == sorted([second, third])
    assert api.post(f"{LIST}/replay").json() == {"replayed": 0}
    # one that was delivered may be delivered once more, when it is named
    assert api.post(f"{LIST}/{first}/replay").json()["status"] == "pending"
    assert_problem(api.post(f"{LIST}/missing-execution/replay"), 404, "NOT_FOUND")
    assert_problem(api.post("/v0/jobs/nobody/callbacks/replay"), 404, "NOT_FOUND")


def test_a_replay_goes_where_the_callback_goes_now_and_does_not_wait(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = ended(api)
    park(api)
    put(api, trigger(url="https://new.example.org/"))
    api.post(f"{LIST}/replay")
    (claimed,) = claim(api)
    assert (claimed.url, claimed.receiver) == ("https://new.example.org/", "new.example.org:443")
    # one that is being sent is left alone; one that waits for its next try is not
    assert api.post(f"{LIST}/{execution}/replay").json()["status"] == "pending"
    assert claim(api) == []
    assert settle(api, claimed, DeliveryEvent.RETRY, due_at=api.now[0] + timedelta(hours=1))
    assert claim(api) == []
    assert api.post(f"{LIST}/{execution}/replay").json()["tries"] == 0
    assert len(claim(api)) == 1


def test_a_prefix_that_fits_several_is_400(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    for number in range(2):
        request = ExecutionRequest(trigger="t1", id=f"the-same-{number}")
        executions.create(api.parts, WHO, "sweep", request, now=api.now[0])
        api.delete(f"{JOB}/executions/the-same-{number}")
    assert "the-same-0, the-same-1" in assert_problem(api.post(f"{LIST}/the-same/replay"), 400, "INVALID")


def test_callbacks_outlive_their_job_and_their_execution_until_they_are_settled(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = started(api)
    api.delete(JOB)
    assert_problem(api.get(JOB), 404, "NOT_FOUND")
    assert [each["executionId"] for each in listed(api)] == [execution]
    park(api)
    assert api.post(f"{LIST}/replay").json() == {"replayed": 1}
    (claimed,) = claim(api)
    assert claimed.url == HOOK


# rotation


def opened(api: Api, claimed: Claimed) -> tuple[str, str]:
    older = claimed.older_sealed and api.parts.keyring.open(claimed.older_sealed, f"callback/{claimed.key}/older")
    return api.parts.keyring.open(claimed.secret_sealed, f"callback/{claimed.key}"), older


def rotate(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.post(f"{JOB}/triggers/t1/callback_secret{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_rotated_secret_is_beside_the_older_one_for_a_time(api: Api) -> None:
    api.deployed()
    (first,) = secrets(put(api, trigger())).values()
    ended(api)
    answer = rotate(api, "?overlap=600")
    second = answer["callbackSecret"]
    assert answer["triggerId"] == "t1"
    assert answer["previousSecretEndsAt"].startswith("2026-11-23T12:10:00")
    assert second.startswith("tmc_")
    assert second != first
    (claimed,) = claim(api)
    assert opened(api, claimed) == (second, first)
    settle(api, claimed, None)
    api.later(600)
    (claimed,) = claim(api)
    assert opened(api, claimed) == (second, "")
    settle(api, claimed, None)
    third = rotate(api, "?overlap=0")["callbackSecret"]
    (claimed,) = claim(api)
    assert opened(api, claimed) == (third, "")
    assert second not in api.get("/v0/audit").text
    assert secrets(put(api, trigger())) == {"t1": MASK}


def test_what_cannot_be_rotated_is_said(api: Api) -> None:
    api.deployed()
    put(api, trigger(), trigger("quiet", url=None))
    path = f"{JOB}/triggers/t1/callback_secret"
    for overlap in ("-1", "604801"):
        assert f"overlap is {overlap}" in assert_problem(api.post(f"{path}?overlap={overlap}"), 400, "INVALID")
    assert_problem(api.post(f"{path}?overlap=soon"), 400, "INVALID")
    for missing in ("quiet", "t9"):
        answer = api.post(f"{JOB}/triggers/{missing}/callback_secret")
        assert f"no trigger '{missing}' with a callbackUrl" in assert_problem(answer, 404, "NOT_FOUND")
    assert_problem(api.post("/v0/jobs/nobody/triggers/t1/callback_secret"), 404, "NOT_FOUND")


def test_another_workspace_sees_and_moves_nothing(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = ended(api)
    stranger = {"Authorization": f"Bearer {STRANGER}"}
    assert_problem(api.get(LIST, headers=stranger), 404, "NOT_FOUND")
    for path in (f"{LIST}/replay", f"{LIST}/{execution}/replay", f"{JOB}/triggers/t1/callback_secret"):
        assert_problem(api.post(path, headers=stranger), 404, "NOT_FOUND")
        assert api.post(path, headers={"Authorization": None}).status_code == 401


def test_rotations_and_replays_are_audited(api: Api) -> None:
    api.deployed()
    put(api, trigger())
    execution = ended(api)
    park(api)
    api.post(f"{LIST}/replay")
    api.post(f"{LIST}/{execution}/replay")
    rotate(api)
    rows = [(each["action"], each["resource"]) for each in api.get("/v0/audit?limit=3").json()["data"]]
    assert rows == [
        ("callbacks.rotate", "jobs/sweep/triggers/t1/callback_secret"),
        ("callbacks.replay", f"jobs/sweep/callbacks/{execution}/replay"),
        ("callbacks.replay", "jobs/sweep/callbacks/replay"),
    ]


def test_keys_that_sealed_secrets_of_callbacks_can_be_rotated_away(api: Api) -> None:
    api.deployed()
    (first,) = secrets(put(api, trigger())).values()
    second = rotate(api)["callbackSecret"]
    ended(api)
    before, ring = api.parts.keyring.active, api.parts.keyring
    ring.adopt(ring.rotated(1.0))
    key_rotation.rotate(replace(api.parts, home="main"), WHO, now=api.now[0])
    (claimed,) = claim(api)
    assert (
        {sealed.split(".")[1] for sealed in (claimed.secret_sealed, claimed.older_sealed)} == {ring.active} != {before}
    )
    assert opened(api, claimed) == (second, first)
