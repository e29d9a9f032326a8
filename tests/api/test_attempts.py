"""One task with its attempts."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from tests.api.asking import NODE, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.model.lease import OutcomeKind
from tidemill.store.schema import attempt as attempt_table

PATH = "/v0/jobs/sweep/executions"


def started(api: Api, count: int, retries: int = 3) -> str:
    api.deployed(maxConcurrentTasks=1000, maxRetries=retries)
    answer = api.post(PATH, {"tasks": [{"n": number} for number in range(count)]})
    found: str = answer.json()["executionId"]
    return found


def get(api: Api, execution: str, index: object) -> dict[str, Any]:
    answer = api.get(f"{PATH}/{execution}/tasks/{index}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_attempt_has_its_node_times_outcome_code_and_figures(api: Api) -> None:
    execution = started(api, 2)
    api.run_task(execution, 1)
    api.later(2.5)
    begun = api.now[0].timestamp() - 2
    facts = {"started_at": begun, "peak_memory_bytes": 50 << 20, "cpu_s": 0.25, "message": "exit code 3"}
    api.end_task(execution, 1, OutcomeKind.EXIT_CODE, exit_code=3, **facts)
    task = get(api, execution, 1)
    assert (task["metadata"]["name"], task["status"], task["attemptCount"]) == ("task-1", "pending", 1)
    assert task["conditions"][0]["reason"] == "Retrying"
    assert task["attempts"] == [
        {
            "number": 1,
            "node": NODE,
            "outcome": "exit_code",
            "message": "exit code 3",
            "exitCode": 3,
            "charged": True,
            "peakMemoryBytes": 50 << 20,
            "cpuSeconds": 0.25,
            "createdAt": "2026-11-23T12:00:00.000000Z",
            "startedAt": "2026-11-23T12:00:00.000000Z",
            "completedAt": "2026-11-23T12:00:02.500000Z",
        }
    ]


def test_a_signal_is_told_and_what_nobody_measured_is_absent(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    api.end_task(execution, 0, OutcomeKind.SIGNAL, signal=11)
    (attempt,) = get(api, execution, 0)["attempts"]
    assert (attempt["outcome"], attempt["signal"]) == ("signal", 11)
    assert not {"exitCode", "peakMemoryBytes", "cpuSeconds", "message"} & set(attempt)


def test_a_live_attempt_has_neither_outcome_nor_end(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    task = get(api, execution, 0)
    (attempt,) = task["attempts"]
    assert task["status"] == "running"
    assert attempt["startedAt"]
    assert not {"outcome", "completedAt"} & set(attempt)


def test_a_loss_is_listed_and_not_charged(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    api.end_task(execution, 0, OutcomeKind.LOST, message="its node died while it ran")
    task = get(api, execution, 0)
    assert [(each["outcome"], each["charged"]) for each in task["attempts"]] == [("lost", False)]
    assert task["attemptCount"] == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_task_without_a_row_has_no_attempts(api: Api, cancelled: bool) -> None:
    execution = started(api, 3)
    if cancelled:
        api.delete(f"{PATH}/{execution}")
    task = get(api, execution, 2)
    assert (task["attempts"], task["attemptCount"]) == ([], 0)
    assert task["status"] == ("cancelled" if cancelled else "pending")


def test_of_very_many_attempts_the_newest_are_shown_in_order(api: Api) -> None:
    execution = started(api, 1)
    api.run_task(execution, 0)
    key = api.key(execution)

    def more(connection: Connection) -> None:
        rows = [
            {
                "kind": "t",
                "owner": key,
                "idx": 0,
                "number": number,
                "workspace": "main",
                "node": NODE,
                "term": 1,
                "memory_mb": 1,
                "claimed_at": api.now[0] + timedelta(seconds=number),
                "ended_at": api.now[0] + timedelta(seconds=number),
                "outcome": "lost",
            }
            for number in range(2, 251)
        ]
        connection.execute(insert(attempt_table), rows)

    api.parts.database.write(more)
    numbers = [each["number"] for each in get(api, execution, 0)["attempts"]]
    assert numbers == list(range(51, 251))


def test_lists_count_attempts_and_do_not_list_them(api: Api) -> None:
    execution = started(api, 2)
    api.run_task(execution, 0)
    page = api.get(f"{PATH}/{execution}/tasks").json()["data"]
    assert [task["attemptCount"] for task in page] == [1, 0]
    assert [task["attemptCount"] for task in api.get(f"{PATH}/{execution}").json()["tasks"]] == [1, 0]
    assert not any("attempts" in task for task in page)


def test_a_task_is_named_by_index_or_name_and_its_execution_by_a_prefix(api: Api) -> None:
    execution = started(api, 12)
    assert get(api, execution[:8], "task-11") == get(api, execution, 11)
    assert get(api, execution, 11)["metadata"]["name"] == "task-11"


@pytest.mark.parametrize("index", ["12", "-1", "task-", "frog", "task-12", "1" * 40, "1.5", "%D9%A1", "task-task-1"])
def test_a_task_that_does_not_exist_is_404(api: Api, index: str) -> None:
    execution = started(api, 12)
    assert_problem(api.get(f"{PATH}/{execution}/tasks/{index}"), 404, "NOT_FOUND")


def test_an_execution_or_job_that_does_not_exist_here_is_404(api: Api) -> None:
    execution = started(api, 1)
    assert_problem(api.get(f"{PATH}/ffffffff-nobody/tasks/0"), 404, "NOT_FOUND")
    assert_problem(api.get(f"/v0/jobs/nobody/executions/{execution}/tasks/0"), 404, "NOT_FOUND")
    api.deployed("other")
    assert_problem(api.get(f"/v0/jobs/other/executions/{execution}/tasks/0"), 404, "NOT_FOUND")
    stranger = {"Authorization": f"Bearer {STRANGER}"}
    assert_problem(api.get(f"{PATH}/{execution}/tasks/0", headers=stranger), 404, "NOT_FOUND")


def test_a_task_of_a_rerun_keeps_its_origins_index_and_has_attempts_of_its_own(api: Api) -> None:
    execution = started(api, 4, retries=0)
    api.run_task(execution, 3)
    for index in range(4):
        api.end_task(execution, index, OutcomeKind.EXIT_CODE if index == 2 else OutcomeKind.SUCCEEDED)
    again = api.post(f"{PATH}/{execution}/rerun", b"").json()["executionId"]
    task = get(api, again, 2)
    assert (task["metadata"]["name"], task["attempts"], task["status"]) == ("task-2", [], "pending")
    assert len(get(api, execution, 2)["attempts"]) == 1
    assert_problem(api.get(f"{PATH}/{again}/tasks/0"), 404, "NOT_FOUND")
    assert_problem(api.get(f"{PATH}/{again}/tasks/3"), 404, "NOT_FOUND")
