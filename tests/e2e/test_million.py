"""A million tasks in one request: accepted, listed, run, cancelled, by a server that stays small."""

from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.e2e.drive import Server, until

TASKS: Final = 1_000_000
PATH: Final = "/jobs/true/executions"
MOST_MB: Final = 400
TRUE_JOB: Final = """type = "job"
name = "true"
[entrypoint]
prod = "/bin/true"
[runtime]
memory = 16
maxConcurrentTasks = 8
"""


def peak_mb(server: Server) -> float:
    """The most memory that the server's process ever had, as the kernel says."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def get(http: httpx2.Client, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(page: Any) -> list[str]:
    return [task["metadata"]["name"] for task in page["data"]]


@pytest.mark.timeout(300)
def test_a_million_tasks_are_accepted_listed_and_cancelled_by_a_server_under_400_mb(
    fresh: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "true"
    folder.mkdir()
    (folder / "blaxel.toml").write_text(TRUE_JOB)
    fresh.cli("deploy", str(folder))
    body = b'{"tasks":[' + b",".join(b'{"n":%d}' % number for number in range(TASKS)) + b"]}"
    with fresh.http() as http:
        answer = http.post(PATH, content=body, timeout=120)
        assert answer.status_code == 200, answer.text
        path = f"{PATH}/{answer.json()['executionId']}"
        until(lambda: get(http, path)["stats"]["success"] > 20, seconds=60)
        _look(http, path)
        cancelled = http.delete(f"{path}?force=true").json()
        assert cancelled["status"] in {"cancelling", "cancelled"}
        until(lambda: get(http, path)["status"] == "cancelled", seconds=60)
        stats = get(http, path)["stats"]
        assert stats["success"] + stats["cancelled"] == stats["total"] == TASKS
        page = get(http, f"{path}/tasks?status=cancelled&sort=name:desc&limit=200")
        assert names(page) == [f"task-{TASKS - 1 - place}" for place in range(200)]
        assert peak_mb(fresh) < MOST_MB
    fresh.stop()
    fresh.cli("doctor", "--ledger")


def _look(http: httpx2.Client, path: str) -> None:
    """At what is shown while it runs: page by page from either end, and what filters find."""
    execution = get(http, path)
    assert execution["stats"]["total"] == TASKS
    assert len(execution["tasks"]) == 1_000
    for sort, expected in (("asc", range(400)), ("desc", range(TASKS - 1, TASKS - 401, -1))):
        first = get(http, f"{path}/tasks?limit=200&sort=name:{sort}")
        rest = get(http, f"{path}/tasks?limit=200&sort=name:{sort}&cursor={first['meta']['nextCursor']}")
        assert names(first) + names(rest) == [f"task-{index}" for index in expected]
        assert first["meta"]["total"] == TASKS
    found = get(http, f"{path}/tasks?q=99999&limit=200")
    assert names(found) == [
        f"task-{n}" for n in (99_999, *(100_000 * n + 99_999 for n in range(1, 9)), *range(999_990, TASKS))
    ]
    pending = get(http, f"{path}/tasks?status=pending&sort=name:desc")
    assert names(pending)[0] == f"task-{TASKS - 1}"
    assert get(http, f"{path}/tasks?status=failed")["data"] == []
