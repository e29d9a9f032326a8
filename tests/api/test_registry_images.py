"""Jobs that name an image of a registry: pulled before they run it, with credentials that nobody sees again."""

import base64
import json
from typing import Any

import httpx2
import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.image import registry_ref

IMAGE = "registry.example.com/team/tool:v1"
PINNED = f"{IMAGE}@sha256:{'a' * 64}"
SECRET = "open sesame"


def config(host: str = "registry.example.com", password: str = SECRET) -> str:
    auth = base64.b64encode(f"reader:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}})


def put(api: Api, **runtime: object) -> httpx2.Response:
    """A deploy of an image by the official command line: a PUT, and a POST where the job is new."""
    body = {"metadata": {"name": "tool", "labels": {}}, "spec": {"runtime": {"envs": [], **runtime}}}
    answer = api.put("/v0/jobs/tool", body)
    return api.post("/v0/jobs", body) if answer.status_code == 404 else answer


def job(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/v0/jobs/tool").json()
    return found


def test_an_image_of_a_registry_is_pulled_and_then_runs_by_its_digest(api: Api) -> None:
    assert put(api, image=IMAGE, memory=64).json()["status"] == "BUILDING"
    (build,) = api.builds()
    assert (build.image, build.source_digest, build.state) == (IMAGE, "", "pending")
    api.finish_build(reference=PINNED)
    assert job(api)["status"] == "DEPLOYED"
    assert job(api)["spec"]["runtime"]["image"] == PINNED
    assert [event["status"] for event in job(api)["events"]] == ["BUILDING", "DEPLOYING", "DEPLOYED"]
    assert api.post("/v0/jobs/tool/executions", b"").status_code == 200


def test_what_a_pull_says_it_has_pulled_is_what_was_asked_for(api: Api) -> None:
    put(api, image=IMAGE)
    api.finish_build(reference=f"elsewhere.example.com/x@sha256:{'b' * 64}")
    assert job(api)["spec"]["runtime"]["image"] == IMAGE


def test_a_job_that_is_read_and_written_back_is_not_pulled_again(api: Api) -> None:
    put(api, image=IMAGE)
    api.finish_build(reference=PINNED)
    assert put(api, image=PINNED, memory=64).json()["status"] == "DEPLOYED"
    assert put(api, memory=80).json()["spec"]["runtime"]["image"] == PINNED
    assert len(api.builds()) == 1


def test_a_tag_is_looked_up_again_at_every_deploy(api: Api) -> None:
    put(api, image=IMAGE)
    api.finish_build(reference=PINNED)
    assert put(api, image=IMAGE).json()["status"] == "BUILDING"
    # what ran goes on
    assert api.post("/v0/jobs/tool/executions", b"").status_code == 200
    moved = f"{IMAGE}@sha256:{'c' * 64}"
    api.finish_build(reference=moved)
    assert job(api)["spec"]["runtime"]["image"] == moved


def test_an_image_that_cannot_be_pulled_is_a_failed_deploy_that_says_why(api: Api) -> None:
    put(api, image=IMAGE)
    api.fail_build("registry registry.example.com does not have it")
    assert job(api)["status"] == "FAILED"
    assert job(api)["events"][-1]["message"] == "registry registry.example.com does not have it"


def test_a_job_may_go_from_an_image_of_a_registry_to_one_built_here_and_back(api: Api) -> None:
    put(api, image=IMAGE)
    api.finish_build(reference=PINNED)
    api.deployed("other")
    built = api.get("/v0/jobs/other").json()["spec"]["runtime"]["image"]
    assert put(api, image=built).json()["spec"]["runtime"]["image"] == built
    put(api, image=IMAGE)
    api.finish_build(reference=PINNED)
    assert job(api)["spec"]["runtime"]["image"] == PINNED


@pytest.mark.parametrize(
    "image", ["python:3.12", "library/python", "job/", "Registry.example.com/A", "a.b/c:", "a.b/c@sha1:1"]
)
def test_an_image_is_named_with_its_registry(api: Api, image: str) -> None:
    said = assert_problem(put(api, image=image), 400, "INVALID")
    assert "spec.runtime.image is " in said
    assert "docker.io/library/python:3.12" in said
    assert not api.builds()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("docker.io/library/python", ("docker.io", "library/python", "latest", "")),
        ("localhost/a", ("localhost", "a", "latest", "")),
        ("r:5000/a/b:1", ("r:5000", "a/b", "1", "")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "latest", "")),
        (f"a.b/c@sha256:{'0' * 64}", ("a.b", "c", "", f"sha256:{'0' * 64}")),
        (f"a.b/c:d@sha256:{'0' * 64}", ("a.b", "c", "d", f"sha256:{'0' * 64}")),
        ("python:3.12", None),
        ("a.b/../c", None),
        ("a.b/c d", None),
        (f"a.b/{'c' * 600}", None),
    ],
)
def test_a_reference_has_four_parts(text: str, parts: tuple[str, ...] | None) -> None:
    found = registry_ref(text)
    assert (None if found is None else (found.host, found.path, found.tag, found.digest)) == parts


def test_credentials_are_sealed_given_to_the_pull_and_forgotten(api: Api) -> None:
    answer = put(api, image=IMAGE, dockerConfig=config())
    assert "dockerConfig" not in answer.text
    (build,) = api.builds()
    assert build.credentials_sealed
    assert SECRET not in build.credentials_sealed
    assert "dockerConfig" not in api.get("/v0/jobs/tool?show_secrets=true").text
    assert "dockerConfig" not in api.get("/v0/jobs/tool/revisions").text
    lease = api.build_lease()
    assert lease.source is None
    assert lease.pull is not None
    assert (lease.pull.reference, lease.pull.credentials) == (IMAGE, f"reader:{SECRET}")
    assert SECRET not in repr(lease)
    # a newer deploy takes its place
    put(api, image=IMAGE)
    assert [build.credentials_sealed for build in api.builds()] == ["", ""]


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("docker.io/library/python:3.12", "https://index.docker.io/v1/"),
        ("docker.io/library/python:3.12", "docker.io"),
        ("Registry.example.com:5000/a", "https://registry.example.com:5000"),
    ],
)
def test_a_registry_is_known_by_all_its_names(api: Api, image: str, host: str) -> None:
    put(api, image=image, dockerConfig=config(host))
    assert api.builds()[-1].credentials_sealed


def test_credentials_of_another_registry_are_not_kept(api: Api) -> None:
    put(api, image=IMAGE, dockerConfig=config("other.example.com"))
    assert api.builds()[-1].credentials_sealed == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"{{{SECRET}", "is no JSON"),
        ("[]", "no object auths"),
        ('{"auths": {"registry.example.com": "' + SECRET + '"}}', "no object in auths"),
        ('{"auths": {"registry.example.com": {"auth": "' + SECRET + '"}}}', "no user and password"),
        ('{"auths": {"registry.example.com": {"auth": "' + base64.b64encode(b"no colon").decode() + '"}}}', "no user"),
        ('{"auths": {"registry.example.com": {}}}', "no user and password"),
    ],
)
def test_what_are_no_credentials_is_said_without_repeating_them(api: Api, text: str, word: str) -> None:
    said = assert_problem(put(api, image=IMAGE, dockerConfig=text), 400, "INVALID")
    assert said.startswith("spec.runtime.dockerConfig ")
    assert word in said
    assert SECRET not in said
    assert not api.builds()


def test_credentials_without_an_image_of_a_registry_are_refused(api: Api) -> None:
    assert "names none" in assert_problem(put(api, dockerConfig=config()), 400, "INVALID")
