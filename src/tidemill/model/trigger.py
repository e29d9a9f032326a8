"""When a trigger is due: a cron rule in a time zone, and what is made up for after a time without a server.

Of a time zone only its offsets matter: between two changes of the offset local times and UTC go side by side, and a
rule is walked there as if there were no zones. A change is where the two ways of reading a schedule part:

* with a fixed minute and hour (``30 2 * * *``, lists and ranges too) the local clock is taken as if it went on evenly.
  What a gap skips is due once, right after the gap; what comes twice is due the first time only;
* with a wildcard in minute or hour (``*/10 * * * *``) every real minute counts: none in a gap, all that come twice.
"""

import difflib
import functools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Final, TypeAlias
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

from tidemill.model import cron
from tidemill.model.cron import Rule

MAX_CAUGHT_UP: Final = 100
DEFAULT_TIMEZONE: Final = "UTC"
ON_TIME: Final = timedelta(seconds=60)
"""A server that is busy, or restarted, is late by less."""
MADE_AHEAD: Final = timedelta(seconds=1)
"""An execution may be there so long before it is due, at most."""

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
# a change of the offset is looked for in steps of this: none is undone within a day
_STEP: Final = timedelta(days=1)
# what comes twice, or not at all, is never more than a day
_NEAR: Final = timedelta(hours=25)
_NO_OFFSET: Final = timedelta()
_SUGGESTED: Final = 3


class TriggerType(StrEnum):
    CRON = "cron"
    HTTP = "http"
    HTTP_ASYNC = "http-async"


CALLED: Final = frozenset({TriggerType.HTTP, TriggerType.HTTP_ASYNC})
"""Those that somebody calls at a path of their job."""
DEFAULT_WAIT_S: Final = 300
"""How long the caller of an http trigger waits for results."""
DEFAULT_DEADLINE_S: Final = 900
"""How long an execution of an http-async trigger may take in all."""


def normal_path(path: str, *, encoded: bool = True) -> str:
    """How a path is compared: decoded, without a slash at the end; "/" for none."""
    return (unquote(path) if encoded else path).rstrip("/") or "/"


class CatchUp(StrEnum):
    """What fires of the due times that went by while nobody looked: nothing, the last, or the last hundred."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """Whether a trigger fires while an execution that it started has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


class Outcome(StrEnum):
    """What became of a due time: nothing yet, an execution, or nothing at all."""

    DUE = "due"
    FIRED = "fired"
    SKIPPED = "skipped"


class Skipped(StrEnum):
    """Why a due time was skipped. What was skipped is never caught up."""

    TRIGGER_DISABLED = "TriggerDisabled"
    TRIGGER_REMOVED = "TriggerRemoved"
    JOB_DISABLED = "JobDisabled"
    JOB_PAUSED = "JobPaused"
    JOB_DELETED = "JobDeleted"
    NOT_DEPLOYED = "NotDeployed"
    OVERLAP = "Overlap"
    MISSED = "Missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Due times that have come: those that fire, in order, and the first and the last of those that are too late.

    ``coming`` is the next one, None when the calendar ends.
    """

    fires: Sequence[datetime]
    missed: tuple[datetime, datetime] | None
    coming: datetime | None


class ZoneError(ValueError):
    """A name that is no time zone's; the text says what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The offset from UTC changes from ``before`` to ``after`` at ``at``."""

    at: datetime
    before: timedelta
    after: timedelta


