"""From PUT ?upload=true to DEPLOYED: staging, the upload itself, and what goes wrong on the way."""

import io
import struct
import zipfile
from typing import Any

import httpx2
import pytest

from tests.api.asking import Api, archive
from tests.api.test_access import assert_problem

CLI = {"User-Agent": "blaxel/cli/golang/0.1.108 (linux/amd64) blaxel/abc1234"}


def begun(api: Api, **runtime: object) -> httpx2.Response:
    """The first PUT of a deploy that the official command line sends, after its POST where the job is new."""
    body = {
        "metadata": {"name": "sweep", "labels": {"x-blaxel-auto-generated": "true"}},
        "spec": {"runtime": {"envs": [], **runtime}},
    }
    answer = api.put("/v0/jobs/sweep?upload=true", body, headers=CLI)
    if answer.status_code == 404:
        answer = api.post("/v0/jobs?upload=true", body, headers=CLI)
    assert answer.status_code == 200, answer.text
    return answer


def status(api: Api) -> str:
    found: str = api.get("/v0/jobs/sweep").json()["status"]
    return found


def statuses(api: Api) -> list[str]:
    return [event["status"] for event in api.get("/v0/jobs/sweep").json()["events"]]


def test_a_deploy_walks_through_its_states_with_events(api: Api) -> None:
    answer = begun(api)
    assert answer.json()["status"] == "UPLOADING"
    assert answer.headers["X-Blaxel-Upload-Url"].startswith("http://tide.test/uploads/")
    assert "x-blaxel-auto-generated" not in answer.text
    sent = api.upload(answer)
    assert (sent.status_code, sent.headers["content-type"]) == (200, "application/json")
    assert status(api) == "BUILDING"
    api.finish_build()
    api.later(8)
    job = api.get("/v0/jobs/sweep").json()
    assert job["status"] == "DEPLOYED"
    assert job["spec"]["runtime"]["image"].startswith("job/sweep:")
    assert statuses(api) == ["UPLOADING", "BUILDING", "DEPLOYING", "DEPLOYED"]
    assert all(event["message"] and event["time"] and event["revision"] for event in job["events"])


def test_the_source_is_stored_under_its_digest_and_a_build_waits(api: Api) -> None:
    api.upload(begun(api))
    (build,) = api.builds()
    assert api.parts.blobs.get(f"sources/{build.source_digest}.zip") == archive()
    assert build.state == "pending"
    assert list(api.parts.arrivals.iterdir()) == []


def test_building_is_seen_for_8_seconds_by_the_official_command_line_only(api: Api) -> None:
    api.upload(begun(api))
    api.finish_build()
    assert status(api) == "BUILDING"
    # it is shown, not waited for: the new revision runs already
    assert api.post("/v0/jobs/sweep/executions", b"").status_code == 200
    api.later(7.9)
    assert status(api) == "BUILDING"
    api.later(0.1)
    assert status(api) == "DEPLOYED"
    assert api.deployed("other")["status"] == "DEPLOYED"


def test_a_failure_is_seen_after_building_too(api: Api) -> None:
    api.upload(begun(api))
    api.fail_build("no such package")
    assert status(api) == "BUILDING"
    api.later(8)
    assert status(api) == "FAILED"
    assert api.get("/v0/jobs/sweep").json()["events"][-1]["message"] == "no such package"


def test_a_job_that_never_deployed_takes_no_executions(api: Api) -> None:
    answer = begun(api)
    for _ in range(2):
        refused = api.post("/v0/jobs/sweep/executions", b"")
        assert_problem(refused, 409, "NOT_RUNNABLE")
        assert refused.headers["x-should-retry"] == "false"
        api.upload(answer)
    api.fail_build("no")
    assert_problem(api.post("/v0/jobs/sweep/executions", b""), 409, "NOT_RUNNABLE")
    assert api.get("/v0/jobs/sweep/executions").json()["data"] == []


def test_the_old_revision_serves_on_until_the_new_one_is_there(api: Api) -> None:
    old = api.deployed(timeout=60)
    answer = begun(api, timeout=61)
    assert (answer.json()["status"], answer.json()["spec"]["runtime"]["timeout"]) == ("UPLOADING", 60)
    assert api.post("/v0/jobs/sweep/executions", b"").status_code == 200
    api.upload(answer)
    during = api.get("/v0/jobs/sweep").json()
    assert during["spec"] == old["spec"]
    assert api.post("/v0/jobs/sweep/executions", b"").status_code == 200
    api.finish_build()
    after = api.get("/v0/jobs/sweep").json()
    assert after["spec"]["runtime"]["timeout"] == 61
    assert after["spec"]["revision"]["active"] != old["spec"]["revision"]["active"]
    assert after["spec"]["runtime"]["image"] != old["spec"]["runtime"]["image"]


