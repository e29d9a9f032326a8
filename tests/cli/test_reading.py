"""`get`, `results`, `logs`, `cancel` and `delete` over real HTTP."""

import csv
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from .conftest import Ended, Reply, WireServer

ID = "7f3c2a9e-1111-4222-8333-944455556666"
FOUND = "GET /v0/executions/7f3c2a9e"
LOGS = "GET /v0/observability/logs"
RESULTS = f"GET /v0/jobs/etl/executions/{ID}/results"
EXECUTION: dict[str, Any] = {
    "metadata": {"id": ID, "job": "etl", "createdAt": "2026-08-21T10:00:00.5Z"},
    "status": "running",
    "stats": {"total": 3, "running": 1, "success": 1, "failure": 1},
}

Tidemill = Callable[..., Ended]


def page(*items: object, cursor: str = "", total: int = 0) -> Reply:
    return Reply(body={"data": list(items), "meta": {"hasMore": bool(cursor), "nextCursor": cursor, "total": total}})


def job(name: str) -> dict[str, Any]:
    runtime = {"image": f"job/{name}:1", "memory": 512}
    return {"metadata": {"name": name}, "status": "DEPLOYED", "spec": {"runtime": runtime}, "extra": 1}


def test_jobs_are_a_table_in_full_width_without_a_terminal(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs", page(job("a"), job("b" * 49), total=2))
    ended = tidemill("get", "jobs")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["NAME", "STATUS", "IMAGE", "MEMORY", "UPDATED"]
    assert first.split() == ["a", "DEPLOYED", "job/a:1", "512", "MB", "-"]
    assert "b" * 49 in second
    assert "\x1b" not in ended.out


@pytest.mark.parametrize(("form", "read"), [("json", yaml.safe_load), ("yaml", yaml.safe_load)])
def test_json_and_yaml_are_the_servers_objects(
    wire: WireServer, tidemill: Tidemill, form: str, read: Callable[[str], object]
) -> None:
    wire.on("GET /v0/jobs", page(job("a"), total=1))
    assert read(tidemill("get", "jobs", "-o", form).out) == [job("a")]


def test_lists_are_followed_over_their_pages_up_to_the_limit(wire: WireServer, tidemill: Tidemill) -> None:
    pages = [page(job("a"), job("b"), cursor="c1", total=5), page(job("c"), job("d"), cursor="c2", total=5)]
    wire.on("GET /v0/jobs", *pages)
    ended = tidemill("get", "jobs", "--limit", "3", "-o", "json")
    assert [found["metadata"]["name"] for found in ended.json()] == ["a", "b", "c"]
    assert "the first 3 of 5" in ended.err
    assert [seen.query for seen in wire.seen] == [{"limit": "3"}, {"limit": "1", "cursor": "c1"}]


def test_an_execution_is_found_without_its_job(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FOUND, Reply(body=EXECUTION))
    assert ID in tidemill("get", "execution", "7f3c2a9e").out
    assert tidemill("get", "execution", "7f3c2a9e", "-o", "json").json() == EXECUTION


def test_tasks_say_why_they_failed(wire: WireServer, tidemill: Tidemill) -> None:
    conditions = [{"reason": "Timeout", "message": "took longer than 900 s"}]
    tasks = page({"metadata": {"name": "task-3"}, "status": "failed", "conditions": conditions}, total=1)
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e/tasks", tasks)
    ended = tidemill("get", "tasks", "etl", "7f3c2a9e", "--status", "failed")
    assert "took longer than 900 s" in ended.out
    assert wire.seen[0].query["status"] == "failed"


def test_workspaces_are_a_bare_array(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/workspaces", Reply(body=[{"name": "main"}]))
    assert tidemill("get", "workspaces").out.splitlines()[1].split() == ["main", "-", "-"]


def results(wire: WireServer) -> None:
    wire.on(FOUND, Reply(body=EXECUTION))
    lines = (
        b'{"index":0,"status":"succeeded","result":{"score":0.5,"name":"a,b"},"attempts":1}\n'
        b'{"index":1,"status":"failed","result":null,"attempts":2,'
        b'"error":{"reason":"ExitCode","message":"exit code 3"}}\n'
    )
    wire.on(RESULTS, Reply(body=lines, headers={"Content-Type": "application/x-ndjson"}))


def test_results_are_one_object_a_line(wire: WireServer, tidemill: Tidemill) -> None:
    results(wire)
    ended = tidemill("results", "7f3c2a9e")
    assert ended.code == 0
    assert ended.out.splitlines()[0] == (
        '{"index":0,"status":"succeeded","result":{"score":0.5,"name":"a,b"},"attempts":1}'
    )
    assert len(ended.out.splitlines()) == 2


def test_results_of_failed_tasks_only(wire: WireServer, tidemill: Tidemill) -> None:
    results(wire)
    assert [line["index"] for line in tidemill("results", "7f3c2a9e", "--failed", "-o", "json").json()] == [1]


def test_results_as_csv_have_a_column_for_each_member(wire: WireServer, tidemill: Tidemill) -> None:
    results(wire)
    rows = list(csv.DictReader(io.StringIO(tidemill("results", "7f3c2a9e", "-o", "csv").out)))
    assert (rows[0]["score"], rows[0]["name"]) == ("0.5", "a,b")
    assert (rows[1]["status"], rows[1]["reason"], rows[1]["score"]) == ("failed", "ExitCode", "")


def test_results_as_a_table(wire: WireServer, tidemill: Tidemill) -> None:
    results(wire)
    header, _, second = tidemill("results", "7f3c2a9e", "-o", "table").out.splitlines()
    assert header.split() == ["INDEX", "STATUS", "TRIES", "TOOK", "score", "name", "ERROR"]
    assert second.endswith("ExitCode: exit code 3")


def test_no_results_yet_is_said_on_stderr(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(RESULTS.replace(ID, "7f3c2a9e"), Reply(body=b""))
    ended = tidemill("results", "etl", "7f3c2a9e")
    assert (ended.code, ended.out) == (0, "")
    assert "no task has ended yet" in ended.err


def test_results_of_a_job_are_those_of_its_newest_execution(wire: WireServer, tidemill: Tidemill) -> None:
    results(wire)
    wire.on("GET /v0/jobs/etl/executions", page(EXECUTION, cursor="c", total=9))
    ended = tidemill("results", "etl")
    assert len(ended.out.splitlines()) == 2
    assert f"execution {ID} of job etl, the newest" in ended.err


def test_neither_an_execution_nor_a_job_is_the_servers_error(wire: WireServer, tidemill: Tidemill) -> None:
    ended = tidemill("results", "nothing")
    assert (ended.code, ended.err) == (1, "error: no GET /v0/executions/nothing here\n")


def test_followed_results_go_on_where_the_connection_broke(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FOUND, Reply(body=EXECUTION))
    broken = Reply(body=b'{"index":0}\n', cut=True)
    wire.on(RESULTS, broken, Reply(cut=True), Reply(body=b'{"index":0}\n{"index":1}\n'))
    ended = tidemill("results", "7f3c2a9e", "--follow")
    assert ended.out == '{"index":0}\n{"index":1}\n'
    assert ended.err.count("does not answer") == 1


def log(second: int, text: str, severity: int = 9) -> dict[str, object]:
    return {"timestamp": f"2026-08-21T10:00:{second:02}.000000001Z", "message": text, "severity": severity}


def logs(*lines: dict[str, object], total: int = 0) -> Reply:
    return Reply(body={"etl": {"logs": list(lines), "totalCount": total or len(lines)}})


def test_logs_come_oldest_first_with_their_time(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(LOGS, logs(log(2, "two"), log(1, "[one] 1")))
    ended = tidemill("logs", "job", "etl", "--severity", "error,fatal", "--search", "o")
    assert ended.out.splitlines() == [
        "2026-08-21T10:00:01.000000001Z [one] 1",
        "2026-08-21T10:00:02.000000001Z two",
    ]
    query = wire.seen[0].query
    assert (query["severity"], query["search"], query["workloadIds"]) == ("ERROR,FATAL", "o", "etl")


def test_logs_of_an_execution_begin_with_it_however_long_ago(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e", Reply(body=EXECUTION))
    wire.on(LOGS, logs(log(1, "one"), total=2000))
    ended = tidemill("logs", "job", "etl", "7f3c2a9e", "7", "--limit", "1", "-o", "json")
    assert ended.json()["message"] == "one"
    assert "the newest 1 of 2000" in ended.err
    query = wire.seen[-1].query
    assert (query["start"], query["executionId"], query["taskId"]) == ("2026-08-21T10:00:00", "7f3c2a9e", "task-7")


def test_followed_logs_end_after_the_execution_has_and_repeat_nothing(wire: WireServer, tidemill: Tidemill) -> None:
    ended = {**EXECUTION, "status": "succeeded"}
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e", Reply(body=EXECUTION), Reply(body=ended))
    one, two = log(1, "one"), log(2, "two")
    # the last line is found only some looks after the end
    wire.on(LOGS, logs(one), logs(one), logs(one), logs(two, one))
    out = tidemill("logs", "job", "etl", "7f3c2a9e", "--follow").out
    assert [line.split()[1] for line in out.splitlines()] == ["one", "two"]


def test_no_lines_is_said_with_what_to_try(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(LOGS, Reply(body={}))
    ended = tidemill("logs", "job", "etl")
    assert (ended.code, ended.out) == (0, "")
    assert "--period 1d" in ended.err


@pytest.mark.parametrize("words", [("--period", "soon"), ("--severity", "LOUD")])
def test_what_logs_cannot_understand_is_a_usage_error(tidemill: Tidemill, words: tuple[str, ...]) -> None:
    assert tidemill("logs", "job", "etl", *words).code == 2


def test_cancel_finds_the_job_by_the_execution(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FOUND, Reply(body=EXECUTION))
    delete = f"DELETE /v0/jobs/etl/executions/{ID}"
    wire.on(delete, Reply(body={**EXECUTION, "status": "cancelling"}))
    ended = tidemill("cancel", "7f3c2a9e", "--force")
    assert (ended.code, ended.out) == (0, f"{ID}  cancelling: 1 tasks still running\n")
    assert wire.find(delete)[0].query == {"force": "true"}


def test_delete_asks_and_where_nobody_can_answer_it_refuses(
    wire: WireServer, tidemill: Tidemill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert tidemill("delete", "job", "etl").code == 2
    assert wire.seen == []


def test_delete_deletes_each_job_that_is_named(wire: WireServer, tidemill: Tidemill) -> None:
    for name in ("a", "b"):
        wire.on(f"DELETE /v0/jobs/{name}", Reply(body={**job(name), "status": "DELETING"}))
    assert tidemill("delete", "job", "a", "b", "--yes").out == "a: DELETING\nb: DELETING\n"


@pytest.mark.parametrize(
    "words", ["executions etl", "job etl executions", "job etl", "execution 7f3c2a9e", "workspaces", "workspace main"]
)
def test_a_status_that_would_be_ignored_is_a_usage_error(wire: WireServer, tidemill: Tidemill, words: str) -> None:
    ended = tidemill("get", *words.split(), "--status", "failed")
    assert (ended.code, ended.out, wire.seen) == (2, "", [])
    assert ended.err.splitlines()[0].endswith(" has no --status; these have: jobs, tasks")


def test_a_filtered_list_does_not_compare_itself_with_the_whole_one(wire: WireServer, tidemill: Tidemill) -> None:
    failed = {"metadata": {"name": "task-3"}, "status": "failed"}
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e/tasks", page(failed, failed, cursor="c", total=200))
    ended = tidemill("get", "tasks", "etl", "7f3c2a9e", "--status", "failed", "--limit", "2")
    assert "the first 2 matching;" in ended.err


def test_executions_count_what_succeeded_not_what_ended(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs/etl/executions", page(EXECUTION, total=1))
    header, row = tidemill("get", "executions", "etl").out.splitlines()
    assert header.split() == ["ID", "JOB", "STATUS", "TASKS", "RUNNING", "SUCCEEDED", "FAILED", "CREATED", "TOOK"]
    assert row.split()[:7] == [ID, "etl", "running", "3", "1", "1", "1"]


def test_tasks_say_how_often_they_were_tried_and_why_a_result_is_missing(wire: WireServer, tidemill: Tidemill) -> None:
    conditions = [{"reason": "ResultRejected", "message": "not\nJSON"}]
    dropped = {"metadata": {"name": "task-3"}, "status": "succeeded", "attemptCount": 2, "conditions": conditions}
    fine = {"metadata": {"name": "task-4"}, "status": "succeeded", "conditions": []}
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e/tasks", page(dropped, fine, total=2))
    header, first, second = tidemill("get", "tasks", "etl", "7f3c2a9e").out.splitlines()
    assert header.split() == ["TASK", "STATUS", "TRIES", "STARTED", "TOOK", "REASON", "MESSAGE"]
    assert first.split() == ["task-3", "succeeded", "2", "-", "-", "ResultRejected", "not", "JSON"]
    assert second.split() == ["task-4", "succeeded", "-", "-", "-"]
    assert second == second.rstrip()


def test_a_task_is_shown_with_every_attempt(wire: WireServer, tidemill: Tidemill) -> None:
    lost = {"number": 1, "node": "n1", "outcome": "lost", "charged": False, "message": "its node died"}
    live = {"number": 2, "node": "n1", "startedAt": "2026-01-01T00:00:00Z"}
    live |= {"peakMemoryBytes": 52_428_800, "cpuSeconds": 1.234}
    live |= {"protections": {"level": "process", "active": ["landlock"], "missing": []}}
    task = {"metadata": {"name": "task-3"}, "status": "running", "attemptCount": 2, "attempts": [lost, live]}
    wire.on(FOUND, Reply(body=EXECUTION))
    wire.on(f"GET /v0/jobs/etl/executions/{ID}/tasks/3", Reply(body=task))
    ended = tidemill("get", "task", "7f3c2a9e/3")
    assert "attempt 2 ran at level process: landlock\n" in ended.err
    lines = ended.out.splitlines()
    titles = ["ATTEMPT", "OUTCOME", "CODE", "SIGNAL", "COUNTS", "STARTED", "TOOK", "MEMORY", "CPU", "NODE", "MESSAGE"]
    assert lines[2].split() == titles
    assert lines[3].split() == ["1", "lost", "-", "-", "free", "-", "-", "-", "-", "n1", "its", "node", "died"]
    assert lines[4].split()[:2] == ["2", "running"]
    assert "50 MB" in lines[4]
    assert "1.23 s" in lines[4]
    assert tidemill("get", "task", "7f3c2a9e/3", "-o", "json").json() == task


def test_a_task_of_very_many_attempts_says_how_many_are_not_shown(wire: WireServer, tidemill: Tidemill) -> None:
    task = {"metadata": {"name": "task-3"}, "status": "running", "attemptCount": 9, "attempts": [{"number": 9}]}
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e/tasks/task-3", Reply(body=task))
    assert "the newest 1 of 9 attempts" in tidemill("get", "task", "etl", "7f3c2a9e/task-3").err


def on_a_terminal(wire: WireServer, *words: str) -> list[str]:
    """The lines that a terminal of 80 columns gets, without their colours."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tidemill.main", *words, "--url", wire.url, "--api-key", "k"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=variables,
    ) as process:
        os.close(theirs)
        text = b""
        while chunk := read_terminal(ours):
            text += chunk
        os.close(ours)
        assert process.wait(timeout=20) == 0
    return text.decode().splitlines()


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        # EIO: the other side is closed
        return b""


def test_on_a_terminal_ids_are_short_and_states_and_numbers_whole(wire: WireServer) -> None:
    metadata = {**EXECUTION["metadata"], "job": "a-job-of-a-rather-long-name", "startedAt": "2026-08-21T10:00:00.5Z"}
    stats = {"total": 1000000, "running": 1000, "success": 900000, "failure": 90000}
    own = {**metadata, "id": "sweep-demo-1", "completedAt": "2026-08-21T13:10:00.5Z"}
    rows = [{"metadata": {**own, "id": ID}, "status": "cancelling", "stats": stats}]
    wire.on("GET /v0/jobs/etl/executions", page(*rows, total=1))
    header, row = on_a_terminal(wire, "get", "executions", "etl")
    assert header.split() == ["ID", "STATUS", "TASKS", "RUNNING", "SUCCEEDED", "FAILED", "CREATED", "TOOK"]
    assert row.split()[:6] == ["7f3c2a9e", "cancelling", "1000000", "1000", "900000", "90000"]
    assert row.endswith("3 h 10 min")
    assert max(len(header), len(row)) <= 80
    rows[0]["metadata"] = own
    wire.on("GET /v0/jobs/etl/executions", page(*rows, total=1))
    assert on_a_terminal(wire, "get", "executions", "etl")[1].startswith("sweep-demo-1")


def test_on_a_terminal_only_the_message_of_a_task_is_cut(wire: WireServer) -> None:
    conditions = [{"reason": "OutOfMemory", "message": "it had " + "far " * 30 + "too little"}]
    metadata = {"name": "task-100000", "startedAt": "2026-08-21T10:00:00Z", "completedAt": "2026-08-21T13:10:00Z"}
    task = {"metadata": metadata, "status": "failed", "attemptCount": 3, "conditions": conditions}
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e/tasks", page(task, total=1))
    _, row = on_a_terminal(wire, "get", "tasks", "etl", "7f3c2a9e")
    assert row.split()[:3] == ["task-100000", "failed", "3"]
    assert "3 h 10 min  OutOfMemory  it had" in row
    assert row.endswith("…")
    assert len(row) <= 80


def test_lines_say_whose_they_are_where_that_is_not_clear(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs/etl/executions/7f3c2a9e", Reply(body=EXECUTION))
    one = {**log(1, "one"), "task": "task-4", "attempt": 1, "stream": "stdout"}
    two = {**log(2, "two"), "task": "task-4", "attempt": 2, "stream": "stderr"}
    build = {**log(3, "built"), "attempt": 1, "stream": "stdout"}
    wire.on(LOGS, logs(build, two, one))

    def texts(*words: str) -> list[str]:
        return [line.partition(" ")[2] for line in tidemill("logs", "job", "etl", *words).out.splitlines()]

    assert texts() == ["task-4 │ one", "task-4#2 │ two", "built"]
    assert texts("7f3c2a9e") == ["task-4 │ one", "task-4#2 │ two", "built"]
    wire.on(LOGS, logs(two, one))
    assert texts("7f3c2a9e", "4") == ["one", "#2 │ two"]
    wire.on(LOGS, logs(two))
    assert tidemill("logs", "job", "etl", "-o", "json").json() == two


@pytest.mark.parametrize("words", ["get tasks", "get execution", "cancel"])
def test_a_job_where_an_execution_is_wanted_is_told_so(wire: WireServer, tidemill: Tidemill, words: str) -> None:
    wire.on("GET /v0/jobs/weather", Reply(body=job("weather")))
    ended = tidemill(*words.split(), "weather")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "error: 'weather' is a job: which of its executions?",
        f"  tidemill {words} weather ID",
        "  the ids:  tidemill get executions weather",
    ]
    assert wire.lines() == ["GET /v0/executions/weather", "GET /v0/jobs/weather"]


@pytest.mark.parametrize("words", ["get tasks", "get execution", "cancel"])
def test_neither_a_job_nor_an_execution_is_the_servers_own_answer(
    wire: WireServer, tidemill: Tidemill, words: str
) -> None:
    ended = tidemill(*words.split(), "nothing")
    assert (ended.code, ended.err) == (1, "error: no GET /v0/executions/nothing here\n")


class Typed(io.StringIO):
    """A person at a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_is_not_there_is_said_before_the_question(
    wire: WireServer, tidemill: Tidemill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Typed("y\n"))
    ended = tidemill("delete", "job", "missing")
    assert (ended.code, ended.err) == (1, "error: no GET /v0/jobs/missing here\n")
    wire.on("GET /v0/jobs/etl", Reply(body=job("etl")))
    wire.on("DELETE /v0/jobs/etl", Reply(body={**job("etl"), "status": "DELETING"}))
    assert tidemill("delete", "job", "etl").out == "etl: DELETING\n"
    monkeypatch.setattr("sys.stdin", Typed("n\n"))
    ended = tidemill("delete", "job", "etl")
    assert (ended.code, ended.out) == (1, "")
    assert len(wire.find("DELETE /v0/jobs/etl")) == 1
