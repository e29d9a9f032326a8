"""Times and spans as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.cli.output import Column, ago, duration, layout, parse_time, short_id, span

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


COLUMNS = (Column("NAME"), Column("TRIES", numeric=True), Column("AGE", spare=True), Column("WHY", long=True))
ROWS = [("task-1", "12", "3 h ago", "it went wrong in a way that takes many words"), ("task-20", "1", "-", "")]


def table(width: int | None) -> list[str]:
    return [line.plain for line in layout(COLUMNS, ROWS, width)]


def test_a_table_has_the_width_it_needs_and_no_blanks_at_the_ends() -> None:
    assert table(None) == [
        "NAME     TRIES  AGE      WHY",
        "task-1      12  3 h ago  it went wrong in a way that takes many words",
        "task-20      1  -",
    ]


def test_a_long_text_gives_way_first_then_a_spare_column_and_nothing_else() -> None:
    assert table(45)[1] == "task-1      12  3 h ago  it went wrong in a …"
    assert table(30)[1] == "task-1      12  it went wrong…"
    assert table(10)[1] == "task-1      12  it went wro…"


def test_the_widest_of_several_long_texts_gives_way_first() -> None:
    columns = (Column("A", long=True), Column("B", long=True))
    assert [line.plain for line in layout(columns, [("a" * 40, "b" * 20)], 42)][1] == "a" * 19 + "…" + "  " + "b" * 20
    assert [line.plain for line in layout(columns, [("a" * 40, "b" * 20)], 30)][1] == "a" * 13 + "…  " + "b" * 13 + "…"


def test_a_cell_is_one_line_and_wide_letters_count_twice() -> None:
    columns = (Column("A"), Column("B"))
    assert [line.plain for line in layout(columns, [("x\n y", "1"), ("東京", "2")], None)] == [
        "A     B",
        "x y   1",
        "東京  2",
    ]


def test_a_table_without_rows_is_its_titles() -> None:
    assert [line.plain for line in layout(COLUMNS, [], 80)] == ["NAME  TRIES  AGE  WHY"]
