"""`get triggers` and `fire` over real HTTP."""

from collections.abc import Callable
from typing import Any

from .conftest import Ended, Reply, WireServer

ID = "7f3c2a9e-1111-4222-8333-944455556666"
FIRE = "POST /v0/jobs/etl/triggers/nightly/fire"
NIGHTLY: dict[str, Any] = {
    "id": "nightly",
    "type": "cron",
    "enabled": True,
    "configuration": {"schedule": "0 3 * * *", "timezone": "Europe/Berlin"},
    "nextRuns": ["2999-06-01T01:00:00Z"],
    "lastRun": {"dueAt": "2026-06-01T01:00:00Z", "outcome": "fired", "executionId": ID, "status": "failed"},
}
HOOK: dict[str, Any] = {
    "id": "hook",
    "type": "http",
    "enabled": False,
    "configuration": {"path": "/in"},
    "nextRuns": [],
}
SKIPPED: dict[str, Any] = {
    **NIGHTLY,
    "id": "skipped",
    "lastRun": {"dueAt": "2026-06-01T01:00:00Z", "outcome": "skipped", "reason": "Overlap"},
}

Tidemill = Callable[..., Ended]


def test_triggers_are_a_table_that_says_when_and_what_became_of_the_last(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/jobs/etl/triggers", Reply(body=[NIGHTLY, HOOK, SKIPPED]))
    header, nightly, hook, skipped = tidemill("get", "triggers", "etl").out.splitlines()
    assert header.split() == ["ID", "TYPE", "ENABLED", "WHEN", "NEXT", "LAST", "OUTCOME"]
    assert nightly.startswith("nightly")
    assert "0 3 * * * (Europe/Berlin)" in nightly
    assert nightly.endswith("failed 7f3c2a9e")
    assert " in " in nightly
    assert hook.split() == ["hook", "http", "no", "/in", "-", "-", "-"]
    assert skipped.endswith("Overlap")
    assert tidemill("get", "triggers", "etl", "-o", "json").json() == [NIGHTLY, HOOK, SKIPPED]


def test_one_is_fired_once_and_says_what_was_started(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FIRE, Reply(body={"executionId": ID, "jobId": "etl"}))
    ended = tidemill("fire", "etl", "nightly")
    assert (ended.code, ended.out) == (0, f"{ID}\n")
    assert wire.find(FIRE)[0].headers["idempotency-key"]


def test_with_wait_its_end_is_the_commands(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FIRE, Reply(body={"executionId": ID, "jobId": "etl"}))
    execution = {"metadata": {"id": ID, "job": "etl"}, "status": "failed", "stats": {"total": 1, "failure": 1}}
    wire.on(f"GET /v0/jobs/etl/executions/{ID}", Reply(body=execution))
    assert tidemill("fire", "etl", "nightly", "--wait").code == 1


def test_one_that_is_not_there_is_told_in_the_servers_words(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(FIRE, Reply(status=404, body={"code": 404, "message": "no trigger 'nightly'"}))
    ended = tidemill("fire", "etl", "nightly")
    assert ended.code == 1
    assert "no trigger 'nightly'" in ended.err
