"""`tidemill why` over real HTTP."""

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Ended, Reply, WireServer

ID = "7f3c2a9e-1111-4222-8333-944455556666"
EXPLAIN = f"GET /v0/jobs/etl/executions/{ID}/explain"
FOUND = Reply(body={"metadata": {"id": ID, "job": "etl"}, "status": "running"})
WAITS: dict[str, Any] = {
    "summary": "8 tasks wait because 2 tasks of the execution run and maxConcurrentTasks is 2.",
    "reason": "execution_tasks",
    "cap": "maxConcurrentTasks",
    "limit": 2,
    "holders": [f"{ID}/0", f"{ID}/1"],
}

Tidemill = Callable[..., Ended]


def test_an_id_alone_is_answered_with_one_sentence(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/executions/7f3c2a9e", FOUND)
    wire.on(EXPLAIN, Reply(body=WAITS))
    ended = tidemill("why", "7f3c2a9e")
    assert (ended.code, ended.out, ended.err) == (0, f"{WAITS['summary']}\n", "")
    assert wire.find(EXPLAIN)[0].query == {}


@pytest.mark.parametrize("words", [(f"{ID}/5",), ("etl", f"{ID}/5"), ("etl", f"{ID}/task-5")])
def test_a_task_is_named_behind_a_slash(wire: WireServer, tidemill: Tidemill, words: tuple[str, ...]) -> None:
    wire.on(f"GET /v0/executions/{ID}", FOUND)
    wire.on(EXPLAIN, Reply(body=WAITS))
    assert tidemill("why", *words).code == 0
    assert wire.find(EXPLAIN)[0].query["task"] in {"5", "task-5"}


def test_json_is_the_servers_object(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(EXPLAIN, Reply(body=WAITS))
    assert tidemill("why", "etl", ID, "-o", "json").json() == WAITS


def test_a_failure_is_told_with_what_may_be_typed_next(wire: WireServer, tidemill: Tidemill) -> None:
    body = {"summary": "It failed.", "reason": "failed", "failures": [{"reason": "ExitCode", "firstIndex": 4}]}
    wire.on(EXPLAIN, Reply(body=body))
    ended = tidemill("why", "etl", ID)
    assert ended.out == "It failed.\n"
    assert "tidemill get task etl 7f3c2a9e/4" in ended.err
    assert "tidemill rerun 7f3c2a9e --not-succeeded" in ended.err
    wire.on(EXPLAIN, Reply(body={"summary": "Task 4 failed.", "reason": "failed"}))
    assert "tidemill logs job etl 7f3c2a9e 4" in tidemill("why", "etl", f"{ID}/4").err


def test_what_ran_out_of_time_without_a_failure_is_run_again_by_words_that_name_its_tasks(
    wire: WireServer, tidemill: Tidemill
) -> None:
    wire.on(EXPLAIN, Reply(body={"summary": "The execution ran out of its 2 s.", "reason": "failed"}))
    ended = tidemill("why", "etl", ID)
    # its tasks are cancelled: --failed would name none of them, and be refused
    assert "tidemill rerun 7f3c2a9e --not-succeeded" in ended.err


@pytest.mark.parametrize("word", ["/5", f"{ID}/", f"{ID}/1/2"])
def test_a_word_that_names_no_task_is_a_usage_error(wire: WireServer, tidemill: Tidemill, word: str) -> None:
    ended = tidemill("why", "etl", word)
    assert ended.code == 2
    assert "ID/TASK" in ended.err
    assert wire.seen == []


def test_a_job_alone_is_asked_for_its_execution(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs/etl", Reply(body={"metadata": {"name": "etl"}}))
    ended = tidemill("why", "etl")
    assert ended.code == 2
    assert "tidemill why etl ID" in ended.err


def test_a_task_is_told_with_what_its_attempt_ran_with(wire: WireServer, tidemill: Tidemill) -> None:
    had = {"level": "process", "active": ["seccomp", "pids"], "missing": ["memory", "cpu"]}
    had["by"] = {"pids": "cgroup v1", "memory": "watched"}  # type: ignore[assignment]
    wire.on(EXPLAIN, Reply(body={"summary": "Task 4 runs.", "reason": "running", "protections": had}))
    ended = tidemill("why", "etl", f"{ID}/4")
    assert ended.out == "Task 4 runs.\n"
    assert ended.err == (
        "its newest attempt ran at level process: seccomp, pids (cgroup v1); without memory (watched), cpu\n"
    )
    wire.on(EXPLAIN, Reply(body={"summary": "Task 4 runs.", "reason": "running", "protections": {"active": []}}))
    assert tidemill("why", "etl", f"{ID}/4").err == "its newest attempt ran at level unknown: nothing\n"
