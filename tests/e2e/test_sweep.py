"""The sweep example, whole: built with its dependencies, killed in the middle, finished, and right."""

import json

import pytest

from tests.e2e.drive import ROOT, Server, until

BATCH = ROOT / "examples" / "sweep" / "batches" / "sweep.json"


@pytest.mark.timeout(600)
def test_the_sweep_survives_kill_9_of_the_server_in_its_middle(fresh: Server) -> None:
    fresh.cli("deploy", str(ROOT / "examples" / "sweep"), timeout=300)
    # every other one: `make demo` runs them all
    tasks = json.loads(BATCH.read_text())["tasks"][::2]
    with fresh.http() as http:
        execution_id = http.post("/jobs/sweep/executions", json={"tasks": tasks}).json()["executionId"]
        path = f"/jobs/sweep/executions/{execution_id}"
        until(lambda: http.get(path).json()["stats"]["success"] >= 3, seconds=90)
    fresh.kill()
    fresh.start()
    with fresh.http() as http:
        until(lambda: http.get(path).json()["status"] in {"succeeded", "failed"}, seconds=180)
        assert http.get(path).json()["stats"]["success"] == len(tasks)
    lines = [json.loads(line) for line in fresh.cli("results", "sweep", execution_id).splitlines()]
    assert [line["index"] for line in lines] == list(range(len(tasks)))
    assert all(0.5 < line["result"]["score"] <= 1 for line in lines)
    assert all(line["attempts"] == 1 for line in lines)
