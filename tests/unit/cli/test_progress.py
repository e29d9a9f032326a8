"""How fast an execution goes, and what is said about it."""

import pytest

from tidemill.cli.progress import Look, Pace, average
from tidemill.sdk import Execution


def test_nothing_is_known_before_the_first_task_has_ended() -> None:
    pace = Pace()
    assert pace.rate() == 0.0
    pace.observe(0.0, 0)
    pace.observe(10.0, 0)
    assert pace.rate() == 0.0
    assert pace.left_s(5) is None


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(101):
        # 10 a second for a minute, then 1 a second
        pace.observe(float(second), min(second, 60) * 10 + max(second - 60, 0))
    assert pace.rate() == pytest.approx(1.0)
    assert pace.left_s(30) == pytest.approx(30.0)


def test_where_nothing_ended_lately_the_whole_time_counts() -> None:
    pace = Pace()
    pace.observe(0.0, 0)
    pace.observe(10.0, 5)
    for second in range(20, 101):
        pace.observe(float(second), 5)
    assert pace.rate() == pytest.approx(5 / 100)


def test_tasks_that_had_ended_before_the_first_look_are_no_speed() -> None:
    pace = Pace()
    pace.observe(0.0, 1000)
    pace.observe(1.0, 1002)
    assert pace.rate() == pytest.approx(2.0)


def test_a_look_in_words_has_what_a_person_wants_to_know() -> None:
    look = Look(
        status="running",
        stats={"total": 24, "running": 4, "success": 10, "failure": 2, "cancelled": 0, "retried": 1},
        rate=2.0,
        left_s=6.0,
    )
    assert look.words() == "12/24 done  4 running  2 failed  1 retried  2.0/s  6.0 s left"


def test_a_state_that_is_not_running_is_named_first() -> None:
    look = Look(status="queued", stats={"total": 3}, rate=0.0, left_s=None)
    assert look.words() == "queued  0/3 done  0 running  0 failed"


def test_slow_work_is_counted_by_the_minute() -> None:
    look = Look(status="running", stats={"total": 3, "success": 1}, rate=0.05, left_s=40.0)
    assert "3.0/min" in look.words()


def test_the_average_is_that_of_the_whole_run() -> None:
    times = {"createdAt": "2026-08-21T10:00:00Z", "startedAt": "2026-08-21T10:00:01Z"}
    ended = Execution(
        metadata={
            "createdAt": times["createdAt"],
            "startedAt": times["startedAt"],
            "completedAt": "2026-08-21T10:00:05Z",
        },
        stats={"total": 100, "success": 30, "failure": 10, "cancelled": 60},
    )
    assert average(ended) == pytest.approx(10.0)
    assert average(Execution(metadata={"startedAt": times["startedAt"]}, stats={"success": 1})) == 0.0


def test_a_rate_at_the_end_is_called_an_average() -> None:
    look = Look(status="succeeded", stats={"total": 4, "success": 4}, rate=8.0, left_s=0.0)
    assert look.words() == "4/4 done  0 running  0 failed  8.0/s on average"
