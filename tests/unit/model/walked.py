"""Due times found by walking every minute: an oracle that shares nothing with the code that it judges.

A schedule is a set of minutes and one of hours, and a question about a date. Which local times do not exist and which
come twice is asked of zoneinfo's own ``fold``, minute by minute. As a program it takes every change of the offset of
every zone (``make test-full``); the suite takes each kind of change once.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import chain
from zoneinfo import ZoneInfo, available_timezones

from tidemill.model.trigger import Schedule

FIRST_YEAR, YEARS = 2026, 10
MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=26)


def any_day(_: date) -> bool:
    return True


@dataclass(frozen=True)
class Sample:
    """A schedule twice: as text, and as what the text means. ``fixed``: no wildcard in minute or hour."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    fixed: bool
    day: Callable[[date], bool] = any_day

    def matches(self, local: datetime) -> bool:
        return local.minute in self.minutes and local.hour in self.hours and self.day(local.date())


@dataclass(frozen=True)
class Around:
    """The minutes around a change of the offset: those that there are, each with its local time; those that are not."""

    start: datetime
    end: datetime
    real: tuple[tuple[datetime, datetime, int], ...]
    """(UTC, local time, fold)"""
    skipped: tuple[tuple[datetime, datetime], ...]
    """(local time, UTC of the first real minute behind it)"""

    @cached_property
    def real_by_minute(self) -> Mapping[int, Sequence[tuple[datetime, datetime, int]]]:
        """``real`` by the minute of the hour: most schedules name one, and need not look at the others."""
        found: dict[int, list[tuple[datetime, datetime, int]]] = {}
        for one in self.real:
            found.setdefault(one[1].minute, []).append(one)
        return found


@dataclass(frozen=True)
class Seen:
    """A change of the offset, and what it is: the offset before and behind it."""

    at: datetime
    before: timedelta | None
    behind: timedelta | None


