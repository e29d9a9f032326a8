"""GET /v0/jobs/NAME/revisions: what a job keeps, and what each of it is to the job."""

from typing import Any

import pytest

from tests.api.asking import PAGED, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.api.wire import timestamp

PATH = "/v0/jobs/sweep/revisions"
MEMBERS = {"id", "createdAt", "createdBy", "status", "active", "canary", "previousActive", "trafficPercent"}


def revisions(api: Api) -> list[dict[str, Any]]:
    answer = api.get(PATH)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def change(api: Api, **spec: Any) -> str:
    """A PUT; the id of the revision that is active then."""
    answer = api.put("/v0/jobs/sweep", {"spec": spec})
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["spec"]["revision"]["active"]
    return found


def marked(api: Api, mark: str) -> list[str]:
    return [revision["id"] for revision in revisions(api) if revision[mark]]


@pytest.mark.parametrize("version", [None, "2026-04-16", "2026-04-20", PAGED, "2026-09-22.preview"])
def test_it_is_a_bare_array_in_every_version(api: Api, version: str | None) -> None:
    job = api.deployed()
    (found,) = api.get(PATH, headers={"Blaxel-Version": version}).json()
    assert found.keys() == MEMBERS
    assert found == {
        "id": job["spec"]["revision"]["active"],
        "createdAt": timestamp(api.now[0]),
        "createdBy": job["metadata"]["createdBy"],
        "status": "DEPLOYED",
        "active": True,
        "canary": False,
        "previousActive": False,
        "trafficPercent": 100,
    }


def test_it_is_for_those_of_the_workspace_and_404_for_no_job(api: Api) -> None:
    assert_problem(api.get(PATH), 404, "NOT_FOUND")
    api.deployed()
    assert_problem(api.get(PATH, headers={"Authorization": None}), 401, "UNAUTHORIZED")
    assert_problem(api.get(PATH, headers={"Authorization": f"Bearer {STRANGER}"}), 404, "NOT_FOUND")
    api.delete("/v0/jobs/sweep")
    assert_problem(api.get(PATH), 404, "NOT_FOUND")


def test_they_are_the_last_five_newest_first_and_those_that_executions_use(api: Api) -> None:
    used: str = api.deployed()["spec"]["revision"]["active"]
    api.post("/v0/jobs/sweep/executions", b"")
    made = [change(api, runtime={"timeout": timeout}) for timeout in range(1, 9)]
    assert [revision["id"] for revision in revisions(api)] == [*reversed(made[-5:]), used]
    assert marked(api, "active") == [made[-1]]
    assert marked(api, "previousActive") == [made[-2]]


def test_a_rollback_tells_what_was_active_before_it(api: Api) -> None:
    first: str = api.deployed()["spec"]["revision"]["active"]
    second = change(api, runtime={"timeout": 5})
    change(api, revision={"active": first})
    assert (marked(api, "active"), marked(api, "previousActive")) == ([first], [second])
    change(api, policies=["eu"])  # no other revision: what was active before stays
    assert marked(api, "previousActive") == [second]


def test_one_that_is_being_built_is_there_with_the_state_of_its_deploy(api: Api) -> None:
    first: str = api.deployed()["spec"]["revision"]["active"]
    answer = api.put("/v0/jobs/sweep?upload=true", {"spec": {}})
    assert [(one["id"] == first, one["status"]) for one in revisions(api)] == [(False, "UPLOADING"), (True, "DEPLOYED")]
    api.upload(answer)
    assert (revisions(api)[0]["status"], revisions(api)[0]["trafficPercent"]) == ("BUILDING", 0)
    api.fail_build("no")
    assert [one["id"] for one in revisions(api)] == [first]


def test_shares_of_executions_are_told_and_none_of_a_paused_job(api: Api) -> None:
    first: str = api.deployed()["spec"]["revision"]["active"]
    second = change(api, runtime={"timeout": 5})
    change(api, revision={"canary": first, "canaryPercent": 30})
    shares = {one["id"]: one["trafficPercent"] for one in revisions(api)}
    assert shares == {first: 30, second: 70}
    assert marked(api, "canary") == [first]
    change(api, revision={"traffic": 0})
    assert {one["trafficPercent"] for one in revisions(api)} == {0}
