"""Jobs: what they may be, how a PUT merges, secrets, deletes."""

import asyncio
from typing import Any

import httpx2
import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem


def runtime(api: Api, name: str = "sweep") -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/v0/jobs/{name}").json()["spec"]["runtime"]
    return found


def put(api: Api, spec: dict[str, Any], name: str = "sweep") -> dict[str, Any]:
    answer = api.put(f"/v0/jobs/{name}", {"metadata": {"name": name}, "spec": spec})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def revision(api: Api) -> str:
    found: str = api.get("/v0/jobs/sweep").json()["spec"]["revision"]["active"]
    return found


def test_a_job_has_the_documented_defaults(api: Api) -> None:
    job = api.deployed()
    expected = {
        "memory": 2048,
        "timeout": 900,
        "maxRetries": 0,
        "maxConcurrentTasks": 10,
        "generation": "mk3",
        "envs": [],
    }
    assert {name: job["spec"]["runtime"][name] for name in expected} == expected
    assert job["spec"]["enabled"] is True
    assert job["spec"]["revision"]["active"]
    assert job["metadata"]["plan"] == "self-hosted"
    assert job["metadata"]["url"] == "http://tide.test/main/jobs/sweep"
    assert job["metadata"]["displayName"] == "sweep"


@pytest.mark.parametrize("name", ["", "a" * 50, "Sweep", "-a", "a-", "a_b", "a/b", "ü", "a b", None, 7])
def test_a_name_that_is_none_is_400(api: Api, name: object) -> None:
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {}})
    assert "name" in assert_problem(answer, 400, "INVALID")
    assert api.get("/v0/jobs").json()["meta"]["total"] == 0


@pytest.mark.parametrize("name", ["a", "0", "a" * 49, "a-b--c9"])
def test_a_name_of_1_to_49_is_taken(api: Api, name: str) -> None:
    assert api.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {}}).status_code == 200
    assert api.get(f"/v0/jobs/{name}").status_code == 200


@pytest.mark.parametrize(
    ("member", "value", "limit"),
    [
        ("memory", 8, "16"),
        ("memory", -1, "16"),
        ("timeout", 86_401, "86400"),
        ("timeout", -5, "1 to 86400"),
        ("maxRetries", 101, "100"),
        ("maxRetries", -1, "0 to 100"),
        ("maxConcurrentTasks", 100_001, "100000"),
        ("generation", "mk4", "mk2, mk3"),
        ("diskPercent", 96, "10 to 95"),
    ],
)
def test_a_value_past_its_limit_is_400_naming_field_value_and_limit(
    api: Api, member: str, value: object, limit: str
) -> None:
    body = {"metadata": {"name": "sweep"}, "spec": {"runtime": {member: value}}}
    message = assert_problem(api.post("/v0/jobs?upload=true", body), 400, "INVALID")
    assert f"spec.runtime.{member}" in message
    assert str(value) in message
    assert limit in message


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"runtime": {"memory": "512"}}, "spec.runtime.memory"),
        ({"runtime": {"memory": True}}, "spec.runtime.memory"),
        ({"runtime": {"timeout": 1.5}}, "spec.runtime.timeout"),
        ({"runtime": []}, "spec.runtime"),
        ({"runtime": {"envs": [{"value": "b"}]}}, "spec.runtime.envs[0].name"),
        ({"runtime": {"ports": [{"name": "http"}]}}, "spec.runtime.ports[0].target"),
        ({"enabled": "yes"}, "spec.enabled"),
        ({"triggers": [{"type": "schedule"}]}, "spec.triggers[0].type"),
        ({"volumes": [{"name": "scratch"}]}, "spec.volumes[0].mountPath"),
        ({"policies": "eu"}, "spec.policies"),
        ({"revision": []}, "spec.revision"),
        ([], "spec"),
    ],
)
def test_a_member_of_the_wrong_type_is_400_naming_it(api: Api, spec: object, path: str) -> None:
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": spec})
    assert f"{path} is " in assert_problem(answer, 400, "INVALID")


def test_what_this_server_cannot_do_is_said_and_not_swallowed(api: Api) -> None:
    for spec, word in (
        ({"region": "mars-1"}, "region"),
        ({"runtime": {"dockerConfig": "{}"}}, "dockerConfig"),
        ({"revision": {"canary": "rev-2"}}, "canary"),
    ):
        answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": spec})
        assert word in assert_problem(answer, 400, "INVALID")


