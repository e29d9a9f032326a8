"""`tidemill why` on a real server: what waits and what holds it, then how it ended."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import running
from tests.e2e.drive import Server, until

WAIT = "until [ -e {gate} ]; do sleep 0.05; done; exit 3"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Where tasks may look for whether they are to end."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder / "gate"


@pytest.fixture
def server(tmp_path: Path, gate: Path) -> Iterator[Server]:
    settings = {"TIDEMILL_TASK_READ_PATHS": json.dumps([str(gate.parent)])}
    yield from running(Server(tmp_path / "data", settings))


def test_what_waits_says_for_what_and_what_failed_says_how(
    server: Server, job_folder: Callable[..., Path], gate: Path
) -> None:
    folder = job_folder("waits", WAIT.format(gate=gate), memory=64, timeout=60, maxConcurrentTasks=1)
    server.cli("deploy", str(folder))
    server.cli("run", "job", "waits", "--data", '{"tasks": [{}, {}]}', "--id", "waits-0001")
    until(lambda: "Task 0 runs on node" in server.cli("why", "waits-0001/0"))
    for word in ("waits-0001", "waits-0001/1"):
        waits = server.cli("why", word)
        assert "1 task of the execution runs and maxConcurrentTasks is 1; room comes at the latest at" in waits
    gate.touch()
    until(lambda: "It failed" in server.cli("why", "waits-0001"), seconds=30)
    answer = json.loads(server.cli("why", "waits-0001", "-o", "json"))
    (failure,) = answer["failures"]
    assert (answer["reason"], failure["count"], failure["exitCode"]) == ("failed", 2, 3)
