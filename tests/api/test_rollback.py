"""Back to a revision that is kept: ``spec.revision.active`` of a PUT."""

from typing import Any

import pytest
from sqlalchemy import select

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.service import specs
from tidemill.store import schema, snapshot

PATH = "/v0/jobs/sweep/executions"
ENVS = [{"name": "TOKEN", "value": "first", "secret": True}]


def job(api: Api) -> Any:
    return api.get("/v0/jobs/sweep").json()


def active(api: Api) -> str:
    found: str = job(api)["spec"]["revision"]["active"]
    return found


def put(api: Api, revision: str, spec: dict[str, Any] | None = None, query: str = "") -> Any:
    return api.put(f"/v0/jobs/sweep{query}", {"spec": {**(spec or {}), "revision": {"active": revision}}})


def built_again(api: Api, **runtime: Any) -> str:
    """A deploy with an image of its own; the revision's id."""
    answer = api.put("/v0/jobs/sweep?upload=true", {"spec": {"runtime": runtime}})
    assert api.upload(answer).status_code == 200
    api.finish_build()
    return active(api)


def two(api: Api) -> tuple[str, str]:
    """A job with two revisions, of which the second is active."""
    api.deployed(timeout=60, envs=ENVS)
    first = active(api)
    second = built_again(api, timeout=61, envs=[{**ENVS[0], "value": "second"}])
    return first, second


def run(api: Api) -> Any:
    """The row of a new execution."""
    execution = api.post(PATH, b"").json()["executionId"]
    table = schema.execution
    query = select(table).where(table.c.id == execution)
    return api.parts.database.read(lambda connection: connection.execute(query).one())


def test_new_executions_run_the_revision_and_the_image_that_was_rolled_back_to(api: Api) -> None:
    api.deployed(timeout=60, envs=ENVS)
    before, old = job(api), run(api)
    built_again(api, timeout=61, envs=[{**ENVS[0], "value": "second"}])
    during = run(api)
    answer = put(api, old.revision)
    assert answer.status_code == 200, answer.text
    assert answer.json()["spec"] == before["spec"]
    assert (answer.json()["status"], active(api)) == ("DEPLOYED", old.revision)
    new = run(api)
    assert (new.revision, new.image_digest, new.timeout_s) == (old.revision, old.image_digest, 60)
    assert (during.revision, during.timeout_s) != (new.revision, new.timeout_s)
    facts = api.parts.database.read(lambda connection: snapshot.execution_facts(connection, [new.key]))
    spec = facts[new.key].spec
    (env,) = specs.opened(spec, new.job, new.revision, api.parts.keyring).runtime.envs
    assert env.value == "first"
    assert "rolled back" in job(api)["events"][-1]["message"]
    assert job(api)["events"][-1]["revision"] == old.revision


def test_a_rollback_makes_no_revision_and_can_be_taken_back(api: Api) -> None:
    first, second = two(api)
    for revision in (first, second, first):
        assert put(api, revision).status_code == 200
        assert active(api) == revision
        assert api.revisions("sweep") == [first, second]


def test_the_current_id_and_none_are_no_wish(api: Api) -> None:
    _, second = two(api)
    events = len(job(api)["events"])
    for revision in (second, "", None):
        answer = api.put("/v0/jobs/sweep", {"spec": {"revision": {"active": revision}, "runtime": {"timeout": 61}}})
        assert answer.status_code == 200
        assert active(api) == second
    assert all("rolled back" not in event["message"] for event in job(api)["events"][events:])


@pytest.mark.parametrize(
    "spec",
    [
        {"runtime": {"timeout": 62}},
        {"runtime": {"envs": [{"name": "CITY", "value": "Lyon"}]}},
        {"region": "auto"},
        {"volumes": [{"name": "scratch", "mountPath": "/s", "type": "ephemeral", "sizeMb": 1}]},
    ],
)
def test_another_id_with_a_changed_spec_is_400_and_changes_nothing(api: Api, spec: dict[str, Any]) -> None:
    first, _ = two(api)
    before = job(api)
    message = assert_problem(put(api, first, spec), 400, "INVALID")
    assert f"spec.revision.active is {first!r}" in message
    assert job(api) == before


def test_what_was_read_may_be_sent_back_with_another_id(api: Api) -> None:
    first, second = two(api)
    newer = job(api)["spec"]
    assert put(api, first, newer).status_code == 200
    assert active(api) == first
    # and the spec as the other revision has it is no change either
    assert put(api, second, newer).status_code == 200
    assert active(api) == second
    assert job(api)["spec"] == newer