def test_memory_over_the_biggest_node_is_400_and_the_default_fits_it(api: Api) -> None:
    api.node(memory_mb=1000)
    body = {"metadata": {"name": "sweep"}, "spec": {"runtime": {"memory": 1001}}}
    assert "1000" in assert_problem(api.post("/v0/jobs?upload=true", body), 400, "INVALID")
    assert api.deployed()["spec"]["runtime"]["memory"] == 500


def test_a_name_that_is_taken_is_409_and_not_to_be_retried(api: Api) -> None:
    api.deployed()
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": {}})
    assert_problem(answer, 409, "ALREADY_EXISTS")
    assert answer.headers["x-should-retry"] == "false"


def test_a_put_of_an_unknown_job_is_404(api: Api) -> None:
    assert_problem(api.put("/v0/jobs/sweep?upload=true", {"metadata": {"name": "sweep"}, "spec": {}}), 404, "NOT_FOUND")
    assert_problem(api.get("/v0/jobs/sweep"), 404, "NOT_FOUND")
    assert_problem(api.delete("/v0/jobs/sweep"), 404, "NOT_FOUND")


def test_a_job_keeps_its_name(api: Api) -> None:
    api.deployed()
    assert_problem(api.put("/v0/jobs/sweep", {"metadata": {"name": "other"}, "spec": {}}), 400, "INVALID")


def test_absent_keeps_and_empty_goes_back_to_the_default(api: Api) -> None:
    api.deployed(memory=512, timeout=60, maxRetries=3, maxConcurrentTasks=7, generation="mk2")
    before = runtime(api)
    put(api, {"runtime": {"timeout": 61}})
    assert runtime(api) == before | {"timeout": 61}
    put(api, {"runtime": {"memory": 0, "timeout": None, "maxConcurrentTasks": 0, "generation": "", "image": ""}})
    assert runtime(api) == before | {"memory": 2048, "timeout": 900, "maxConcurrentTasks": 10, "generation": "mk3"}
    put(api, {"runtime": {"maxRetries": 0}})
    assert runtime(api)["maxRetries"] == 0


def test_what_go_prints_and_sends_back_changes_nothing(api: Api) -> None:
    job = api.deployed(memory=512, envs=[{"name": "A", "value": "b"}])
    spec = job["spec"]
    spec["runtime"] |= {"diskPercent": 0, "dockerConfig": "", "skipBuild": "", "ports": None}
    spec |= {"githubRunner": {"repositories": None}, "volumes": None, "triggers": None}
    put(api, spec)
    again = api.get("/v0/jobs/sweep").json()
    assert again["spec"]["runtime"]["memory"] == 512
    assert again["spec"]["revision"] == job["spec"]["revision"]


def test_a_list_that_is_present_replaces_the_list(api: Api) -> None:
    trigger = {"id": "t1", "type": "cron", "enabled": True, "configuration": {"schedule": "0 3 * * *"}}
    api.deployed()
    put(api, {"triggers": [trigger], "policies": ["eu"]})
    put(api, {"runtime": {"timeout": 5}})
    assert api.get("/v0/jobs/sweep").json()["spec"]["triggers"] == [trigger]
    put(api, {"triggers": []})
    spec = api.get("/v0/jobs/sweep").json()["spec"]
    assert (spec["triggers"], spec["policies"]) == ([], ["eu"])


def test_a_trigger_secret_is_never_kept(api: Api) -> None:
    api.deployed()
    configuration = {"callbackUrl": "https://example.org", "callbackSecret": "hush"}
    put(api, {"triggers": [{"type": "http-async", "configuration": configuration}]})
    assert "hush" not in api.get("/v0/jobs/sweep").text


