"""Times and spans as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.cli.output import ago, duration, parse_time, short_id, span

NOW = datetime(2026, 8, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s ago"),
        (89, "89 s ago"),
        (90, "1 min ago"),
        (3600, "60 min ago"),
        (2 * 3600, "2 h ago"),
        (35 * 3600, "35 h ago"),
        (36 * 3600, "1 d ago"),
        (99 * 86400, "99 d ago"),
        (-5, "now"),
    ],
)
def test_ago_counts_in_the_unit_that_fits(seconds: int, said: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said


def test_what_is_long_past_is_a_date() -> None:
    assert ago("2025-01-31T12:00:00Z", NOW) == "2025-01-31"


def test_no_time_is_a_dash() -> None:
    assert ago(None, NOW) == ago("", NOW) == ago("yesterday", NOW) == "-"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (100_000, "1 d 3 h"),
        (-1, "0.0 s"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_span_without_an_end_goes_on_until_now() -> None:
    assert span("2026-08-21T11:59:00Z", None, NOW) == "1 min 00 s"
    assert span("2026-08-21T11:59:00Z", "2026-08-21T11:59:02.500Z", NOW) == "2.5 s"
    assert span(None, None, NOW) == "-"


def test_an_id_that_a_caller_chose_is_not_cut() -> None:
    assert short_id("7f3c2a9e-1111-4222-8333-944455556666") == "7f3c2a9e"
    assert short_id("sweep-demo-1") == "sweep-demo-1"


def test_times_of_the_wire_may_have_nanoseconds_or_no_zone() -> None:
    assert parse_time("2026-08-21T12:00:00.000000001Z") == NOW
    assert parse_time("2026-08-21T12:00:00") == NOW
