"""What the credential of a task reaches: its own execution, while its attempt lives."""

import base64
from typing import Any

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.api.scopes import SCOPES
from tidemill.model.ids import AttemptId, OwnerKind

OWN = "/v0/jobs/sweep/executions"


@pytest.fixture
def execution(api: Api) -> str:
    """Of two tasks, of which the first runs."""
    api.deployed()
    made: str = api.post(OWN, {"tasks": [{"n": 0}, {"n": 1}]}).json()["executionId"]
    api.run_task(made, 0)
    return made


def credential(api: Api, execution: str, index: int = 0, number: int = 1) -> dict[str, Any]:
    attempt = AttemptId(OwnerKind.TASK, api.key(execution), index, number)
    return {"Authorization": f"Bearer {api.parts.keyring.task_credential(attempt)}", "X-Blaxel-Workspace": None}


def test_it_reads_its_own_execution(api: Api, execution: str) -> None:
    own = credential(api, execution)
    for path in ("", "/tasks", "/tasks/1", "/explain", "/results"):
        assert api.get(f"{OWN}/{execution}{path}", headers=own).status_code == 200, path
    named = {**own, "X-Blaxel-Workspace": "main"}
    assert api.get(f"{OWN}/{execution}", headers=named).status_code == 200
    assert_problem(api.get(f"{OWN}/{execution}", headers={**own, "X-Blaxel-Workspace": "other"}), 403, "FORBIDDEN")


def test_it_reads_and_changes_nothing_else(api: Api, execution: str) -> None:
    other = api.post(OWN, b"").json()["executionId"]
    own = credential(api, execution)
    reached = []
    for method, path in SCOPES:
        for named in (execution, other):
            asked = path.replace("{execution}", named).replace("{name}", "sweep").replace("{index}", "0")
            asked = asked.replace("{workspace_in_path}", "main").replace("{workspace_name}", "main")
            answer = api.request(method, asked, headers=own, content=b"{}")
            assert answer.status_code in {200, 403}, (method, asked, answer.text)
            if answer.status_code == 200:
                reached.append((method, asked))
    assert {method for method, _ in reached} == {"GET"}
    assert {path.removeprefix(f"{OWN}/{execution}") for _, path in reached} == {
        "",
        "/tasks",
        "/tasks/0",
        "/explain",
        "/results",
    }


def test_a_prefix_of_its_id_is_not_enough_since_it_may_be_anothers(api: Api, execution: str) -> None:
    assert_problem(api.get(f"{OWN}/{execution[:8]}", headers=credential(api, execution)), 403, "FORBIDDEN")


def test_it_ends_with_its_attempt(api: Api, execution: str) -> None:
    own = credential(api, execution)
    api.end_task(execution, 0)
    assert_problem(api.get(f"{OWN}/{execution}", headers=own), 401, "UNAUTHORIZED")


def test_an_attempt_that_never_was_has_none(api: Api, execution: str) -> None:
    for never in (credential(api, execution, index=1), credential(api, execution, number=2)):
        assert_problem(api.get(f"{OWN}/{execution}", headers=never), 401, "UNAUTHORIZED")


def test_a_forged_one_is_refused(api: Api, execution: str) -> None:
    good = credential(api, execution)["Authorization"]
    for forged in (good[:-2] + "xx", good.replace(".0.1.", ".0.2."), good.rpartition(".")[0], "Bearer tmt_"):
        answer = api.get(f"{OWN}/{execution}", headers={"Authorization": forged, "X-Blaxel-Workspace": None})
        assert_problem(answer, 401, "UNAUTHORIZED")


def token(api: Api, execution: str, **body: str) -> dict[str, Any]:
    """What the token service gives a task that shows the pair in its BL_CLIENT_CREDENTIALS."""
    secret = credential(api, execution)["Authorization"].removeprefix("Bearer ")
    basic = {"Authorization": "Basic " + base64.b64encode(f"task:{secret}".encode()).decode()}
    answer = api.post("/v0/oauth/token", {"grant_type": "client_credentials", **body}, headers=basic)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"access_token", "refresh_token", "expires_in", "token_type"}
    return {"Authorization": f"Bearer {answer.json()['access_token']}", "X-Blaxel-Workspace": None}


def test_its_token_reads_its_own_execution_and_nothing_else(api: Api, execution: str) -> None:
    other = api.post(OWN, b"").json()["executionId"]
    own = token(api, execution)
    assert api.get(f"{OWN}/{execution}", headers=own).status_code == 200
    assert_problem(api.get(f"{OWN}/{other}", headers=own), 403, "FORBIDDEN")
    assert_problem(api.get("/v0/jobs", headers=own), 403, "FORBIDDEN")
    assert_problem(api.post(OWN, {}, headers=own), 403, "FORBIDDEN")
    assert_problem(api.get(f"{OWN}/{execution}", headers={**own, "X-Blaxel-Workspace": "other"}), 403, "FORBIDDEN")


def test_its_token_ends_with_its_attempt(api: Api, execution: str) -> None:
    own = token(api, execution)
    api.end_task(execution, 0)
    assert_problem(api.get(f"{OWN}/{execution}", headers=own), 401, "UNAUTHORIZED")


def test_its_token_can_be_ended_before(api: Api, execution: str) -> None:
    own, kept = token(api, execution), token(api, execution)
    assert api.post("/v0/oauth/revoke", {"token": own["Authorization"].removeprefix("Bearer ")}).status_code == 200
    assert_problem(api.get(f"{OWN}/{execution}", headers=own), 401, "UNAUTHORIZED")
    assert api.get(f"{OWN}/{execution}", headers=kept).status_code == 200


def test_an_admin_is_told_whose_it_is(api: Api, execution: str) -> None:
    shown = token(api, execution)["Authorization"].removeprefix("Bearer ")
    told = api.post("/v0/oauth/introspect", {"token": shown}).json()
    assert (told["active"], told["sub_type"], told["sub"]) == (True, "task", f"{execution}/0/1")
    assert told["scope"] == "jobs:get"


@pytest.mark.parametrize("client_id", ["", "tasks", "0"])
def test_no_other_client_id_goes_with_it(api: Api, execution: str, client_id: str) -> None:
    secret = credential(api, execution)["Authorization"].removeprefix("Bearer ")
    body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    answer = api.post("/v0/oauth/token", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


def test_no_token_is_given_for_an_attempt_that_has_ended(api: Api, execution: str) -> None:
    secret = credential(api, execution)["Authorization"].removeprefix("Bearer ")
    api.end_task(execution, 0)
    body = {"grant_type": "client_credentials", "client_id": "task", "client_secret": secret}
    answer = api.post("/v0/oauth/token", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


def test_no_token_is_given_for_more_than_a_task_may(api: Api, execution: str) -> None:
    secret = credential(api, execution)["Authorization"].removeprefix("Bearer ")
    pair = {"client_id": "task", "client_secret": secret, "scope": "jobs:get jobs:create"}
    answer = api.post("/v0/oauth/token", {"grant_type": "client_credentials", **pair})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert "jobs:create" in answer.json()["message"]