def test_metadata_is_merged_and_the_deploy_label_is_not_kept(api: Api) -> None:
    api.deployed()
    labels = {"team": "a", "x-blaxel-auto-generated": "true"}
    metadata = {"name": "sweep", "displayName": "Sweep", "externalId": "id-1", "labels": labels}
    api.put("/v0/jobs/sweep", {"metadata": metadata, "spec": {}})
    kept = api.put("/v0/jobs/sweep", {"metadata": {"name": "sweep"}, "spec": {}}).json()["metadata"]
    assert (kept["displayName"], kept["externalId"], kept["labels"]) == ("Sweep", "id-1", {"team": "a"})
    api.put("/v0/jobs/sweep", {"metadata": {"name": "sweep", "displayName": "", "labels": {}}, "spec": {}})
    kept = api.get("/v0/jobs/sweep").json()["metadata"]
    assert (kept["displayName"], kept["externalId"], kept["labels"]) == ("sweep", "id-1", {})


def test_long_metadata_is_400(api: Api) -> None:
    for metadata in ({"displayName": "x" * 64}, {"externalId": "x" * 65}, {"externalId": "a b"}, {"labels": {"a": 1}}):
        answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep", **metadata}, "spec": {}})
        assert "metadata." in assert_problem(answer, 400, "INVALID")


def test_unknown_members_are_kept_and_refused_only_when_asked(api: Api) -> None:
    api.deployed()
    body = {
        "metadata": {"name": "sweep", "mood": "calm"},
        "spec": {"runtime": {"colours": {"factor": 2}}, "colour": "blue"},
        "apiVersion": "blaxel.ai/v1alpha1",
        "kind": "Job",
        "status": "DEPLOYED",
        "events": None,
    }
    message = assert_problem(api.put("/v0/jobs/sweep?strict=true", body), 400, "INVALID")
    assert all(name in message for name in ("metadata.mood", "spec.runtime.colours", "spec.colour"))
    assert api.put("/v0/jobs/sweep", body).status_code == 200
    job = api.get("/v0/jobs/sweep").json()
    assert job["metadata"]["mood"] == "calm"
    assert job["spec"]["runtime"]["colours"] == {"factor": 2}
    assert job["spec"]["colour"] == "blue"


def test_only_what_changes_what_tasks_run_makes_a_revision(api: Api) -> None:
    api.deployed()
    first = revision(api)
    trigger = {"type": "cron", "configuration": {"schedule": "0 3 * * *"}}
    put(api, {"triggers": [trigger], "policies": ["eu"]})
    put(api, {"enabled": False})
    put(api, {"enabled": True})
    put(api, {})
    assert revision(api) == first
    put(api, {"runtime": {"timeout": 5}})
    second = revision(api)
    assert second != first
    # what needed no revision outlives a new one
    assert api.get("/v0/jobs/sweep").json()["spec"]["policies"] == ["eu"]
    put(api, {"runtime": {"timeout": 5}})
    assert revision(api) == second


def test_the_last_five_revisions_are_kept_and_those_that_executions_use(api: Api) -> None:
    api.deployed()
    used = revision(api)
    api.post("/v0/jobs/sweep/executions", b"")
    made = [used]
    for timeout in range(1, 9):
        put(api, {"runtime": {"timeout": timeout}})
        made.append(revision(api))
    assert set(api.revisions("sweep")) == {used, *made[-5:]}


def test_an_active_revision_that_is_not_the_active_one_is_400(api: Api) -> None:
    api.deployed()
    put(api, {"revision": {"active": revision(api), "traffic": 100}})
    put(api, {"revision": {"active": ""}})
    answer = api.put("/v0/jobs/sweep", {"spec": {"revision": {"active": "rev-nowhere"}}})
    assert "rev-nowhere" in assert_problem(answer, 400, "INVALID")


def test_the_first_revision_may_be_named(api: Api) -> None:
    spec = {"revision": {"active": "rev-1"}}
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": spec})
    api.upload(answer)
    api.finish_build()
    assert revision(api) == "rev-1"


def test_a_disabled_job_is_deactivated_and_comes_back(api: Api) -> None:
    api.deployed()
    assert put(api, {"enabled": False})["status"] == "DEACTIVATED"
    assert put(api, {"enabled": True})["status"] == "DEPLOYED"


def test_a_job_is_deactivating_while_executions_run(api: Api) -> None:
    api.deployed()
    execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
    assert put(api, {"enabled": False})["status"] == "DEACTIVATING"
    api.delete(f"/v0/jobs/sweep/executions/{execution}")
    assert api.get("/v0/jobs/sweep").json()["status"] == "DEACTIVATED"


