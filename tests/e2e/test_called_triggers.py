"""Triggers that are called on a real server, by clients that wait, hang up, or come back after a kill."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.drive import Server, until

ECHO = 'cat "$TIDEMILL_TASK_FILE" > "$TIDEMILL_RESULT_FILE"'
SLEEP = "sleep 600 & wait\n"


def triggers(server: Server, name: str, *kept: dict[str, Any]) -> None:
    with server.http() as http:
        answer = http.put(f"/jobs/{name}", json={"spec": {"triggers": kept}})
        assert answer.status_code == 200, answer.text


def deploy(server: Server, folder: Path) -> None:
    server.cli("deploy", str(folder))


def called(kind: str, **configuration: Any) -> dict[str, Any]:
    return {"id": kind, "type": kind, "configuration": configuration}


def call(server: Server, path: str, body: object, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{server.url}/default/jobs/{path}", json=body, headers=headers, timeout=60)


def shown(server: Server, execution: str) -> dict[str, Any]:
    with server.http() as http:
        found: dict[str, Any] = http.get(f"/executions/{execution}").json()
        return found


@pytest.fixture(scope="module")
def jobs(server: Server, job_folder: Callable[..., Path]) -> Server:
    deploy(server, job_folder("echo", ECHO))
    triggers(server, "echo", called("http", path="/ask", authenticationType="public"))
    deploy(server, job_folder("sleep", SLEEP))
    triggers(server, "sleep", called("http", authenticationType="public"), called("http-async", timeout=2))
    return server


def test_a_stranger_asks_and_is_answered_with_results(jobs: Server) -> None:
    answer = call(jobs, "echo/ask", {"text": "höre"})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["status"] == "succeeded"
    assert [(each["index"], each["result"]) for each in document["results"]] == [(0, {"text": "höre"})]


def made(server: Server, job: str) -> str:
    """The newest execution of a job; empty while there is none."""
    with server.http() as http:
        found = http.get(f"/jobs/{job}/executions?limit=1").json()
    page: list[dict[str, Any]] = found["data"] if isinstance(found, dict) else found
    return str(page[0]["metadata"]["id"]) if page else ""


def test_who_hangs_up_cancels_nothing(jobs: Server) -> None:
    where = urlsplit(jobs.url)
    assert where.hostname is not None
    assert where.port is not None
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        body = json.dumps({"tasks": [{}]}).encode()
        head = f"POST /default/jobs/sleep HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        execution = until(lambda: made(jobs, "sleep"))
        until(lambda: shown(jobs, execution).get("status") == "running")
    until(jobs.tasks)
    # several times as long as the server takes to see that nobody waits any more
    until(lambda: call(jobs, "echo/ask", {}).status_code == 200)
    assert shown(jobs, execution)["status"] == "running"
    with jobs.http() as http:
        assert http.delete(f"/jobs/sleep/executions/{execution}?force=true").status_code == 200
    until(lambda: shown(jobs, execution)["status"] == "cancelled")


def test_a_timeout_ends_the_processes(jobs: Server) -> None:
    key = {"Authorization": f"Bearer {jobs.credentials['BL_API_KEY']}"}
    answer = call(jobs, "sleep?async=true", {"tasks": [{}, {}]}, **key)
    assert answer.json()["success"] is True, answer.text
    execution = answer.json()["executionId"]
    until(jobs.tasks)
    until(lambda: shown(jobs, execution)["status"] == "failed")
    assert not jobs.tasks()
    found = shown(jobs, execution)
    assert found["stats"]["cancelled"] == 2
    assert {task["conditions"][0]["reason"] for task in found["tasks"]} == {"Timeout"}


def test_a_call_survives_kill_9_once_it_is_answered(fresh: Server, job_folder: Callable[..., Path]) -> None:
    deploy(fresh, job_folder("echo", ECHO))
    triggers(fresh, "echo", called("http-async", authenticationType="public"))
    answers = [call(fresh, "echo?async=true", {"n": number}) for number in range(20)]
    fresh.kill()
    assert {answer.status_code for answer in answers} == {200}
    fresh.start()
    for number, answer in enumerate(answers):
        execution = answer.json()["executionId"]
        until(lambda execution=execution: shown(fresh, execution)["status"] == "succeeded")  # type: ignore[misc]
        with fresh.http() as http:
            (line,) = http.get(f"/jobs/echo/executions/{execution}/results").text.splitlines()
        assert json.loads(line)["result"] == {"n": number}
