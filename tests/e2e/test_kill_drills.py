"""Nothing is lost: kill -9 of the server, kill -9 of the node, SIGTERM, `tidemill stop`, each under running tasks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import pytest

from tests.e2e.drive import TIDEMILL, Server, until

SLEEPER = """
task=$(cat "$TIDEMILL_TASK_FILE")
echo "begin $TASK_INDEX attempt $TIDEMILL_ATTEMPT"
[ "$TIDEMILL_ATTEMPT" -gt 1 ] || sleep "$SECONDS_EACH"
printf '{"arguments": %s, "attempt": %s}' "$task" "$TIDEMILL_ATTEMPT" > "$TIDEMILL_RESULT_FILE"
echo "end $TASK_INDEX"
"""
FETCHES_LATE = f"""
sleep "$SECONDS_EACH"
{sys.executable} - <<'PY'
import json, os, urllib.request
with urllib.request.urlopen(os.environ["BL_EXECUTION_DATA_URL"]) as answer:
    own = json.load(answer)["tasks"][int(os.environ[os.environ["BL_TASK_KEY"]])]
with open(os.environ["TIDEMILL_RESULT_FILE"], "w") as result:
    json.dump({{"arguments": own, "attempt": int(os.environ["TIDEMILL_ATTEMPT"])}}, result)