class TestSecrets:
    ENVS = ({"name": "TOKEN", "value": "canary-4711", "secret": True}, {"name": "CITY", "value": "Lyon"})

    def test_a_secret_is_masked_and_the_mask_keeps_it(self, api: Api) -> None:
        api.deployed(envs=self.ENVS)
        masked = [
            {"name": "TOKEN", "value": "****", "secret": True},
            {"name": "CITY", "value": "Lyon", "secret": False},
        ]
        assert runtime(api)["envs"] == masked
        put(api, {"runtime": {"envs": masked, "timeout": 7}})
        assert self.plain(api) == {"TOKEN": "canary-4711", "CITY": "Lyon"}

    def test_an_empty_list_keeps_secrets_only(self, api: Api) -> None:
        api.deployed(envs=self.ENVS)
        put(api, {"runtime": {"envs": []}})
        assert self.plain(api) == {"TOKEN": "canary-4711"}
        put(api, {"runtime": {"envs": [{"name": "CITY", "value": "Nice"}]}})
        assert self.plain(api) == {"CITY": "Nice"}

    def test_a_name_once_secret_stays_secret(self, api: Api) -> None:
        api.deployed(envs=self.ENVS)
        put(api, {"runtime": {"envs": [{"name": "TOKEN", "value": "another"}]}})
        assert runtime(api)["envs"] == [{"name": "TOKEN", "value": "****", "secret": True}]
        put(api, {"runtime": {"envs": [{"name": "TOKEN", "value": "plain", "secret": False}]}})
        assert runtime(api)["envs"] == [{"name": "TOKEN", "value": "plain", "secret": False}]

    def test_the_mask_cannot_make_a_secret_plain(self, api: Api) -> None:
        api.deployed(envs=self.ENVS)
        spec = {"runtime": {"envs": [{"name": "TOKEN", "value": "****", "secret": False}]}}
        assert_problem(api.put("/v0/jobs/sweep", {"spec": spec}), 400, "INVALID")

    def test_the_mask_of_nothing_is_400(self, api: Api) -> None:
        api.deployed()
        spec = {"runtime": {"envs": [{"name": "TOKEN", "value": "****"}]}}
        assert "TOKEN" in assert_problem(api.put("/v0/jobs/sweep", {"spec": spec}), 400, "INVALID")

    @pytest.mark.parametrize(
        "envs",
        [
            [{"name": "", "value": "x"}],
            [{"name": "A=B", "value": "x"}],
            [{"name": "A", "value": "canary-4711\0"}],
            [{"name": "A", "value": "canary-4711" * 20_000}],
            [{"name": "A", "value": "canary-4711"}, {"name": "A", "value": "2"}],
            [{"name": "A", "value": ["canary-4711"]}],
        ],
    )
    def test_a_variable_that_cannot_be_is_400_without_its_value(self, api: Api, envs: object) -> None:
        answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": {"runtime": {"envs": envs}}})
        assert "canary-4711" not in assert_problem(answer, 400, "INVALID")

    def test_no_secret_lies_plain_in_the_data_directory(self, api: Api) -> None:
        api.deployed(envs=self.ENVS)
        put(api, {"runtime": {"timeout": 5}})
        body = {"tasks": [{"a": 1}], "env": {"NIGHT": "canary-0815"}}
        assert api.post("/v0/jobs/sweep/executions", body).status_code == 200
        held = b"".join(path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file())
        assert b"Lyon" in held
        assert b"canary-4711" not in held
        assert b"canary-0815" not in held

    def plain(self, api: Api) -> dict[str, str]:
        envs = api.get("/v0/jobs/sweep?show_secrets=true").json()["spec"]["runtime"]["envs"]
        return {env["name"]: env["value"] for env in envs}


