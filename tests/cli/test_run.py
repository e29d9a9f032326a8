"""`tidemill run job` over real HTTP."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ended, Reply, WireServer

ID = "7f3c2a9e-1111-4222-8333-944455556666"
EVENTS = "GET /v0/events"
POST = "POST /v0/jobs/etl/executions"
GET = f"GET /v0/jobs/etl/executions/{ID}"
TASKS = f"{GET}/tasks"
CREATED = Reply(body={"executionId": ID, "jobId": "etl"})
# a suite that a script runs in the background has SIGINT ignored, and what it starts would inherit that
COMMAND = ("env", "--default-signal=INT", sys.executable, "-m", "tidemill.main")

Tidemill = Callable[..., Ended]


class Stdin:
    """What a test types or pipes: text for the question, bytes for the inputs."""

    def __init__(self, raw: bytes) -> None:
        self.buffer = io.BytesIO(raw)


def execution(status: str, **stats: int) -> Reply:
    metadata = {"id": ID, "job": "etl", "createdAt": "2026-08-21T10:00:00Z", "completedAt": "2026-08-21T10:00:12Z"}
    return Reply(body={"metadata": metadata, "status": status, "stats": {"total": 4, **stats}})


def test_without_wait_the_id_is_all_of_stdout_and_the_next_step_is_said(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    ended = tidemill("run", "job", "etl", "--data", '[{"n":1}]', "--env", "A=1", "-e", "B=2", "--memory", "64")
    assert ended.code == 0
    assert ended.out == f"{ID}\n"
    assert "tidemill results 7f3c2a9e" in ended.err
    assert json.loads(wire.seen[0].body) == {"tasks": [{"n": 1}], "env": {"A": "1", "B": "2"}, "memory": 64}
    assert wire.seen[0].headers["content-type"] == "application/json"


def test_without_inputs_the_body_is_empty(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    assert tidemill("run", "job", "etl", "-o", "json").json()["executionId"] == ID
    assert wire.seen[0].body == b""


def test_wait_shows_the_way_and_ends_well_when_all_succeeded(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("pending"), execution("running", running=2, success=1), execution("succeeded", success=4))
    ended = tidemill("run", "job", "etl", "--wait")
    assert ended.code == 0
    assert ended.out.splitlines() == [ID, "succeeded: 4 of 4 tasks succeeded in 12 s"]
    assert "4/4 done" in ended.err


def test_wait_ends_with_1_and_names_the_first_failures(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("failed", success=1, failure=3))
    condition = {"type": "Failed", "state": "True", "reason": "ExitCode", "message": "exit code 3"}
    failed = [{"metadata": {"name": f"task-{n}"}, "status": "failed", "conditions": [condition]} for n in (1, 2)]
    wire.on(TASKS, Reply(body={"data": failed, "meta": {"hasMore": True, "nextCursor": "c", "total": 3}}))
    ended = tidemill("run", "job", "etl", "--wait")
    assert ended.code == 1
    assert "task-1  ExitCode  exit code 3" in ended.out
    assert "and 1 more: tidemill results 7f3c2a9e --failed" in ended.out
    assert "tidemill logs job etl 7f3c2a9e task-1" in ended.err
    assert "error" not in ended.err
    assert wire.find(TASKS)[0].query["status"] == "failed"


def test_a_cancelled_execution_is_no_success(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("cancelled", cancelled=4))
    ended = tidemill("run", "job", "etl", "--wait", "-o", "json")
    assert ended.code == 1
    assert ended.json()["status"] == "cancelled"


def test_wait_sleeps_until_the_server_says_that_something_happened(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("running", running=4), execution("running", running=4), execution("succeeded", success=4))
    told = [Reply(body={"events": [], "next": number, "more": False}) for number in (7, 8, 9)]
    wire.on(EVENTS, *told)
    assert tidemill("run", "job", "etl", "--wait").code == 0
    assert wire.lines()[1:] == [EVENTS, GET, EVENTS, GET, EVENTS, GET]
    begun, first, second = (seen.query for seen in wire.find(EVENTS))
    assert "wait" not in begun
    assert begun["after"] == "newest"
    assert (first["after"], second["after"]) == ("7", "8")
    assert (first["execution"], first["tasks"]) == (ID, "false")
    assert int(first["wait"]) >= 1


def test_wait_goes_on_when_events_were_swept_meanwhile(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("running", running=4), execution("running", running=4), execution("succeeded", success=4))
    page = Reply(body={"events": [], "next": 7, "more": False})
    gone = Reply(status=410, body={"code": 410, "error": "Gone", "error_code": "GONE", "message": "no longer kept"})
    wire.on(EVENTS, page, gone, page)
    assert tidemill("run", "job", "etl", "--wait").code == 0
    assert [seen.query["after"] for seen in wire.find(EVENTS)] == ["newest", "7", "newest"]


def test_wait_survives_a_server_that_is_away(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    away = [Reply(cut=True)] * 4
    wire.on(GET, execution("running", running=1), *away, execution("succeeded", success=4))
    ended = tidemill("run", "job", "etl", "--wait")
    assert ended.code == 0
    assert ended.err.count("does not answer") == 1
    assert "the server is back" in ended.err


def test_what_the_server_refuses_is_one_line_and_exit_code_1(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, Reply(status=404, body={"code": 404, "error": "not found", "message": 'no job "etl" in "main"'}))
    ended = tidemill("run", "job", "etl")
    assert (ended.code, ended.out, ended.err) == (1, "", 'error: no job "etl" in "main"\n')


def test_two_kinds_of_input_are_a_usage_error_before_any_request(
    wire: WireServer, tidemill: Tidemill, tmp_path: Path
) -> None:
    ended = tidemill("run", "job", "etl", "--data", "{}", "--file", str(tmp_path / "x.json"))
    assert ended.code == 2
    assert wire.seen == []


def test_ctrl_c_ends_whatever_has_no_more_to_say_without_a_traceback(wire: WireServer) -> None:
    wire.on("GET /v0/observability/logs", Reply(body={}))
    words = ["logs", "job", "etl", "--follow", "--url", wire.url, "--api-key", "k"]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    wire.wait_for("GET /v0/observability/logs")
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""


def test_ctrl_c_leaves_the_execution_alone_and_says_how_to_cancel_it(wire: WireServer) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("running", running=1))
    words = ["run", "job", "etl", "--wait", "--url", wire.url, "--api-key", "k"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wire.wait_for(GET)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"execution {ID} goes on" in err
    assert "tidemill cancel etl 7f3c2a9e" in err
    assert "Traceback" not in err
    assert not wire.find(f"DELETE /v0/jobs/etl/executions/{ID}")


@pytest.mark.parametrize("words", [("--file", "-"), ("-f", "-"), ("--file=-",)])
def test_a_dash_is_stdin(
    wire: WireServer, tidemill: Tidemill, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    wire.on(POST, CREATED)
    monkeypatch.setattr("sys.stdin", Stdin(b'{"n":1}\n{"n":2}\n'))
    assert tidemill("run", "job", "etl", *words).code == 0
    assert json.loads(wire.seen[0].body) == {"tasks": [{"n": 1}, {"n": 2}]}


def test_the_last_line_of_the_progress_has_the_average_of_the_run(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    wire.on(GET, execution("running", success=1), execution("succeeded", success=4))
    last = tidemill("run", "job", "etl", "--wait").err.splitlines()[1]
    assert last == "4/4 done  0 running  0 failed  0.3/s on average"


def test_a_success_whose_result_was_dropped_is_counted(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    ended = execution("succeeded", success=4)
    dropped = {"type": "ResultRejected", "reason": "ResultRejected", "message": "not JSON"}
    tasks = [{"metadata": {"name": f"task-{n}"}, "status": "succeeded", "conditions": [dropped]} for n in (1, 3)]
    fine = {"metadata": {"name": "task-0"}, "status": "succeeded", "conditions": []}
    ended.body["tasks"] = [fine, *tasks]
    wire.on(GET, ended)
    out = tidemill("run", "job", "etl", "--wait").out
    assert out.splitlines()[-1] == "  at least 2 results dropped, first that of task-1  ResultRejected  not JSON"
    ended.body["tasks"] = [fine, fine, fine, tasks[0]]
    out = tidemill("run", "job", "etl", "--wait").out
    assert out.splitlines()[-1] == "  1 result dropped, that of task-1  ResultRejected  not JSON"