# a time that is looked at, and the change near before it
_Place: TypeAlias = tuple[datetime, Change | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A rule in a time zone."""

    rule: Rule
    zone: ZoneInfo

    @classmethod
    def parse(cls, schedule: str, timezone: str = DEFAULT_TIMEZONE) -> "Schedule":
        """Raises ScheduleError, ZoneError."""
        return cls(rule=cron.parse(schedule), zone=zone(timezone))

    def due(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The due times in (``after``, ``until``], in UTC and in order, each once. Costs what it yields.

        Both are aware. What is behind the year 9998 is never due.
        """
        at = _minute_behind(after.astimezone(UTC))
        place: _Place | None = (at, _change_before(self.zone, at))
        while place is not None:
            place = yield from self._until_change(*place, until)

    def next(self, after: datetime, count: int = 1) -> list[datetime]:
        """The next due times after ``after``, at most ``count``; less when the calendar ends."""
        far = datetime(cron.LAST_YEAR, 12, 31, tzinfo=UTC)
        return list(islice(self.due(after, far), count))

    def last(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The last ``count`` due times in (``after``, ``until``], in order: in windows that double."""
        window = _HOUR
        while True:
            start = max(after, until - window)
            found = list(self.due(start, until))
            if len(found) >= count or start == after:
                return found[-count:]
            window *= 2

    def passed(self, since: datetime, now: datetime, catch_up: CatchUp) -> Passed:
        """What fires of the due times from ``since``, one of them, to ``now``.

        What is up to a minute late is not late: it always fires. Of what is later, as ``catch_up`` says.
        """
        coming = next(iter(self.next(since)), None)
        if coming is None or coming > now:
            times = [since]
        else:
            times = self.last(since - _MINUTE, now, MAX_CAUGHT_UP + 1)
            coming = next(iter(self.next(now)), None)
        if catch_up is CatchUp.ALL:
            fires = times[-MAX_CAUGHT_UP:]
        else:
            fresh = [due for due in times if now - due <= ON_TIME]
            fires = fresh or (times[-1:] if catch_up is CatchUp.LAST else [])
        before = times[: len(times) - len(fires)]
        return Passed(fires=fires, missed=(since, before[-1]) if before else None, coming=coming)

    def _until_change(
        self, at: datetime, change: Change | None, until: datetime
    ) -> Generator[datetime, None, _Place | None]:
        """The due times from ``at`` on, up to the next change of the offset: that place, None behind ``until``.

        ``change`` is the one before ``at``, when it is near.
        """
        last = None
        for due in self._evenly(at, change):
            coming = _change_behind(self.zone, at, min(due, until))
            if coming is not None:
                return (coming.at, coming)
            if due > until:
                break
            if due != last:
                yield due
            last = due
        return None

    def _evenly(self, at: datetime, change: Change | None) -> Iterator[datetime]:
        """The due times from ``at`` on, as if the offset never changed again; one may come twice."""
        offset, low = _offset(self.zone, at), at
        start = at + offset
        if change is not None and self.rule.fixed:
            # the local clock goes on where it was at the change: into what was skipped, or behind what comes twice
            evenly = change.at + change.before
            start = evenly if at == change.at else max(start, evenly)
        for local in cron.local_times(self.rule, start.replace(tzinfo=None)):
            yield max((local - offset).replace(tzinfo=UTC), low)


@functools.cache
def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises ZoneError. Reads the machine's, or else tzdata's, files, once for each."""
    known = _names()
    if name not in known:
        same = [one for one in known if one.lower() == name.lower()]
        near = same or difflib.get_close_matches(name, known, n=_SUGGESTED)
        hint = f"did you mean {' or '.join(sorted(near))}?" if near else "like 'Europe/Paris'"
        raise ZoneError(f"it must be the name of a time zone of the IANA database, {hint}")
    return ZoneInfo(name)


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or _NO_OFFSET


def _minute_behind(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0) + _MINUTE


def _change_before(zone: ZoneInfo, at: datetime) -> Change | None:
    """The change at ``at``, or so near before it that what it skips or repeats may reach it."""
    near = at - _NEAR
    for year in range(at.year, near.year - 1, -1):
        for change in reversed(changes(zone, year)):
            if near < change.at <= at:
                return change
    return None


def _change_behind(zone: ZoneInfo, at: datetime, until: datetime) -> Change | None:
    """The first change in (``at``, ``until``]."""
    for year in range(at.year, until.year + 1):
        for change in changes(zone, year):
            if at < change.at:
                return change if change.at <= until else None
    return None


@functools.lru_cache(maxsize=10_000)
def changes(zone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """The changes of the offset in a year of UTC, in order. About 370 looks at the zone, once."""
    found = []
    at, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    before = _offset(zone, at - _MINUTE)
    low = at - _MINUTE
    while low < end - _MINUTE:
        high = min(low + _STEP, end - _MINUTE)
        after = _offset(zone, high)
        if after != before:
            found.append(Change(at=_first_with(zone, after, low, high), before=before, after=after))
        low, before = high, after
    return tuple(found)


def _first_with(zone: ZoneInfo, offset: timedelta, low: datetime, high: datetime) -> datetime:
    """The first whole minute in (``low``, ``high``] that has ``offset``, when ``low`` has another one."""
    minutes = (high - low) // _MINUTE
    first, last = 0, minutes  # first: has another one; last: has it
    while last - first > 1:
        middle = (first + last) // 2
        if _offset(zone, low + middle * _MINUTE) == offset:
            last = middle
        else:
            first = middle
    return low + last * _MINUTE


def is_ahead(due_at: datetime | None, now: datetime) -> bool:
    """Whether what is due at ``due_at`` may not run yet.

    What is due later than MADE_AHEAD was made when the clock showed a later time: it was due then, and waits no more.
    """
    return due_at is not None and now < due_at <= now + MADE_AHEAD
