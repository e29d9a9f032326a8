"""`tidemill why` on a real server: what waits and what holds it, then how it ended."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.drive import Server, until

WAIT = "until [ -e {gate} ]; do sleep 0.05; done; exit 3"


def test_what_waits_says_for_what_and_what_failed_says_how(
    server: Server, job_folder: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    folder = job_folder("waits", WAIT.format(gate=gate), memory=64, timeout=60, maxConcurrentTasks=1)
    server.cli("deploy", str(folder))
    server.cli("run", "job", "waits", "--data", '{"tasks": [{}, {}]}', "--id", "waits-0001")
    until(lambda: "Task 0 runs on node" in server.cli("why", "waits-0001/0"))
    for word in ("waits-0001", "waits-0001/1"):
        waits = server.cli("why", word)
        assert "1 task of the execution runs and maxConcurrentTasks is 1; room comes at the latest at" in waits
    gate.touch()
    until(lambda: "It failed" in server.cli("why", "waits-0001"), seconds=80)
    answer = json.loads(server.cli("why", "waits-0001", "-o", "json"))
    (failure,) = answer["failures"]
    assert (answer["reason"], failure["count"], failure["exitCode"]) == ("failed", 2, 3)
