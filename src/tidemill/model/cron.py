"""Cron rules: five fields, read once, and the local times that match them. Pure calendar: no zones, no clock.

What a rule means in a time zone, with its gaps and repeated hours, is ``trigger.py``.
"""

import functools
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from typing import Final

from tidemill.model.quoted import quoted

MAX_LENGTH: Final = 200
LAST_YEAR: Final = MAXYEAR - 1

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LAST: Final = "L"
_WEEK: Final = 7
_MAX_NTH: Final = 5
_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class ScheduleError(ValueError):
    """A schedule that no rule can be read from; the text says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Which days of a month. Weekdays are 0 to 6 from Sunday on; ``nth`` has (weekday, 1 to 5).

    ``both``: day-of-month and day-of-week must match; else one of them is enough, as cron has it.
    """

    of_month: frozenset[int]
    last_of_month: bool
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]
    both: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A schedule as sorted numbers. ``fixed``: neither minute nor hour is a wildcard (``*``, ``*/5``)."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    days: Days
    fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A field's name, its lowest and highest number, and the names of its numbers from ``low`` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def right(self) -> str:
        named = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{named}"


_MINUTE: Final = _Field(name="minute", low=0, high=59)
_HOUR: Final = _Field(name="hour", low=0, high=23)
_DAY: Final = _Field(name="day-of-month", low=1, high=31)
_MONTH: Final = _Field(name="month", low=1, high=12, names=_MONTHS)
_WEEKDAY: Final = _Field(name="day-of-week", low=0, high=7, names=_WEEKDAYS)


@functools.lru_cache(maxsize=20_000)
def parse(schedule: str) -> Rule:
    """Read five fields, minute to day-of-week. Raises ScheduleError, for a date that never comes too.

    Numbers, names (JAN, MON, any case), ``*``, ``a-b``, ``a,b``, ``/n``; ``L`` for the last day of a month, ``5L`` for
    its last Friday, ``MON#2`` for its second Monday. 0 and 7 are both Sunday.
    """
    if len(schedule) > MAX_LENGTH:
        raise ScheduleError(f"it has {len(schedule)} characters; it may have up to {MAX_LENGTH}")
    if schedule.strip().lower() in _MACROS:
        raise ScheduleError(f"write {_MACROS[schedule.strip().lower()]!r} for it")
    fields = schedule.split()
    if len(fields) != len((_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)):
        more = "; there is none for seconds" if len(fields) == 6 else ""
        raise ScheduleError(
            f"it has {len(fields)} fields; a cron schedule has five fields, "
            f"minute hour day-of-month month day-of-week, like '0 3 * * *'{more}"
        )
    minute, hour, day, month, weekday = (field.upper() for field in fields)
    rule = Rule(
        minutes=tuple(sorted(_numbers(_MINUTE, minute))),
        hours=tuple(sorted(_numbers(_HOUR, hour))),
        months=frozenset(_numbers(_MONTH, month)),
        days=_days(day, weekday),
        fixed=not minute.startswith("*") and not hour.startswith("*"),
    )
    if not _ever_matches(rule):
        raise ScheduleError(f"no date is ever day-of-month {day}, month {month}, day-of-week {weekday}")
    return rule


def local_times(rule: Rule, start: datetime) -> Iterator[datetime]:
    """The local times that match, in order, from ``start`` (a whole minute without a zone) on; to the year 9998.

    Each costs a step, and so does each month and each hour in between that holds none.
    """
    year, month = start.year, start.month
    while year <= LAST_YEAR:
        if month in rule.months:
            first = (year, month) == (start.year, start.month)
            for day in _from(_days_of(rule.days, *monthrange(year, month)), start.day if first else 1):
                today = first and day == start.day
                for hour in _from(rule.hours, start.hour if today else 0):
                    now = today and hour == start.hour
                    for minute in _from(rule.minutes, start.minute if now else 0):
                        yield datetime(year, month, day, hour, minute)  # noqa: DTZ001 - local, of whatever zone
        year, month = (year, month + 1) if month < len(_MONTHS) else (year + 1, 1)


