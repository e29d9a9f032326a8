"""When cron triggers are due: schedules and their errors, time zones, gaps and repeated hours, what is caught up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from tests.unit.model.walked import Seen, around, offset_changes, samples, wrong
from tidemill.model import cron, trigger
from tidemill.model.cron import ScheduleError
from tidemill.model.trigger import Schedule, ZoneError


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(schedule: str, timezone: str, after: str, until: str) -> list[str]:
    """As UTC times without seconds."""
    found = Schedule.parse(schedule, timezone).due(utc(after), utc(until))
    return [f"{one:%m-%d %H:%M}" for one in found]


def first(schedule: str, after: str, count: int = 1) -> list[str]:
    return [f"{one:%Y-%m-%d %H:%M}" for one in Schedule.parse(schedule).next(utc(after), count)]


# Paris goes from UTC+1 to UTC+2 on 2026-03-29 at 01:00 UTC, and back on 2026-10-25 at 01:00 UTC
SPRING = ("2026-03-28T22:00", "2026-03-30T00:15")
AUTUMN = ("2026-10-24T22:00", "2026-10-25T03:00")


@pytest.mark.parametrize(
    ("schedule", "spring", "autumn"),
    [
        # skipped: once, right after the gap; repeated: the first time only
        ("30 2 * * *", ["03-29 01:00"], ["10-25 00:30"]),
        # three times of one gap are one right after it, and so is one that is there anyway
        ("0,20,40 2 * * *", ["03-29 01:00", "03-30 00:00"], ["10-25 00:00", "10-25 00:20", "10-25 00:40"]),
        ("0 2-3 * * *", ["03-29 01:00", "03-30 00:00"], ["10-25 00:00", "10-25 02:00"]),
        # a wildcard in the minute: none in the gap, both times what comes twice
        ("*/30 2 * * *", ["03-30 00:00"], ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        # a wildcard in the hour: every real hour
        ("30 */2 29,25 * *", ["03-28 23:30", *(f"03-29 {hour:02}:30" for hour in range(2, 22, 2))], None),
        ("30 */2 * * *", None, ["10-24 22:30", "10-25 00:30", "10-25 01:30"]),
    ],
)
def test_a_fixed_time_is_due_once_each_day_and_a_wildcard_every_real_time(
    schedule: str, spring: list[str] | None, autumn: list[str] | None
) -> None:
    if spring is not None:
        assert due(schedule, "Europe/Paris", *SPRING) == spring
    if autumn is not None:
        assert due(schedule, "Europe/Paris", *AUTUMN) == autumn


def test_a_gap_of_half_an_hour_and_one_at_midnight() -> None:
    # Lord Howe skips 02:00 to 02:29 and repeats 01:30 to 01:59; Santiago skips midnight
    assert due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", "2026-10-04T00:00") == ["10-03 15:30"]
    assert due("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", "2026-04-05T00:00") == ["04-04 14:45"]
    twice = due("45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00", "2026-04-04T16:00")
    assert twice == ["04-04 14:45", "04-04 15:15"]
    assert due("0 0 * * *", "America/Santiago", "2026-09-05T12:00", "2026-09-06T12:00") == ["09-06 04:00"]


@pytest.mark.timeout(600)  # half a minute of one core, when it has one
@pytest.mark.timeout(600)  # half a minute alone, and more on a busy machine
def test_every_kind_of_change_of_every_zone_for_ten_years(record_property: Callable[[str, object], None]) -> None:
    """Against a walk over every minute. A kind: the two offsets, and the local time of day of the change."""
    kinds = dict[tuple[object, ...], tuple[str, Seen]]()
    zones, changes = sorted(available_timezones()), 0
    for name in zones:
        for change in offset_changes(ZoneInfo(name), timedelta(days=1)):
            changes += 1
            local = change.at.astimezone(ZoneInfo(name))
            kinds.setdefault((change.before, change.behind, local.time()), (name, change))
    checked, found = 0, list[str]()
    for name, change in kinds.values():
        minutes = around(ZoneInfo(name), change.at)
        checked += sum(1 for _ in samples(minutes))
        found += wrong(ZoneInfo(name), minutes)
    counts = {"zones": len(zones), "changes": changes, "kinds": len(kinds), "schedules": checked}
    for what, count in counts.items():
        record_property(what, count)
    print(counts)
    assert found == []
    # what an empty time zone database would let through
    assert counts["zones"] > 400
    assert counts["kinds"] > 20
    assert checked > 1_000


def test_changes_are_found_in_every_zone_as_a_finer_search_finds_them() -> None:
    for name in ("Africa/Casablanca", "Asia/Gaza", "America/Nuuk", "Antarctica/Troll", "Australia/Lord_Howe"):
        zone = ZoneInfo(name)
        seen = [(one.at, one.before, one.behind) for one in offset_changes(zone, timedelta(hours=6))]
        found = [one for year in range(2026, 2036) for one in trigger.changes(zone, year)]
        assert [(one.at, one.before, one.after) for one in found] == seen
        assert seen


@pytest.mark.parametrize(
    ("schedule", "after", "right"),
    [
        ("0 0 L * *", "2028-02-01T00:00", "2028-02-29 00:00"),
        ("0 0 L * *", "2026-02-01T00:00", "2026-02-28 00:00"),
        ("0 0 * * MON#2", "2026-06-01T00:00", "2026-06-08 00:00"),
        ("0 0 * * 1#5", "2026-07-01T00:00", "2026-08-31 00:00"),
        ("0 0 * * FRIL", "2026-06-01T00:00", "2026-06-26 00:00"),
        ("0 0 * * 5l", "2026-06-01T00:00", "2026-06-26 00:00"),
        ("0 0 * * 7", "2026-06-01T00:00", "2026-06-07 00:00"),
        ("0 0 * * sun-mon", "2026-06-02T00:00", "2026-06-07 00:00"),
        ("0 0 1 jan,jul *", "2026-02-01T00:00", "2026-07-01 00:00"),
        ("10/20 5 * * *", "2026-06-01T05:11", "2026-06-01 05:30"),
        ("0-10/5 5 * * *", "2026-06-01T05:05", "2026-06-01 05:10"),
        # one of the two days is enough when neither begins with a star
        ("0 0 13 * FRI", "2026-06-01T00:00", "2026-06-05 00:00"),
        ("0 0 */13 * FRI", "2026-06-01T00:00", "2026-08-14 00:00"),
        ("0 0 29 2 *", "2026-06-01T00:00", "2028-02-29 00:00"),
        ("0 0 29 2 */7", "2030-06-01T00:00", "2032-02-29 00:00"),
        ("0 0 * 2 MON#5", "2030-06-01T00:00", "2044-02-29 00:00"),
        ("  5   4 * * *  ", "2026-06-01T00:00", "2026-06-01 04:05"),
    ],
)
def test_what_a_schedule_means(schedule: str, after: str, right: str) -> None:
    assert first(schedule, after) == [right]


def test_after_is_exclusive_and_until_inclusive() -> None:
    assert due("0 3 * * *", "UTC", "2026-06-01T03:00", "2026-06-03T03:00") == ["06-02 03:00", "06-03 03:00"]
    assert due("0 3 * * *", "UTC", "2026-06-01T02:59:59.999999", "2026-06-01T03:00") == ["06-01 03:00"]
    assert due("0 3 * * *", "UTC", "2026-06-01T03:00", "2026-06-01T03:00") == []


@pytest.mark.parametrize(
    ("schedule", "wrong", "right"),
    [
        ("every day", "2 fields", "five fields"),
        ("0 3 * *", "4 fields", "minute hour day-of-month month day-of-week"),
        ("0 0 3 * * *", "6 fields", "none for seconds"),
        ("", "0 fields", "five fields"),
        ("@daily", "write", "'0 0 * * *'"),
        ("60 * * * *", 'minute has "60"', "0 to 59"),
        ("* 24 * * *", 'hour has "24"', "0 to 23"),
        ("* * 0 * *", 'day-of-month has "0"', "1 to 31"),
        ("* * * 13 *", 'month has "13"', "1 to 12 or JAN to DEC"),
        ("* * * * 8", 'day-of-week has "8"', "0 to 7 or SUN to SAT"),
        ("* * * MAI *", 'month has "MAI"', "JAN to DEC"),
        ("MON * * * *", 'minute has "MON"', "0 to 59"),
        ("* * * * MON#6", 'day-of-week has "MON#6"', "1 to 5"),
        ("* * * * MON#", 'day-of-week has "MON#"', "1 to 5"),
        ("* * * * L", 'day-of-week has "L"', "SUN to SAT"),
        ("* L * * *", 'hour has "L"', "0 to 23"),
        ("5-3 * * * *", 'minute has "5-3"', "from low to high"),
        ("*/0 * * * *", 'minute has "*/0"', "1 to 59"),
        ("*/x * * * *", 'minute has "*/X"', "1 to 59"),
        ("1, * * * *", 'minute has ""', "0 to 59"),
        ("? * * * *", 'minute has "?"', "0 to 59"),
        ("+1 * * * *", 'minute has "+1"', "0 to 59"),
        ("\u0663 * * * *", 'minute has "\u0663"', "0 to 59"),
        ("0 0 30 2 *", "no date is ever", "day-of-month 30, month 2"),
        ("0 0 31 4,6,9,11 *", "no date is ever", "month 4,6,9,11"),
        ("0 0 */31 * MON#5", "no date is ever", "day-of-week MON#5"),
        ("* * * * " + "1," * 100 + "1", "209 characters", "200"),
    ],
)
def test_a_schedule_that_cannot_be_says_what_is_wrong_and_what_would_be_right(
    schedule: str, wrong: str, right: str
) -> None:
    with pytest.raises(ScheduleError) as raised:
        cron.parse(schedule)
    assert wrong in str(raised.value)
    assert right in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("europe/paris", "Europe/Paris"),
        ("Europe/Pari", "Europe/Paris"),
        ("../../etc/passwd", "like 'Europe/Paris'"),
        ("/etc/localtime", "time zone of the IANA database"),
        ("Europe", "time zone of the IANA database"),
        ("", "like 'Europe/Paris'"),
    ],
)
def test_a_name_that_is_no_time_zones(name: str, hint: str) -> None:
    with pytest.raises(ZoneError) as raised:
        trigger.zone(name)
    assert hint in str(raised.value)


def test_the_last_due_times_are_those_of_the_whole_span() -> None:
    for schedule, start in (("* * * * *", "2026-03-28"), ("*/17 5 * * 1", "2024-02-10"), ("30 2 * * *", "2024-02-10")):
        one = Schedule.parse(schedule, "Europe/Paris")
        after, until = utc(f"{start}T10:10:10"), utc("2026-03-29T10:00")
        for count in (1, 3, 100):
            assert one.last(after, until, count) == list(one.due(after, until))[-count:]
    assert Schedule.parse("0 0 1 1 *").last(utc("2026-02-01"), utc("2026-12-31"), 5) == []


def test_the_calendar_ends() -> None:
    assert len(Schedule.parse("0 0 1 1 *", "Europe/Paris").next(utc("9996-06-01"), 100)) == 2