class TestImages:
    def test_a_job_without_upload_needs_an_image(self, api: Api) -> None:
        assert "image" in assert_problem(
            api.post("/v0/jobs", {"metadata": {"name": "two"}, "spec": {}}), 400, "INVALID"
        )
        assert_problem(api.get("/v0/jobs/two"), 404, "NOT_FOUND")

    @pytest.mark.parametrize("form", ["{ref}", "job/sweep:latest", "job/sweep"])
    def test_the_image_of_another_job_activates_at_once(self, api: Api, form: str) -> None:
        reference = api.deployed()["spec"]["runtime"]["image"]
        body = {"metadata": {"name": "two"}, "spec": {"runtime": {"image": form.format(ref=reference)}}}
        answer = api.post("/v0/jobs", body)
        assert (answer.json()["status"], answer.json()["spec"]["runtime"]["image"]) == ("DEPLOYED", reference)
        assert "X-Blaxel-Upload-Url" not in answer.headers
        assert api.post("/v0/jobs/two/executions", b"").status_code == 200

    @pytest.mark.parametrize(
        "image", ["job/sweep:nowhere", "job/nobody:latest", "python:3.12", "registry/x/y:z", "job/"]
    )
    def test_an_image_that_is_not_here_is_400(self, api: Api, image: str) -> None:
        api.deployed()
        for answer in (
            api.post("/v0/jobs", {"metadata": {"name": "two"}, "spec": {"runtime": {"image": image}}}),
            api.put("/v0/jobs/sweep", {"spec": {"runtime": {"image": image}}}),
        ):
            assert image in assert_problem(answer, 400, "INVALID")


class TestDelete:
    def test_a_deleted_job_is_gone_and_its_name_free(self, api: Api) -> None:
        api.deployed()
        answer = api.delete("/v0/jobs/sweep")
        assert (answer.status_code, answer.json()["metadata"]["name"]) == (200, "sweep")
        assert answer.json()["status"] == "TERMINATED"
        assert_problem(api.get("/v0/jobs/sweep"), 404, "NOT_FOUND")
        assert_problem(api.delete("/v0/jobs/sweep"), 404, "NOT_FOUND")
        api.deployed()
        assert api.get("/v0/jobs").json()["meta"]["total"] == 1
        assert len(api.get("/v0/jobs?status=terminated").json()["data"]) == 1

    def test_executions_are_cancelled_and_their_paths_answer_on(self, api: Api) -> None:
        api.deployed()
        execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
        api.delete("/v0/jobs/sweep")
        assert api.get(f"/v0/jobs/sweep/executions/{execution}").json()["status"] == "cancelled"
        assert len(api.get("/v0/jobs/sweep/executions").json()["data"]) == 1
        assert_problem(api.post("/v0/jobs/sweep/executions", b""), 404, "NOT_FOUND")
        api.deployed()
        assert api.get("/v0/jobs/sweep/executions").json()["data"] == []
        assert api.get(f"/v0/executions/{execution}").json()["status"] == "cancelled"

    def test_while_tasks_end_it_is_deleting_and_takes_nothing_new(self, api: Api) -> None:
        api.deployed()
        execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
        api.run_task(execution, 0)
        assert api.delete("/v0/jobs/sweep").json()["status"] == "DELETING"
        refused = api.post("/v0/jobs/sweep/executions", b"")
        assert_problem(refused, 409, "NOT_RUNNABLE")
        assert refused.headers["x-should-retry"] == "false"
        assert_problem(api.put("/v0/jobs/sweep", {"spec": {}}), 409, "CONFLICT")
        assert_problem(api.post("/v0/jobs", {"metadata": {"name": "sweep"}, "spec": {}}), 409, "ALREADY_EXISTS")
        assert api.delete("/v0/jobs/sweep").json()["status"] == "DELETING"
        api.end_task(execution, 0)
        assert_problem(api.get("/v0/jobs/sweep"), 404, "NOT_FOUND")

    def test_a_delete_cancels_more_executions_than_fit_one_unit(self, api: Api) -> None:
        api.deployed()

        async def many(client: httpx2.AsyncClient) -> list[httpx2.Response]:
            calls = [client.post("/v0/jobs/sweep/executions", headers=api.headers) for _ in range(205)]
            return await asyncio.gather(*calls)

        assert {answer.status_code for answer in api.session(many)} == {200}
        assert api.delete("/v0/jobs/sweep").json()["status"] == "TERMINATED"

    def test_a_deploy_that_comes_too_late_is_dropped(self, api: Api) -> None:
        answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": {}})
        api.upload(answer)
        api.delete("/v0/jobs/sweep")
        api.finish_build()
        assert_problem(api.get("/v0/jobs/sweep"), 404, "NOT_FOUND")
        assert api.builds()[-1].state == "failed"


