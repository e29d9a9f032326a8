"""The public reference's sample request, with an image that is deployed here, and what each of its metadata does."""

from typing import Any

from tests.api.asking import MEMBER, Api
from tests.api.test_access import assert_problem
from tidemill.api.wire import timestamp

NAME = "my-resource"
JOB = f"/v0/jobs/{NAME}"


def sample(image: str) -> dict[str, Any]:
    return {
        "metadata": {"name": NAME, "displayName": "My Resource", "labels": {}},
        "spec": {
            "enabled": True,
            "policies": [],
            "region": "us-was-1",
            "revision": {
                "active": "rev-abc123",
                "canary": "",
                "canaryPercent": 10,
                "stickySessionTtl": 0,
                "traffic": 100,
            },
            "runtime": {
                "envs": [{"name": "MY_ENV_VAR", "secret": True, "value": "my-value"}],
                "generation": "mk3",
                "image": image,
                "maxConcurrentTasks": 10,
                "maxRetries": 3,
                "memory": 2048,
                "ports": [{"target": 8080, "name": "http", "protocol": "HTTP"}],
                "timeout": 3600,
            },
            "triggers": [
                {
                    "configuration": {
                        "authenticationType": "blaxel",
                        "callbackUrl": "https://myapp.com/webhook",
                        "path": "/invoke",
                        "retry": 3,
                        "schedule": "0 * * * *",
                        "tasks": [{}],
                        "timeout": 300,
                    },
                    "enabled": True,
                    "id": "trigger-1",
                    "type": "http",
                }
            ],
        },
    }


def posted(api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was sent, and the answer."""
    body = sample(api.deployed("other")["spec"]["runtime"]["image"])
    answer = api.post("/v0/jobs", body)
    assert answer.status_code == 200, answer.text
    return body, answer.json()


def test_the_sample_is_accepted_and_comes_back_field_by_field(api: Api) -> None:
    body, answer = posted(api)
    expected = body["spec"]
    expected["runtime"]["envs"][0]["value"] = "****"
    callback = answer["spec"]["triggers"][0]["configuration"]
    assert "*" not in callback["callbackSecret"]  # made for its callbackUrl, and shown this once
    callback["callbackSecret"] = expected["triggers"][0]["configuration"]["callbackSecret"] = "****"
    assert answer["spec"] == expected
    assert answer["metadata"].items() >= body["metadata"].items()
    assert answer["status"] == "DEPLOYED"
    read = api.get(JOB).json()
    assert read == answer
    # and what was read may be sent again: nothing changes
    again = api.put(JOB, read)
    assert again.status_code == 200, again.text
    assert again.json()["spec"] == answer["spec"]
    assert api.post(f"{JOB}/executions", b"").status_code == 200
    shown = api.get(f"{JOB}?show_secrets=true").json()["spec"]["runtime"]["envs"]
    assert shown == [{"name": "MY_ENV_VAR", "secret": True, "value": "my-value"}]


def test_its_metadata_tells_who_made_it_where_and_when(api: Api) -> None:
    made = api.now[0]
    _, answer = posted(api)
    metadata = answer["metadata"]
    assert (metadata["workspace"], metadata["plan"]) == ("main", "self-hosted")
    assert metadata["createdAt"] == metadata["updatedAt"] == timestamp(made)
    assert metadata["createdBy"] == metadata["updatedBy"] != ""
    api.later(60)
    member = {"Authorization": f"Bearer {MEMBER}"}
    changed = api.put(JOB, {"metadata": {"name": NAME}, "spec": {}}, headers=member).json()["metadata"]
    assert (changed["createdAt"], changed["createdBy"]) == (metadata["createdAt"], metadata["createdBy"])
    assert changed["updatedAt"] == timestamp(api.now[0])
    assert changed["updatedBy"] not in {"", metadata["updatedBy"]}


def test_what_is_read_only_is_dropped(api: Api) -> None:
    _, answer = posted(api)
    wish = dict.fromkeys(("createdAt", "createdBy", "updatedBy", "plan", "url", "workspace"), "mine")
    kept = api.put(JOB, {"metadata": {"name": NAME, **wish}, "spec": {}}).json()["metadata"]
    assert {name: kept[name] for name in wish} == {name: answer["metadata"][name] for name in wish}


def test_its_url_starts_executions(api: Api) -> None:
    _, answer = posted(api)
    path = answer["metadata"]["url"].removeprefix("http://tide.test")
    started = api.post(f"{path}/executions", b"")
    assert started.status_code == 200, started.text
    assert started.json()["jobId"] == NAME


def test_its_names_and_labels_are_searched_and_its_external_id_is_the_callers(api: Api) -> None:
    posted(api)
    metadata = {"name": NAME, "displayName": "Night Train", "externalId": "ext-7", "labels": {"Team": "Blue"}}
    api.put(JOB, {"metadata": metadata, "spec": {}})
    for text, found in (("night tr", 1), ("blue", 1), ("TEAM", 1), ("my-res", 1), ("ext-7", 0), ("green", 0)):
        listed = api.get("/v0/jobs", params={"q": text}).json()["data"]
        assert [job["metadata"]["name"] for job in listed] == [NAME] * found, text
    assert api.get(JOB).json()["metadata"]["externalId"] == "ext-7"
    # a label or a name that is taken away finds nothing any more
    api.put(JOB, {"metadata": {"name": NAME, "displayName": "", "labels": {}}, "spec": {}})
    assert api.get("/v0/jobs", params={"q": "blue"}).json()["data"] == []
    assert api.get(JOB).json()["metadata"]["displayName"] == NAME


def test_its_name_is_what_it_is_found_by_and_taken_once(api: Api) -> None:
    body, _ = posted(api)
    assert_problem(api.post("/v0/jobs", body), 409, "ALREADY_EXISTS")
    assert_problem(api.get("/v0/jobs/My-Resource"), 404, "NOT_FOUND")