def _from(numbers: Sequence[int], low: int) -> Sequence[int]:
    return numbers[bisect_left(numbers, low) :] if low else numbers


@functools.lru_cache(maxsize=20_000)
def _days_of(days: Days, first: int, length: int) -> tuple[int, ...]:
    """The days that match in a month of ``length`` days whose first is weekday ``first`` (0: Monday)."""
    return tuple(day for day in range(1, length + 1) if _matches(days, day, (first + day) % _WEEK, length))


def _matches(days: Days, day: int, weekday: int, length: int) -> bool:
    by_date = day in days.of_month or (days.last_of_month and day == length)
    by_weekday = (
        weekday in days.weekdays
        or (weekday, (day + _WEEK - 1) // _WEEK) in days.nth
        or (weekday in days.last_weekdays and day + _WEEK > length)
    )
    return by_date and by_weekday if days.both else by_date or by_weekday


def _ever_matches(rule: Rule) -> bool:
    """A year is one of fourteen: it begins on one of seven days, and has 365 days or one more."""
    # 2001 to 2028 are one round of a calendar without exceptions: it has all fourteen
    return any(
        _days_of(rule.days, *monthrange(year, month)) for year in range(2001, 2029) for month in sorted(rule.months)
    )


def _days(day: str, weekday: str) -> Days:
    of_month, last_of_month = set[int](), False
    for term in day.split(","):
        if term == _LAST:
            last_of_month = True
        else:
            of_month |= _term(_DAY, term)
    weekdays, nth, last = set[int](), set[tuple[int, int]](), set[int]()
    for term in weekday.split(","):
        name, mark, number = term.partition("#")
        if mark:
            nth.add((_number(_WEEKDAY, name) % _WEEK, _nth(term, number)))
        elif term.endswith(_LAST) and term != _LAST:
            last.add(_number(_WEEKDAY, term[:-1]) % _WEEK)
        else:
            weekdays |= {number % _WEEK for number in _term(_WEEKDAY, term)}
    return Days(
        of_month=frozenset(of_month),
        last_of_month=last_of_month,
        weekdays=frozenset(weekdays),
        nth=frozenset(nth),
        last_weekdays=frozenset(last),
        both=day.startswith("*") or weekday.startswith("*"),
    )


def _nth(term: str, number: str) -> int:
    if not _is_number(number) or not 1 <= int(number) <= _MAX_NTH:
        raise ScheduleError(f"day-of-week has {quoted(term)}; what follows # must be 1 to {_MAX_NTH}, like MON#2")
    return int(number)


def _numbers(field: _Field, text: str) -> set[int]:
    return set[int]().union(*(_term(field, term) for term in text.split(",")))


def _term(field: _Field, term: str) -> set[int]:
    """One of what commas divide: ``*``, ``a``, ``a-b``, each with ``/n`` or without; ``a/n`` goes on to the end."""
    span, mark, step = term.partition("/")
    if mark and (not _is_number(step) or not 1 <= int(step) <= field.high):
        raise ScheduleError(f"{field.name} has {quoted(term)}; what follows / must be a number, 1 to {field.high}")
    low, dash, high = span.partition("-")
    if span == "*":
        # 7 is 0 once more: */2 would meet Sunday on both
        numbers = range(field.low, (_WEEK - 1 if field is _WEEKDAY else field.high) + 1)
    elif dash:
        numbers = range(_number(field, low), _number(field, high) + 1)
        if not numbers:
            raise ScheduleError(f"{field.name} has {quoted(term)}; a range must go from low to high, like 1-5")
    else:
        first = _number(field, span)
        numbers = range(first, field.high + 1) if mark else range(first, first + 1)
    return set(numbers[:: int(step)] if mark else numbers)


def _number(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not _is_number(text) or not field.low <= int(text) <= field.high:
        raise ScheduleError(f"{field.name} has {quoted(text)}; it must be {field.right()}")
    return int(text)


def _is_number(text: str) -> bool:
    # what int() takes besides, signs and other scripts' digits, is no cron
    return text.isascii() and text.isdigit() and len(text) <= len("59")
