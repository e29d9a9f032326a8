"""What the credential of a task reaches: its own execution, while its attempt lives."""

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