def test_what_needs_no_revision_stays_as_it_is_now_and_may_change_beside_it(api: Api) -> None:
    first, second = two(api)
    trigger = {"id": "t1", "type": "cron", "enabled": False, "configuration": {"schedule": "0 3 * * *"}}
    api.put("/v0/jobs/sweep", {"spec": {"triggers": [trigger], "policies": ["eu"]}})
    assert active(api) == second
    assert put(api, first, {"policies": ["us"], "enabled": False}).json()["status"] == "DEACTIVATED"
    spec = job(api)["spec"]
    assert (spec["triggers"], spec["policies"], spec["enabled"]) == ([trigger], ["us"], False)


@pytest.mark.parametrize("revision", ["rev-nowhere", "x" * 500])
def test_an_id_that_is_not_kept_is_400_and_tells_those_that_are(api: Api, revision: str) -> None:
    first, second = two(api)
    message = assert_problem(put(api, revision), 400, "INVALID")
    assert revision[:64] in message
    assert first in message
    assert second in message
    assert len(message) < 600


def test_only_kept_revisions_can_be_rolled_back_to(api: Api) -> None:
    api.deployed(timeout=60)
    gone = active(api)
    for timeout in range(61, 65):
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": timeout}}})
    assert put(api, gone).status_code == 200
    pinned = run(api)
    for timeout in range(70, 76):
        api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": timeout}}})
    # an execution is pinned to it: it is the sixth that is kept
    assert api.revisions("sweep")[0] == pinned.revision == gone
    assert len(api.revisions("sweep")) == 6
    assert put(api, gone).status_code == 200
    other = api.revisions("sweep")[1]
    put(api, other)
    api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 80}}})
    assert other not in api.revisions("sweep")
    assert_problem(put(api, other), 400, "INVALID")


def test_the_revision_of_another_job_is_not_kept_here(api: Api) -> None:
    two(api)
    other = api.deployed("other")["spec"]["revision"]["active"]
    assert_problem(put(api, other), 400, "INVALID")


class TestBesideADeploy:
    def test_a_rollback_takes_the_place_of_a_deploy_that_is_under_way(self, api: Api) -> None:
        first, second = two(api)
        answer = api.put("/v0/jobs/sweep?upload=true", {"spec": {"runtime": {"timeout": 90}}})
        api.upload(answer)
        late = api.build_key()
        assert job(api)["status"] == "BUILDING"
        assert put(api, first).json()["status"] == "DEPLOYED"
        api.finish_build(late)
        assert active(api) == first
        assert api.revisions("sweep") == [first, second]
        assert "dropped" in job(api)["events"][-1]["message"]
        assert_problem(api.upload(answer), 409, "CONFLICT")

    def test_a_deploy_that_was_activated_before_can_be_rolled_back(self, api: Api) -> None:
        first, _ = two(api)
        third = built_again(api, timeout=90)
        assert put(api, first).status_code == 200
        assert third in api.revisions("sweep")

    def test_a_deploy_after_it_wins(self, api: Api) -> None:
        first, _ = two(api)
        put(api, first)
        newest = built_again(api, timeout=91)
        assert (active(api), run(api).revision) == (newest, newest)

    def test_a_deploy_starts_from_what_was_rolled_back_to(self, api: Api) -> None:
        first, _ = two(api)
        put(api, first)
        built_again(api, maxRetries=3)
        assert job(api)["spec"]["runtime"]["timeout"] == 60

    def test_bytes_that_follow_are_a_new_revision_never_an_old_one(self, api: Api) -> None:
        first, second = two(api)
        message = assert_problem(put(api, first, query="?upload=true"), 400, "INVALID")
        assert "upload" in message
        assert put(api, second, query="?upload=true").status_code == 200

    def test_a_staged_revision_is_none_to_roll_back_to(self, api: Api) -> None:
        first, second = two(api)
        api.put("/v0/jobs/sweep?upload=true", {"spec": {"runtime": {"timeout": 90}}})
        staged = api.revisions("sweep")[-1]
        assert staged not in {first, second}
        assert put(api, staged).status_code == 200
        assert active(api) == second

    def test_a_failed_deploy_does_not_keep_a_rollback_from_it(self, api: Api) -> None:
        first, _ = two(api)
        api.upload(api.put("/v0/jobs/sweep?upload=true", {"spec": {}}))
        api.fail_build("no")
        assert job(api)["status"] == "FAILED"
        assert put(api, first).json()["status"] == "DEPLOYED"


def test_a_job_that_is_being_deleted_cannot_be_rolled_back(api: Api) -> None:
    first, _ = two(api)
    run(api)
    api.node()
    execution = api.post(PATH, b"").json()["executionId"]
    api.run_task(execution, 0)
    api.delete("/v0/jobs/sweep")
    assert_problem(put(api, first), 409, "CONFLICT")