class TestLists:
    def test_pages_hold_every_job_once(self, api: Api) -> None:
        names = [f"job-{number}" for number in range(7)]
        for name in names:
            api.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {}})
        for sort, expected in (
            ("createdAt:desc", None),
            ("createdAt:asc", None),
            ("name:asc", names),
            ("name:desc", names[::-1]),
        ):
            seen, cursor = list[str](), ""
            while True:
                page = api.get(f"/v0/jobs?limit=3&sort={sort}&cursor={cursor}").json()
                seen += [job["metadata"]["name"] for job in page["data"]]
                assert page["meta"]["total"] == 7
                assert page["meta"]["hasMore"] is bool(page["meta"]["nextCursor"])
                if not page["meta"]["hasMore"]:
                    break
                cursor = page["meta"]["nextCursor"]
            assert sorted(seen) == names
            assert expected is None or seen == expected

    def test_newest_come_first(self, api: Api) -> None:
        for name in ("first", "second", "third"):
            api.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {}})
            api.later(1)
        assert self.names(api, "") == ["third", "second", "first"]
        assert self.names(api, "sort=createdAt:asc") == ["first", "second", "third"]
        assert self.names(api, "limit=2&anchor=end") == ["second", "first"]

    def test_a_cursor_fits_its_own_query_for_a_day(self, api: Api) -> None:
        for name in ("one", "two"):
            api.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {}})
        cursor = api.get("/v0/jobs?limit=1").json()["meta"]["nextCursor"]
        assert api.get(f"/v0/jobs?limit=2&cursor={cursor}").status_code == 200
        for query in ("sort=name:asc", "q=one", "status=deployed", "anchor=end"):
            assert_problem(api.get(f"/v0/jobs?{query}&cursor={cursor}"), 400, "INVALID")
        other = "B" if cursor[0] == "A" else "A"
        for text in (f"{cursor}A", f"{other}{cursor[1:]}", "x", "é", "...."):
            assert_problem(api.get(f"/v0/jobs?cursor={text}"), 400, "INVALID")
        api.later(24 * 3600 + 1)
        assert "24 hours" in assert_problem(api.get(f"/v0/jobs?cursor={cursor}"), 400, "INVALID")

    def test_search_finds_names_and_labels_in_any_case(self, api: Api) -> None:
        api.post("/v0/jobs?upload=true", {"metadata": {"name": "night", "labels": {"Team": "Blue"}}, "spec": {}})
        api.post("/v0/jobs?upload=true", {"metadata": {"name": "day", "displayName": "Noon"}, "spec": {}})
        assert self.names(api, "q=IGH") == ["night"]
        assert self.names(api, "q=blue") == ["night"]
        assert self.names(api, "q=team") == ["night"]
        assert self.names(api, "q=noon") == ["day"]
        assert self.names(api, "q=none") == []
        assert sorted(self.names(api, "q=x")) == ["day", "night"]  # shorter than two: no filter

    def test_states_filter_and_unknown_ones_are_400_in_every_version(self, api: Api) -> None:
        api.deployed("done")
        api.post("/v0/jobs?upload=true", {"metadata": {"name": "waiting"}, "spec": {}})
        assert self.names(api, "status=deployed,FAILED") == ["done"]
        for version in (None, "2026-04-28"):
            assert_problem(api.get("/v0/jobs?status=happy", headers={"Blaxel-Version": version}), 400, "INVALID")
        old = api.get("/v0/jobs?status=deployed", headers={"Blaxel-Version": None}).json()
        assert len(old) == 2

    @pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "sort=size", f"q={'x' * 201}", "anchor=start"])
    def test_a_query_that_makes_no_sense_is_400(self, api: Api, query: str) -> None:
        assert_problem(api.get(f"/v0/jobs?{query}"), 400, "INVALID")

    def test_a_limit_over_200_is_200(self, api: Api) -> None:
        assert api.get("/v0/jobs?limit=100000").status_code == 200

    def names(self, api: Api, query: str) -> list[str]:
        return [job["metadata"]["name"] for job in api.get(f"/v0/jobs?{query}").json()["data"]]
