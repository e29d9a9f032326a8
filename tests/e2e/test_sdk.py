"""The unmodified official Python SDK, pointed here as docs/wire.md says, runs, waits, lists and cancels."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.drive import ROOT, Server

SCRIPT = """
import json, os
import blaxel
from blaxel.core.client.client import client
from blaxel.core.jobs import bl_job

client.with_base_url(os.environ["BL_API_URL"])
job = bl_job("shell")

execution_id = job.run([{"name": "Ada"}, {"name": "Grace"}], env={"GREETING": "Bonjour"})
job.wait_for_execution(execution_id, max_wait=60, interval=1)
done = job.get_execution(execution_id)

slow = bl_job("slow")
cancelled_id = slow.run([{"n": n} for n in range(20)])
slow.cancel_execution(cancelled_id)
slow.wait_for_execution(cancelled_id, max_wait=60, interval=1)

try:
    bl_job("missing").run([{}])
    missing = "no error"
except Exception as error:
    missing = str(error)

print(json.dumps({
    "status": job.get_execution_status(execution_id),
    "stats": done.stats.to_dict(),
    "round_trip": done.to_dict()["metadata"]["id"] == execution_id,
    "listed": [each.metadata.id for each in job.list_executions().data],
    "execution_id": execution_id,
    "cancelled": slow.get_execution_status(cancelled_id),
    "missing": missing,
}))
"""


@pytest.fixture(scope="module")
def jobs(server: Server, job_folder: Callable[..., Path]) -> Server:
    server.cli("deploy", str(ROOT / "examples" / "shell"))
    server.cli("deploy", str(job_folder("slow", "sleep 1\n", memory=64, maxConcurrentTasks=2)))
    return server


def test_the_official_python_sdk_runs_waits_lists_and_cancels(jobs: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env=jobs.environment | jobs.credentials,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["status"] == "succeeded"
    assert said["round_trip"] is True
    assert said["stats"] == {"total": 2, "running": 0, "success": 2, "failure": 0, "retried": 0, "cancelled": 0}
    assert said["listed"] == [said["execution_id"]]
    assert said["cancelled"] == "cancelled"
    assert "404" in said["missing"] or "not found" in said["missing"].lower()
