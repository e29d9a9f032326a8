"""A canary: a share of new executions runs another kept revision than the active one."""

import uuid
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.asking import MEMBER, Api
from tests.api.test_access import assert_problem
from tests.api.test_semantics import lease_of
from tidemill.model.canary import is_chosen
from tidemill.store import schema

JOB = "/v0/jobs/sweep"
PATH = f"{JOB}/executions"
SAMPLE = {"active": "rev-abc123", "canary": "", "canaryPercent": 10, "stickySessionTtl": 0, "traffic": 100}


def put(api: Api, query: str = "", **spec: Any) -> Any:
    answer = api.put(f"{JOB}{query}", {"spec": spec})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(api: Api, **revision: Any) -> str:
    before = api.get(JOB).json()
    message = assert_problem(api.put(JOB, {"spec": {"revision": revision}}), 400, "INVALID")
    assert api.get(JOB).json() == before
    return message


def configuration(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get(JOB).json()["spec"]["revision"]
    return found


def canary(api: Api) -> tuple[str, int]:
    found = configuration(api)
    return found["canary"], found["canaryPercent"]


def two(api: Api) -> tuple[str, str]:
    """A job with two revisions; the second, which is active, has another image, memory and city."""
    first = api.deployed(timeout=60, memory=512, envs=[{"name": "CITY", "value": "Lyon"}])["spec"]["revision"]["active"]
    answer = api.put(
        f"{JOB}?upload=true", {"spec": {"runtime": {"timeout": 61, "envs": [{"name": "CITY", "value": "Oslo"}]}}}
    )
    api.upload(answer)
    api.finish_build()
    return first, configuration(api)["active"]


def run(api: Api, name: str = "", **options: Any) -> Any:
    """The row of a new execution."""
    answer = api.post(PATH, {"executionId": name or str(uuid.uuid4())}, **options)
    assert answer.status_code == 200, answer.text
    return row(api, answer.json()["executionId"])


def row(api: Api, name: str) -> Any:
    query = select(schema.execution).where(schema.execution.c.id == name)
    return api.parts.database.read(lambda connection: connection.execute(query).one())


def names(percent: int, *, chosen: bool, count: int = 3) -> list[str]:
    """Ids of executions that a canary of this share does, or does not, get."""
    found = (f"exec-{number:04}" for number in range(10_000))
    return [name for name in found if is_chosen(name, percent) is chosen][:count]


def test_the_share_of_the_canary_is_chosen_by_the_executions_id(api: Api) -> None:
    first, second = two(api)
    put(api, revision={"canary": first, "canaryPercent": 25})
    ids = [f"exec-{number:04}" for number in range(200)]
    ran = {name: run(api, name).revision for name in ids}
    assert ran == {name: first if is_chosen(name, 25) else second for name in ids}
    assert set(ran.values()) == {first, second}


def test_a_repeated_request_is_the_same_execution_whatever_the_canary_is_by_then(api: Api) -> None:
    first, second = two(api)
    (name,) = names(10, chosen=True, count=1)
    assert run(api, name).revision == second
    put(api, revision={"canary": first, "canaryPercent": 10})
    assert run(api, name).revision == second
    assert api.get(PATH).json()["meta"]["total"] == 1


def test_an_execution_of_the_canary_runs_its_image_limits_and_variables_to_the_end(api: Api) -> None:
    first, second = two(api)
    put(api, revision={"active": first})
    old = run(api)
    put(api, revision={"active": second, "canary": first, "canaryPercent": 50})
    (mine,), (other,) = names(50, chosen=True, count=1), names(50, chosen=False, count=1)
    chosen, rest = run(api, mine), run(api, other)
    assert (chosen.revision, chosen.image_digest, chosen.timeout_s) == (first, old.image_digest, 60)
    assert (rest.revision, rest.timeout_s) == (second, 61)
    lease = lease_of(api, mine)
    assert lease.environment["CITY"] == "Lyon"
    # through a deploy that ends the canary, and through as many updates as drive its revision out
    for timeout in range(70, 77):
        put(api, runtime={"timeout": timeout, "envs": [{"name": "CITY", "value": "Rome"}]})
    assert canary(api) == ("", 0)
    assert lease_of(api, mine) == lease
    assert row(api, mine).revision == first
    api.run_task(mine, 0)
    api.end_task(mine, 0)
    assert api.get(f"{PATH}/{mine}").json()["status"] == "succeeded"


def test_memory_of_a_request_is_held_against_the_revision_that_it_runs(api: Api) -> None:
    first, second = two(api)
    put(api, revision={"active": first})
    put(api, runtime={"memory": 1024}, revision={"canary": second, "canaryPercent": 50})
    (mine,), (other,) = names(50, chosen=True, count=1), names(50, chosen=False, count=1)
    assert api.post(PATH, {"executionId": other, "memory": 600}).status_code == 200
    assert "16 to 512" in assert_problem(api.post(PATH, {"executionId": mine, "memory": 600}), 400, "INVALID")


class TestWhoIsTheCanary:
    @pytest.mark.parametrize("wanted", ["rev-nowhere", "x" * 500])
    def test_one_that_is_not_kept_is_400_naming_those_that_are(self, api: Api, wanted: str) -> None:
        first, second = two(api)
        message = refused(api, canary=wanted, canaryPercent=10)
        assert f"spec.revision.canary is {wanted[:64]!r}" in message
        assert first in message
        assert second in message

    def test_a_new_job_keeps_none(self, api: Api) -> None:
        body = {"metadata": {"name": "sweep"}, "spec": {"revision": {"canary": "rev-1"}}}
        assert "none" in assert_problem(api.post("/v0/jobs?upload=true", body), 400, "INVALID")
        assert_problem(api.get(JOB), 404, "NOT_FOUND")

    def test_a_staged_revision_is_none(self, api: Api) -> None:
        two(api)
        api.put(f"{JOB}?upload=true", {"spec": {}})
        assert "does not keep" in refused(api, canary=api.revisions("sweep")[-1])

    def test_the_active_revision_itself_is_400(self, api: Api) -> None:
        _, second = two(api)
        assert f"{second!r}, the active revision" in refused(api, canary=second, canaryPercent=10)

    @pytest.mark.parametrize("none", ["", None])
    def test_none_is_none_and_its_percentage_goes_with_it(self, api: Api, none: str | None) -> None:
        first, second = two(api)
        put(api, revision={"canary": first, "canaryPercent": 100})
        assert run(api).revision == first
        put(api, revision={"canary": none})
        assert canary(api) == ("", 0)
        assert run(api).revision == second

    def test_a_percentage_without_a_canary_and_a_canary_without_percentage_change_nothing(self, api: Api) -> None:
        first, second = two(api)
        put(api, revision={"canaryPercent": 100})
        assert canary(api) == ("", 100)
        assert run(api).revision == second
        put(api, revision={"canary": first, "canaryPercent": 0})
        assert run(api).revision == second

    def test_members_are_merged_one_by_one(self, api: Api) -> None:
        first, _ = two(api)
        put(api, revision={"canary": first, "canaryPercent": 10, "stickySessionTtl": 60})
        put(api, revision={"traffic": 50})
        put(api, revision={"canaryPercent": 20})
        put(api, runtime={"timeout": 61}, policies=["eu"])
        kept = {"canary": first, "canaryPercent": 20, "stickySessionTtl": 60, "traffic": 50}
        assert configuration(api).items() >= kept.items()
        # what Go prints of a member that was never set is no wish
        put(api, revision={"active": "", "canary": "", "canaryPercent": 0, "stickySessionTtl": 0, "traffic": 0})
        assert configuration(api).items() >= kept.items()
        put(api, revision=None)
        assert (
            configuration(api).items()
            >= {"canary": "", "canaryPercent": 0, "stickySessionTtl": 0, "traffic": 100}.items()
        )


class TestItsEnd:
    def test_a_deploy_ends_it(self, api: Api) -> None:
        first, _ = two(api)
        put(api, revision={"canary": first, "canaryPercent": 100})
        answer = api.put(f"{JOB}?upload=true", {"spec": {"runtime": {"timeout": 90}}})
        assert canary(api) == (first, 100)  # until the new revision is built
        api.upload(answer)
        api.finish_build()
        assert canary(api) == ("", 0)
        assert run(api).timeout_s == 90
        assert f"canary {first} has ended" in api.get(JOB).json()["events"][-1]["message"]

    def test_a_deploy_that_fails_does_not(self, api: Api) -> None:
        first, _ = two(api)
        put(api, revision={"canary": first, "canaryPercent": 100})
        api.upload(api.put(f"{JOB}?upload=true", {"spec": {}}))
        api.fail_build("no")
        assert canary(api) == (first, 100)

    def test_a_deploy_that_names_it_keeps_it(self, api: Api) -> None:
        first, second = two(api)
        for named in (first, second):
            wish = {"canary": named, "canaryPercent": 40}
            api.upload(api.put(f"{JOB}?upload=true", {"spec": {"revision": wish}}))
            api.finish_build()
            assert canary(api) == (named, 40)

    def test_one_that_is_set_while_a_deploy_is_built_ends_with_it(self, api: Api) -> None:
        first, _ = two(api)
        answer = api.put(f"{JOB}?upload=true", {"spec": {}})
        put(api, revision={"canary": first, "canaryPercent": 100, "traffic": 70})
        assert canary(api) == (first, 100)
        api.upload(answer)
        api.finish_build()
        assert configuration(api)["canary"] == ""
        assert configuration(api)["traffic"] == 70

    def test_a_change_of_what_tasks_run_ends_it_unless_it_names_it(self, api: Api) -> None:
        first, second = two(api)
        put(api, revision={"canary": first, "canaryPercent": 10})
        put(api, runtime={"timeout": 90})
        assert canary(api) == ("", 0)
        put(api, runtime={"timeout": 91}, revision={"canary": second, "canaryPercent": 10})
        assert canary(api) == (second, 10)

    def test_a_rollback_to_a_third_revision_ends_it(self, api: Api) -> None:
        first, second = two(api)
        third = put(api, runtime={"timeout": 90})["spec"]["revision"]["active"]
        put(api, revision={"canary": second, "canaryPercent": 10})
        put(api, revision={"active": first})
        assert (configuration(api)["active"], canary(api)) == (first, ("", 0))
        put(api, revision={"active": third, "canary": second, "canaryPercent": 10})
        assert canary(api) == (second, 10)

    def test_making_it_active_promotes_it_also_with_all_that_was_read(self, api: Api) -> None:
        first, second = two(api)
        put(api, revision={"canary": first, "canaryPercent": 10})
        put(api, revision={"active": first})
        assert (configuration(api)["active"], canary(api)) == (first, ("", 0))
        assert "canary promoted" in api.get(JOB).json()["events"][-1]["message"]
        put(api, revision={"canary": second, "canaryPercent": 10})
        read = api.get(JOB).json()["spec"]
        read["revision"]["active"] = second
        put(api, **read)
        assert (configuration(api)["active"], canary(api)) == (second, ("", 0))
        put(api, revision=read["revision"])  # a client may send it again
        assert (configuration(api)["active"], canary(api)) == (second, ("", 0))

    def test_its_revision_is_kept_as_long_as_it_is_the_canary(self, api: Api) -> None:
        first, _ = two(api)
        wish = {"canary": first, "canaryPercent": 100}
        for timeout in range(70, 77):
            put(api, runtime={"timeout": timeout}, revision=wish)
        assert len(api.revisions("sweep")) == 6
        assert run(api, "exec-0001").revision == first
        api.delete(f"{PATH}/exec-0001")
        put(api, runtime={"timeout": 77}, revision={"canary": ""})
        put(api, runtime={"timeout": 78})
        assert first in api.revisions("sweep")  # the execution's
        assert canary(api) == ("", 0)

    def test_its_revision_goes_with_it_when_nothing_else_keeps_it(self, api: Api) -> None:
        first, _ = two(api)
        for timeout in range(70, 77):
            put(api, runtime={"timeout": timeout}, revision={"canary": first, "canaryPercent": 1})
        assert first in api.revisions("sweep")
        put(api, revision={"canary": ""})
        assert first not in api.revisions("sweep")


class TestSticky:
    def test_a_caller_keeps_its_choice_for_that_time(self, api: Api) -> None:
        first, second = two(api)
        put(api, revision={"canary": first, "canaryPercent": 50, "stickySessionTtl": 60})
        seen: list[str] = []
        for _ in range(40):
            ran = {run(api).revision}
            api.later(59.9)  # from the first execution on, wherever in an hour that was
            ran.add(run(api).revision)
            assert len(ran) == 1
            seen += ran
            api.later(0.1)
        # and chooses anew after it, by the share
        assert set(seen) == {first, second}
        assert 8 <= seen.count(first) <= 32

    def test_callers_choose_for_themselves(self, api: Api) -> None:
        first, _ = two(api)
        put(api, revision={"canary": first, "canaryPercent": 50, "stickySessionTtl": 60})
        member = {"Authorization": f"Bearer {MEMBER}"}
        pairs = set()
        for _ in range(40):
            pairs.add((run(api).revision, run(api, headers=member).revision))
            api.later(60)
        assert len(pairs) == 4

    def test_nobody_and_everybody_hold_at_once(self, api: Api) -> None:
        first, second = two(api)
        put(api, revision={"canary": first, "canaryPercent": 50, "stickySessionTtl": 3600})
        run(api)
        put(api, revision={"canaryPercent": 0})
        assert run(api).revision == second
        put(api, revision={"canaryPercent": 100})
        assert run(api).revision == first

    def test_another_canary_is_another_choice(self, api: Api) -> None:
        first, second = two(api)
        third = put(api, runtime={"timeout": 90})["spec"]["revision"]["active"]
        runs = []
        for _ in range(20):
            for named in (first, second):
                put(api, revision={"canary": named, "canaryPercent": 50, "stickySessionTtl": 3600})
                ran = run(api).revision
                assert ran in {named, third}
                runs.append(ran == third)
                api.later(1)
        assert set(runs) == {True, False}


class TestWhatIsRefused:
    @pytest.mark.parametrize("member", ["canaryPercent", "traffic", "stickySessionTtl"])
    @pytest.mark.parametrize("value", [-1, 31_536_001, "10", 1.5, True, [], {}])
    def test_a_number_out_of_range_or_of_another_type(self, api: Api, member: str, value: object) -> None:
        api.deployed()
        message = refused(api, **{member: value})
        most = 31_536_000 if member == "stickySessionTtl" else 100
        assert f"spec.revision.{member} is {value!r}; it must be a whole number, 0 to {most}" in message

    @pytest.mark.parametrize("member", ["active", "canary"])
    @pytest.mark.parametrize("value", [1, True, [], {}])
    def test_an_id_of_another_type(self, api: Api, member: str, value: object) -> None:
        api.deployed()
        assert f"spec.revision.{member} is {value!r}; it must be the id of a revision" in refused(
            api, **{member: value}
        )

    @pytest.mark.parametrize("name", ["x" * 65, "rev 1", "rev/1", "é"])
    def test_a_first_revision_cannot_have_any_name(self, api: Api, name: str) -> None:
        body = {"metadata": {"name": "sweep"}, "spec": {"revision": {"active": name}}}
        message = assert_problem(api.post("/v0/jobs?upload=true", body), 400, "INVALID")
        assert "spec.revision.active is" in message

    def test_bounds_are_accepted(self, api: Api) -> None:
        api.deployed()
        for percent, ttl in ((0, 0), (100, 31_536_000)):
            put(api, revision={"canaryPercent": percent, "stickySessionTtl": ttl, "traffic": 100 - percent})
            assert configuration(api)["stickySessionTtl"] == ttl


def test_the_sample_of_the_reference_comes_back_as_it_was_sent(api: Api) -> None:
    other = api.deployed("other")
    body = {"metadata": {"name": "sweep"}, "spec": {"revision": SAMPLE, "runtime": {"image": image(other)}}}
    assert api.post("/v0/jobs", body).json()["spec"]["revision"] == SAMPLE
    assert configuration(api) == SAMPLE


def image(job: dict[str, Any]) -> str:
    found: str = job["spec"]["runtime"]["image"]
    return found


@pytest.mark.parametrize("traffic", [1, 50, 99])
def test_traffic_above_0_is_returned_and_refuses_nobody(api: Api, traffic: int) -> None:
    api.deployed()
    put(api, revision={"traffic": traffic})
    assert configuration(api)["traffic"] == traffic
    for _ in range(20):
        run(api)


def test_events_name_the_canary_only_while_one_is_set(api: Api) -> None:
    first, _ = two(api)
    put(api, revision={"canary": first, "canaryPercent": 10})
    put(api, revision={"canary": ""})
    *before, during, after = api.get(JOB).json()["events"]
    assert during["canaryRevision"] == first
    assert f"canary {first} runs 10 %" in during["message"]
    assert all("canaryRevision" not in event for event in (*before, after))


def test_a_rerun_with_latest_runs_the_active_revision_and_with_same_the_canary_again(api: Api) -> None:
    first, second = two(api)
    put(api, revision={"canary": first, "canaryPercent": 100})
    origin = run(api).id
    api.delete(f"{PATH}/{origin}")
    ran = {}
    for wanted in ("latest", "same", first):
        answer = api.post(f"{PATH}/{origin}/rerun", {"select": {"status": ["cancelled"]}, "revision": wanted})
        assert answer.status_code == 200, answer.text
        ran[wanted] = row(api, answer.json()["executionId"]).revision
    assert ran == {"latest": second, "same": first, first: first}
