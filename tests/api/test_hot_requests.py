"""What the requests that come most often ask the database: statements of a whole request, its credential's included."""

import pytest

from tests.api.asking import Api
from tests.costs import cost


@pytest.fixture
def deployed(api: Api) -> Api:
    api.deployed("sweep")
    return api


def test_a_job_is_read_in_three_statements(deployed: Api) -> None:
    found = cost(lambda: deployed.get("/v0/jobs/sweep").raise_for_status())
    assert found.statements == 3  # the key, the job with its spec, its events


def test_an_execution_of_one_task_is_made_in_fourteen_statements(deployed: Api) -> None:
    found = cost(lambda: deployed.post("/v0/jobs/sweep/executions", {}).raise_for_status())
    # the key; the job, the names of the request, the quota; inputs and their chunk, the execution, its names, the
    # count; a number and the event; the audit's head, its row, and the head again
    assert found.statements == 14


def test_a_page_of_tasks_is_read_in_four_statements(deployed: Api) -> None:
    execution = deployed.post("/v0/jobs/sweep/executions", {"tasks": [{}] * 100}).json()["executionId"]
    found = cost(lambda: deployed.get(f"/v0/jobs/sweep/executions/{execution}/tasks?limit=50").raise_for_status())
    assert found.statements == 4  # the key, the job, the execution, its tasks


def test_a_request_with_much_is_looked_up_before_its_inputs_are_compressed(deployed: Api) -> None:
    body = {"tasks": [{"text": "x" * 70_000}]}
    made = cost(lambda: deployed.post("/v0/jobs/sweep/executions", body).raise_for_status())
    assert made.statements == 16  # two more: the job and the names of the request, in a read
    refused = cost(lambda: deployed.post("/v0/jobs/missing/executions", body))
    assert refused.statements == 5  # the key and the job, and the three of the audit: no input reaches the writer
