"""Which lines of overlapping windows are new."""

from tidemill.cli.logs import Tail
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


def test_a_line_that_is_found_late_is_not_lost() -> None:
    tail = Tail()
    tail.fresh([line(5, "late")])
    assert messages(tail.fresh([line(5, "late"), line(4, "later")])) == ["later"]
