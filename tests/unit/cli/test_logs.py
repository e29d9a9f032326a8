"""Which lines of overlapping windows are new."""

import pytest

from tidemill.cli.logs import Tail, origin
from tidemill.sdk import LogLine


def line(second: int, text: str) -> LogLine:
    return LogLine(timestamp=f"2026-08-21T10:00:{second:02}Z", message=text)


def messages(lines: list[LogLine]) -> list[str]:
    return [found["message"] for found in lines]


def test_lines_come_out_oldest_first_and_once() -> None:
    tail = Tail()
    assert messages(tail.fresh([line(2, "b"), line(1, "a")])) == ["a", "b"]
    assert messages(tail.fresh([line(3, "c"), line(2, "b"), line(1, "a")])) == ["c"]
    assert messages(tail.fresh([line(3, "c")])) == []


def test_a_line_printed_twice_at_the_same_time_is_two_lines() -> None:
    tail = Tail()
    assert messages(tail.fresh([line(1, "a"), line(1, "a")])) == ["a", "a"]
    assert messages(tail.fresh([line(1, "a"), line(1, "a"), line(1, "a")])) == ["a"]


def test_the_same_words_of_two_tasks_are_told_apart() -> None:
    tail = Tail()
    four, five = (LogLine(timestamp="2026-08-21T10:00:01Z", message="a", task=task) for task in ("task-4", "task-5"))
    tail.fresh([four])
    assert tail.fresh([four, five]) == [five]
    again = LogLine(**four, attempt=2)
    assert tail.fresh([again, four, five]) == [again]


@pytest.mark.parametrize(
    ("found", "of_all", "of_one"),
    [
        (LogLine(task="task-4", attempt=1), "task-4 │ ", ""),
        (LogLine(task="task-4", attempt=2), "task-4#2 │ ", "#2 │ "),
        (LogLine(attempt=2), "", "#2 │ "),
        (LogLine(task="task-4"), "task-4 │ ", ""),
        (LogLine(), "", ""),
    ],
)
def test_a_line_says_whose_it_is_where_that_is_not_clear(found: LogLine, of_all: str, of_one: str) -> None:
    assert origin(found, one_task=False) == of_all
    assert origin(found, one_task=True) == of_one


def test_a_line_that_is_found_late_is_not_lost() -> None:
    tail = Tail()
    tail.fresh([line(5, "late")])
    assert messages(tail.fresh([line(5, "late"), line(4, "later")])) == ["later"]
