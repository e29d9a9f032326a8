"""Requests as values: what the client would send."""

from datetime import UTC, datetime, timedelta, timezone

from tidemill.sdk import calls
from tidemill.sdk.calls import LogQuery, PageQuery


def test_names_of_users_cannot_leave_their_place_in_the_path() -> None:
    assert calls.get_job("../x?y").path == "/jobs/..%2Fx%3Fy"
    assert calls.get_execution("etl", "a/b").path == "/jobs/etl/executions/a%2Fb"
    assert calls.find_execution("7f3c2a9e").path == "/executions/7f3c2a9e"


def test_a_new_execution_may_be_sent_twice_because_it_carries_a_key() -> None:
    call = calls.post_execution("etl", b"{}", idempotency_key="k-1")
    assert call.headers == {"Idempotency-Key": "k-1"}
    assert call.repeatable


def test_a_new_job_is_not_sent_twice() -> None:
    assert not calls.post_job({"metadata": {"name": "etl"}}, upload=True).repeatable
    assert calls.put_job({"metadata": {"name": "etl"}}, upload=True).repeatable


def test_upload_is_asked_for_in_the_query() -> None:
    assert calls.put_job({"metadata": {"name": "etl"}}, upload=True).query == {"upload": "true"}
    assert calls.put_job({"metadata": {"name": "etl"}}, upload=False).query == {}
    assert calls.put_job({"metadata": {"name": "etl"}}, upload=False).body == b'{"metadata":{"name":"etl"}}'


def test_force_and_follow_are_sent_only_when_they_are_wanted() -> None:
    assert calls.cancel_execution("etl", "e", force=True).query == {"force": "true"}
    assert calls.cancel_execution("etl", "e", force=False).query == {}
    assert calls.get_results("etl", "e", follow=True).query == {"follow": "true"}
    assert calls.get_results("etl", "e", follow=False).query == {}


def test_followed_results_may_be_silent_for_as_long_as_a_task_runs() -> None:
    assert calls.get_results("etl", "e", follow=True).read_timeout_s is None
    assert calls.get_results("etl", "e", follow=False).read_timeout_s is not None


def test_a_log_query_has_every_parameter_of_the_contract_and_times_in_utc() -> None:
    plus_two = timezone(timedelta(hours=2))
    query = LogQuery(
        job="etl",
        start=datetime(2026, 8, 21, 12, 0, 5, 999_999, tzinfo=plus_two),
        end=datetime(2026, 8, 21, 11, 0, tzinfo=UTC),
        execution="7f3c2a9e",
        task="task-7",
        search="boom",
        severities=("ERROR", "FATAL"),
        limit=10,
        offset=20,
    )
    assert calls.get_logs(query).query == {
        "start": "2026-08-21T10:00:05",
        "end": "2026-08-21T11:00:00",
        "resourceType": "jobs",
        "workloadIds": "etl",
        "type": "all",
        "traceId": "",
        "limit": "10",
        "offset": "20",
        "severity": "ERROR,FATAL",
        "search": "boom",
        "executionId": "7f3c2a9e",
        "taskId": "task-7",
        "interval": "60",
    }


def test_a_page_query_leaves_out_what_is_not_set() -> None:
    assert PageQuery().parameters() == {}
    assert PageQuery(limit=5, cursor="c", status="failed").parameters() == {
        "limit": "5",
        "cursor": "c",
        "status": "failed",
    }


def test_lines_of_builds_only_are_asked_for_by_type() -> None:
    at = datetime(2026, 8, 21, tzinfo=UTC)
    assert calls.get_logs(LogQuery(job="etl", start=at, end=at, builds_only=True)).query["type"] == "build"