def test_a_failed_build_drops_its_spec_and_the_old_revision_serves_on(api: Api) -> None:
    old = api.deployed(timeout=60)
    api.upload(begun(api, timeout=61))
    api.fail_build("broken")
    api.later(8)
    job = api.get("/v0/jobs/sweep").json()
    assert (job["status"], job["spec"]) == ("FAILED", old["spec"])
    assert api.post("/v0/jobs/sweep/executions", b"").status_code == 200
    assert len(api.revisions("sweep")) == 1


def test_a_deploy_without_bytes_is_dropped_after_15_minutes(api: Api) -> None:
    old = api.deployed(timeout=60)
    answer = begun(api, timeout=61)
    api.later(15 * 60 - 1)
    assert api.drop_expired() == 0
    assert status(api) == "UPLOADING"
    api.later(1)
    assert api.drop_expired() == 1
    job = api.get("/v0/jobs/sweep").json()
    assert (job["status"], job["spec"]) == ("DEPLOYED", old["spec"])
    assert "15 minutes" in job["events"][-1]["message"]
    assert api.upload(answer).status_code == 404
    assert api.builds()[1:] == []


def test_a_first_deploy_without_bytes_ends_as_failed(api: Api) -> None:
    begun(api)
    api.later(15 * 60)
    assert api.drop_expired() == 1
    assert status(api) == "FAILED"


def test_an_upload_url_works_once(api: Api) -> None:
    answer = begun(api)
    assert api.upload(answer).status_code == 200
    again = api.upload(answer)
    assert "used already" in assert_problem(again, 409, "CONFLICT")
    assert again.headers["x-should-retry"] == "false"
    assert len(api.builds()) == 1


def test_only_the_last_upload_of_a_deploy_counts(api: Api) -> None:
    first, second = begun(api, timeout=1), begun(api, timeout=2)
    assert "newer deploy" in assert_problem(api.upload(first), 409, "CONFLICT")
    api.upload(second)
    slow = api.build_key()
    third = begun(api, timeout=3)
    assert api.builds()[0].state == "failed"
    api.finish_build(slow)  # what was still being built when the next deploy began
    assert status(api) == "UPLOADING"
    api.upload(third)
    api.finish_build()
    api.later(8)
    assert status(api) == "DEPLOYED"
    assert api.get("/v0/jobs/sweep").json()["spec"]["runtime"]["timeout"] == 3
    assert len(api.revisions("sweep")) == 1


def test_an_upload_url_that_nobody_gave_is_404(api: Api) -> None:
    headers: dict[str, Any] = {"Authorization": None}
    assert_problem(api.request("PUT", "/uploads/made-up", content=archive(), headers=headers), 404, "NOT_FOUND")


def test_a_change_during_a_build_reaches_what_is_built_too(api: Api) -> None:
    api.deployed(timeout=60)
    api.upload(begun(api, timeout=61))
    changed = api.put("/v0/jobs/sweep", {"spec": {"runtime": {"memory": 512}, "enabled": False}}).json()
    assert (changed["status"], changed["spec"]["runtime"]["memory"]) == ("BUILDING", 512)
    api.finish_build()
    api.later(8)
    job = api.get("/v0/jobs/sweep").json()
    assert (job["status"], job["spec"]["enabled"]) == ("DEACTIVATED", False)
    assert (job["spec"]["runtime"]["memory"], job["spec"]["runtime"]["timeout"]) == (512, 61)


def test_a_change_before_the_first_deploy_is_done_keeps_it_waiting(api: Api) -> None:
    answer = begun(api, timeout=61)
    changed = api.put("/v0/jobs/sweep", {"spec": {"runtime": {"memory": 512}}})
    assert changed.json()["status"] == "UPLOADING"
    api.upload(answer)
    api.finish_build()
    runtime = api.get("/v0/jobs/sweep").json()["spec"]["runtime"]
    assert (runtime["memory"], runtime["timeout"]) == (512, 61)


def test_secrets_of_a_staged_spec_are_those_that_run(api: Api) -> None:
    api.deployed(envs=[{"name": "TOKEN", "value": "one", "secret": True}])
    api.upload(begun(api))
    api.finish_build()
    shown = api.get("/v0/jobs/sweep?show_secrets=true").json()["spec"]["runtime"]["envs"]
    assert shown == [{"name": "TOKEN", "value": "one", "secret": True}]


