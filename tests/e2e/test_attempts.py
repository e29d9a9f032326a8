"""What a real node measured of an attempt, read where its user reads it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.drive import Server

MEASURED = """
case "$(cat "$TIDEMILL_TASK_FILE")" in
*memory*) exec PYTHON -c 'x = b"x" * (50 << 20)' ;;
*cpu*) PYTHON -c 'import time
while time.process_time() < 0.3: pass'; exit $? ;;
*child*) PYTHON -c 'import subprocess, sys
subprocess.run([sys.executable, "-c", "x = bytes(range(256)) * (200 << 10)"])'; exit $? ;;
*much*) exec PYTHON -c 'import time
x = b"x" * (400 << 20)
time.sleep(600)' ;;
*again*) [ "$TIDEMILL_ATTEMPT" = 2 ] || exit 7 ;;
esac
"""
MB = 1 << 20


@pytest.fixture(scope="module")
def execution(server: Server, job_folder: Callable[..., Path]) -> str:
    folder = job_folder("measured", MEASURED.replace("PYTHON", sys.executable), memory=256, timeout=60, maxRetries=1)
    server.cli("deploy", str(folder))
    tasks = [{"does": does} for does in ("nothing", "memory", "cpu", "child", "again", "much")]
    given = json.dumps({"tasks": tasks})
    server.cli("run", "job", "measured", "--data", given, "--id", "measured-1", "--wait", code=1)
    return "measured-1"


def attempts(server: Server, execution: str, index: int) -> list[dict[str, float]]:
    with server.http() as http:
        found: list[dict[str, float]] = http.get(f"/jobs/measured/executions/{execution}/tasks/{index}").json()[
            "attempts"
        ]
    return found


def test_the_peak_of_memory_is_that_of_the_attempt(server: Server, execution: str) -> None:
    (nothing,), (memory,) = attempts(server, execution, 0), attempts(server, execution, 1)
    assert 0 < nothing["peakMemoryBytes"] < 20 * MB
    assert 50 * MB < memory["peakMemoryBytes"] < 100 * MB


def test_memory_and_time_of_children_count(server: Server, execution: str) -> None:
    (child,) = attempts(server, execution, 3)
    assert 50 * MB < child["peakMemoryBytes"] < 120 * MB


def test_the_seconds_of_cpu_are_those_of_the_attempt(server: Server, execution: str) -> None:
    (nothing,), (cpu,) = attempts(server, execution, 0), attempts(server, execution, 2)
    assert 0 < nothing["cpuSeconds"] < 0.25
    assert 0.3 <= cpu["cpuSeconds"] < 3


def test_the_command_line_shows_every_attempt(server: Server, execution: str) -> None:
    lines = server.cli("get", "task", f"{execution}/4").splitlines()
    assert lines[1].split()[:3] == ["task-4", "succeeded", "2"]
    first, second = (line.split() for line in lines[-2:])
    assert first[:5] == ["1", "exit_code", "7", "-", "yes"]
    assert second[:5] == ["2", "succeeded", "0", "-", "free"]
    assert "local" in first


def test_a_task_that_outgrew_its_limit_says_limit_and_peak_and_every_attempt_its_own(
    server: Server, execution: str
) -> None:
    with server.http() as http:
        task = http.get(f"/jobs/measured/executions/{execution}/tasks/5").json()
    (condition,) = task["conditions"]
    assert (task["status"], condition["reason"]) == ("failed", "OutOfMemory")
    assert "more than its limit of 256 MB" in condition["message"]
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["out_of_memory"] * 2
    for attempt in task["attempts"]:
        # at its limit where the kernel counts, beyond it where the node looks now and then
        assert attempt["peakMemoryBytes"] > 250 * MB
        assert f"{-(-attempt['peakMemoryBytes'] // MB)} MB" in attempt["message"]