PY
"""


class Execution(TypedDict):
    """What these tests read of an execution."""

    status: str
    stats: dict[str, int]


def execution(server: Server, job: str, execution_id: str) -> Execution:
    with server.http() as http:
        answer = http.get(f"/jobs/{job}/executions/{execution_id}")
        assert answer.status_code == 200, answer.text
        found: Execution = answer.json()
        return found


def start(server: Server, job: str, tasks: int, seconds: float) -> str:
    with server.http() as http:
        body = {"tasks": [{"n": n, "text": f"task {n}"} for n in range(tasks)], "env": {"SECONDS_EACH": str(seconds)}}
        answer = http.post(f"/jobs/{job}/executions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["executionId"])


def ended(server: Server, job: str, execution_id: str) -> Callable[[], bool]:
    return lambda: execution(server, job, execution_id)["status"] in {"succeeded", "failed", "cancelled"}


def more_than(server: Server, job: str, execution_id: str, done: int) -> Callable[[], int]:
    """How many tasks have succeeded, once that is more than ``done``; 0 until then."""

    def look() -> int:
        now = execution(server, job, execution_id)["stats"]["success"]
        return now if now > done else 0

    return look


def results(server: Server, job: str, execution_id: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.cli("results", job, execution_id).splitlines()]


def own_arguments(lines: list[dict[str, object]]) -> bool:
    for line in lines:
        result = line["result"]
        assert isinstance(result, dict)
        assert result["arguments"] == {"n": line["index"], "text": f"task {line['index']}"}
    return True


@pytest.fixture
def deployed(fresh: Server, job_folder: Callable[..., Path]) -> Server:
    fresh.cli("deploy", str(job_folder("sleeper", SLEEPER, memory=64, maxConcurrentTasks=4)))
    fresh.cli("deploy", str(job_folder("fetcher", FETCHES_LATE, memory=256, maxConcurrentTasks=4)))
    return fresh


def test_kill_9_of_the_server_loses_no_task_and_runs_none_twice(deployed: Server) -> None:
    execution_id = start(deployed, "fetcher", tasks=12, seconds=1)
    until(lambda: execution(deployed, "fetcher", execution_id)["stats"]["success"] >= 2)
    node = deployed.node_pid
    deployed.kill()
    # ten seconds of nothing: the four that the node holds end by themselves, with arguments the node serves
    until(lambda: not deployed.tasks(), seconds=20)
    deployed.start()
    assert deployed.node_pid == node
    until(ended(deployed, "fetcher", execution_id), seconds=60)
    said = execution(deployed, "fetcher", execution_id)
    assert said["status"] == "succeeded"
    assert said["stats"] == {"total": 12, "running": 0, "success": 12, "failure": 0, "retried": 0, "cancelled": 0}
    lines = results(deployed, "fetcher", execution_id)
    assert [line["index"] for line in lines] == list(range(12))
    assert own_arguments(lines)
    assert all(line["attempts"] == 1 for line in lines)


def test_kill_9_of_the_node_runs_its_tasks_again_without_spending_a_retry(deployed: Server) -> None:
    execution_id = start(deployed, "sleeper", tasks=8, seconds=2)
    until(lambda: execution(deployed, "sleeper", execution_id)["stats"]["success"] >= 4)
    until(lambda: execution(deployed, "sleeper", execution_id)["stats"]["running"] == 4)
    until(lambda: len(deployed.tasks()) >= 4)
    node = deployed.node_pid
    os.kill(node, signal.SIGKILL)
    until(lambda: deployed.node_pid != node, seconds=60)
    until(ended(deployed, "sleeper", execution_id), seconds=60)
    said = execution(deployed, "sleeper", execution_id)
    assert said["status"] == "succeeded"
    assert said["stats"] == {"total": 8, "running": 0, "success": 8, "failure": 0, "retried": 0, "cancelled": 0}
    lines = results(deployed, "sleeper", execution_id)
    assert own_arguments(lines)
    attempts = [line["attempts"] for line in lines]
    assert attempts[:4] == [1] * 4  # what was journaled counts
    assert attempts[4:] == [2] * 4  # what ran died with the node, and ran again


def test_sigterm_leaves_the_node_at_work_and_says_so(deployed: Server) -> None:
    execution_id = start(deployed, "sleeper", tasks=4, seconds=4)
    until(lambda: execution(deployed, "sleeper", execution_id)["stats"]["running"] == 4)
    until(lambda: len(deployed.tasks()) >= 4)
    node = deployed.node_pid
    last = deployed.terminate().splitlines()[-1]
    assert last == f"node {node} goes on with 4 tasks; tidemill stop ends them"
    deployed.start()
    until(ended(deployed, "sleeper", execution_id), seconds=60)
    assert execution(deployed, "sleeper", execution_id)["stats"]["success"] == 4
    assert [line["attempts"] for line in results(deployed, "sleeper", execution_id)] == [1] * 4


def test_stop_ends_everything_and_the_next_start_runs_it_again(deployed: Server) -> None:
    # none ends before the stop, however busy the machine is; what runs again takes no time
    execution_id = start(deployed, "sleeper", tasks=4, seconds=300)
    until(lambda: len(deployed.tasks()) >= 4)
    deployed.stop()
    assert deployed.ours() == []
    deployed.start()
    until(ended(deployed, "sleeper", execution_id), seconds=60)
    said = execution(deployed, "sleeper", execution_id)
    assert said["stats"] == {"total": 4, "running": 0, "success": 4, "failure": 0, "retried": 0, "cancelled": 0}
    assert [line["attempts"] for line in results(deployed, "sleeper", execution_id)] == [2] * 4


def test_an_idle_server_takes_its_node_along_when_it_ends(fresh: Server) -> None:
    until((fresh.data / "node.json").is_file)
    fresh.terminate()
    until(lambda: fresh.ours() == [], seconds=20)


def test_a_second_server_on_the_same_data_directory_is_refused(fresh: Server) -> None:
    done = subprocess.run(
        [str(TIDEMILL), "server", "--port", "0", "--data-dir", str(fresh.data)],
        env=fresh.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "another server" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_ledger_holds_after_a_drill(deployed: Server) -> None:
    execution_id = start(deployed, "sleeper", tasks=30, seconds=0.2)
    done = 0
    for _ in range(3):
        done = until(more_than(deployed, "sleeper", execution_id, done))
        deployed.kill()
        deployed.start()
    until(ended(deployed, "sleeper", execution_id), seconds=90)
    assert execution(deployed, "sleeper", execution_id)["stats"]["success"] == 30
    deployed.terminate()
    assert "no violation" in deployed.cli("doctor", "--ledger")
    deployed.start()


def test_a_server_that_cannot_say_it_is_ready_ends_whole(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    with Path("/dev/full").open("w") as full:
        words = [str(TIDEMILL), "server", "--port", "0", "--data-dir", str(server.data)]
        done = subprocess.run(
            words, env=server.environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    until(lambda: server.ours() == [])


def test_a_start_clears_what_a_killed_server_has_left(fresh: Server) -> None:
    fresh.kill()
    card, cut_short = fresh.data / "server.json", fresh.data / "arrivals" / "upload-cut-short"
    cut_short.write_bytes(b"half of an archive")
    innocent = subprocess.Popen(["sleep", "60"])
    card.write_text(json.dumps({"pid": innocent.pid, "url": fresh.url}))
    fresh.start()
    assert fresh.process is not None
    assert json.loads(card.read_text())["pid"] == fresh.process.pid
    assert not cut_short.exists()
    fresh.stop()
    assert not card.exists()
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait(10)