@pytest.mark.parametrize(
    ("sent", "toml", "expected"),
    [({}, 25, 25), ({"maxConcurrentTasks": 5}, 25, 5), ({}, None, 10), ({}, 0, 10), ({}, "many", 10), ({}, 10**9, 10)],
)
def test_the_archives_concurrency_counts_when_the_request_has_none(
    api: Api, sent: dict[str, object], toml: object, expected: int
) -> None:
    api.upload(begun(api, **sent))
    api.finish_build(manifest={"maxConcurrentTasks": toml})
    assert api.get("/v0/jobs/sweep").json()["spec"]["runtime"]["maxConcurrentTasks"] == expected


def test_public_url_is_where_uploads_go(api: Api) -> None:
    api.context = api.with_public_url("https://tide.example")
    answer = begun(api)
    assert answer.headers["X-Blaxel-Upload-Url"].startswith("https://tide.example/uploads/")
    assert answer.json()["metadata"]["url"] == "https://tide.example/main/jobs/sweep"


def zip_with(name: str, *, mode: int = 0o100644, flags: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        zipped.writestr(entry, "x")
    data = bytearray(packed.getvalue())
    if flags:
        for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            struct.pack_into("<H", data, data.index(mark) + offset, flags)
    return bytes(data)


def bomb(size: int) -> bytes:
    """An archive whose index says that it unpacks to ``size`` bytes."""
    data = bytearray(archive())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, size)
    return bytes(data)


def many(count: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for number in range(count):
            zipped.writestr(f"f{number}", b"")
    return packed.getvalue()


class TestBadArchives:
    def refused(self, api: Api, content: bytes, status_code: int = 400, error_code: str = "INVALID") -> str:
        answer = begun(api)
        message = assert_problem(api.upload(answer, content), status_code, error_code)
        # nothing half made, and the same URL takes the right archive
        assert status(api) == "UPLOADING"
        assert api.builds() == []
        assert list(api.parts.arrivals.iterdir()) == []
        assert list((api.parts.arrivals.parent / "blobs" / "sources").iterdir()) == []
        assert api.upload(answer).status_code == 200
        return message

    @pytest.mark.parametrize(
        "content",
        [b"", b"hello", b"PK\3\4" + b"\0" * 100, archive()[:-30], archive()[:-4], b"PK\5\6" + b"\xff" * 18],
    )
    def test_what_is_no_zip_is_400(self, api: Api, content: bytes) -> None:
        assert "zip" in self.refused(api, content)

    @pytest.mark.parametrize(
        "name", ["../up", "a/../../up", "/etc/passwd", "a\\..\\..\\up", "C:/windows", "..", "a/..", "\\\\host\\x"]
    )
    def test_a_path_that_leaves_the_folder_is_400(self, api: Api, name: str) -> None:
        assert "leaves the folder" in self.refused(api, zip_with(name))

    def test_an_encrypted_entry_or_a_device_is_400(self, api: Api) -> None:
        assert "encrypted" in self.refused(api, zip_with("a", flags=1))

    def test_a_device_is_400(self, api: Api) -> None:
        assert "device" in self.refused(api, zip_with("a", mode=0o020666))

    def test_too_many_entries_are_413(self, api: Api) -> None:
        api.limit(unpacked_entries=10)
        assert "10" in self.refused(api, many(11), 413, "TOO_LARGE")

    def test_a_bomb_is_413(self, api: Api) -> None:
        api.limit(unpacked_bytes=1_000_000)
        assert "1000000" in self.refused(api, bomb(1_000_001), 413, "TOO_LARGE")

    def test_a_body_over_the_limit_is_413(self, api: Api) -> None:
        api.limit(upload_bytes=1000)
        assert "1000" in self.refused(api, b"x" * 1001, 413, "TOO_LARGE")

    def test_an_upload_needs_its_length(self, api: Api) -> None:
        path = begun(api).headers["X-Blaxel-Upload-Url"].removeprefix("http://tide.test")

        async def chunked(client: httpx2.AsyncClient) -> httpx2.Response:
            async def pieces() -> Any:
                yield archive()

            return await client.put(path, content=pieces())

        assert_problem(api.session(chunked), 411, "LENGTH_REQUIRED")

    def test_a_body_that_is_not_as_long_as_it_says_is_refused(self, api: Api) -> None:
        path = begun(api).headers["X-Blaxel-Upload-Url"].removeprefix("http://tide.test")
        for length, status_code in ((len(archive()) + 5, 400), (len(archive()) - 5, 413)):
            answer = api.request("PUT", path, content=archive(), headers={"Content-Length": str(length)})
            assert answer.status_code == status_code
        assert api.builds() == []