def offset_changes(zone: ZoneInfo, step: timedelta) -> Iterator[Seen]:
    """The changes of the offset in those years, to the minute, looked for in steps."""
    at = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    end = at.replace(year=FIRST_YEAR + YEARS)
    before = at.astimezone(zone).utcoffset()
    while at < end:
        behind = (at + step).astimezone(zone).utcoffset()
        if behind != before:
            minutes = (at + n * MINUTE for n in range(1, step // MINUTE + 1))
            change = next(minute for minute in minutes if minute.astimezone(zone).utcoffset() != before)
            yield Seen(at=change, before=before, behind=behind)
        at, before = at + step, behind


def around(zone: ZoneInfo, change: datetime) -> Around:
    start, end = change - AROUND, change + AROUND
    real = []
    at = start
    while at <= end:
        local = at.astimezone(zone)
        real.append((at, local.replace(tzinfo=None, fold=0), local.fold))
        at += MINUTE
    there = {local for _, local, _ in real}
    skipped = []
    local, last = min(there), max(there)
    while local <= last:
        if local not in there:
            # zoneinfo reads what does not exist with the offset before the gap, and comes out behind it
            assert local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) != local
            skipped.append((local, next(utc for utc, later, _ in real if later > local)))
        local += MINUTE
    return Around(start=start, end=end, real=tuple(real), skipped=tuple(skipped))


def expected(sample: Sample, minutes: Around) -> list[datetime]:
    """The due times in (start, end]."""
    near = chain.from_iterable(minutes.real_by_minute.get(minute, ()) for minute in sample.minutes)
    found = {utc for utc, local, fold in near if sample.matches(local) and not (sample.fixed and fold)}
    if sample.fixed:
        found |= {behind for local, behind in minutes.skipped if sample.matches(local)}
    return sorted(found - {minutes.start})


def samples(minutes: Around) -> Iterator[Sample]:
    """Schedules that a change at the middle of ``minutes`` can hurt: at its edges, inside it, and wildcards."""
    middle = minutes.start + AROUND
    here = {utc: local for utc, local, _ in minutes.real}
    edges = [here[middle - MINUTE], here[middle], here[middle - MINUTE] + MINUTE]
    edges += [local for local, _ in minutes.skipped[:: max(1, len(minutes.skipped) // 3)]]
    edges += [edge + step * MINUTE for edge in edges[:3] for step in (-30, -1, 1, 29)]
    whole, day = frozenset(range(60)), frozenset(range(24))
    for edge in sorted(set(edges)):
        minute, hour = frozenset({edge.minute}), frozenset({edge.hour})
        yield Sample(f"{edge.minute} {edge.hour} * * *", minute, hour, fixed=True)
        yield Sample(f"{edge.minute} * * * *", minute, day, fixed=False)
        yield Sample(f"* {edge.hour} * * *", whole, hour, fixed=False)
        yield Sample(f"{edge.minute} 0-23 * * *", minute, day, fixed=True)
        on = edge.date()
        weekday = on.isoweekday() % 7
        dated = f"{edge.minute} {edge.hour} {on.day} {on.month} *"
        yield Sample(dated, minute, hour, fixed=True, day=lambda one, on=on: (one.month, one.day) == (on.month, on.day))  # type: ignore[misc]
        nth = f"0,30 {edge.hour} * * {weekday}#{(on.day + 6) // 7}"
        yield Sample(nth, frozenset({0, 30}), hour, fixed=True, day=lambda one, on=on: one == on)  # type: ignore[misc]
    yield Sample("*/7 */2 * * *", frozenset(range(0, 60, 7)), frozenset(range(0, 24, 2)), fixed=False)
    yield Sample("0,15,30,45 0-4 * * *", frozenset({0, 15, 30, 45}), frozenset(range(5)), fixed=True)
    yield Sample("0 */3 * * *", frozenset({0}), frozenset(range(0, 24, 3)), fixed=False)
    yield Sample("*/20 1,2 * * *", frozenset({0, 20, 40}), frozenset({1, 2}), fixed=False)


def wrong(zone: ZoneInfo, minutes: Around) -> Iterator[str]:
    """What the code says else than the walk."""
    for sample in samples(minutes):
        schedule = Schedule.parse(sample.text, zone.key)
        found, right = list(schedule.due(minutes.start, minutes.end)), expected(sample, minutes)
        if found != right:
            yield f"{sample.text} in {zone.key}: {_odd(found, right)}"
        # looked for in pieces, from any minute on, it is the same
        pieces = list[datetime]()
        at = minutes.start
        while at < minutes.end:
            end = min(at + 313 * MINUTE, minutes.end)
            pieces += schedule.due(at, end)
            at = end
        if pieces != right:
            yield f"{sample.text} in {zone.key}, in pieces: {_odd(pieces, right)}"


def _odd(found: list[datetime], right: list[datetime]) -> str:
    more, less = sorted(set(found) - set(right)), sorted(set(right) - set(found))
    return f"too many {[str(one) for one in more[:5]]}, missing {[str(one) for one in less[:5]]}"


def main() -> int:
    """Changes of several zones at the same time, between the same offsets, are one: they have the same local times."""
    zones, every = sorted(available_timezones()), list[tuple[Seen, str]]()
    for name in zones:
        every += [(change, name) for change in offset_changes(ZoneInfo(name), timedelta(hours=1))]
    distinct = dict(every)
    bad = checked = 0
    for change, name in distinct.items():
        minutes = around(ZoneInfo(name), change.at)
        checked += sum(1 for _ in samples(minutes))
        for line in wrong(ZoneInfo(name), minutes):
            bad += 1
            print(line)
    print(
        f"{len(zones)} zones, {FIRST_YEAR} to {FIRST_YEAR + YEARS - 1}: {len(every)} changes of an offset, "
        f"{len(distinct)} of them distinct, {checked} schedules around those: {bad} wrong"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
