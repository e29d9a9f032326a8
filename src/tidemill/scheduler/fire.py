"""The trigger clock: what is due becomes executions, once for each trigger and due time.

Every due time lies on a whole minute, so the clock looks at each of them, when the next trigger is due, and once a
second besides: a look is one read of three places in indices, however many triggers there are. What it remembers only
saves work. A crash at any line leaves ticks that the next look settles, under the same keys.

What many triggers start is made a little ahead of its time, and runs from then on (docs/decisions/0117).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tidemill.model.ids import InputSetKey, key_run
from tidemill.model.region import Regions
from tidemill.scheduler.head_start import HeadStart
from tidemill.scheduler.problems import Problems
from tidemill.scheduler.repeat import Repeat
from tidemill.store import inputs, ticks, triggers
from tidemill.store.database import Database
from tidemill.store.ticks import Firing
from tidemill.store.triggers import Given

LOOK_EVERY_S: Final = 1.0
"""The longest sleep: the wall clock may be set while the clock sleeps."""
# how much the wall clock may fall behind the steady one between two looks and still be called the same
_SLACK_S: Final = 1.0
_PLANNED_AT_ONCE: Final = 500
_GIVEN_AT_ONCE: Final = 50
# a unit of work writes at most 4 MiB; the arguments of one trigger are at most 1 MiB
_UNIT_BYTES: Final = 2 << 20
_MINUTE: Final = timedelta(minutes=1)
# from when on it is looked how many are due: more than a sleep
_SOON: Final = timedelta(seconds=2 * LOOK_EVERY_S)


def made_keys(now: datetime) -> Iterator[int]:
    """Keys as a server makes them."""
    return key_run(int(now.timestamp() * 1000))


class TriggerClock:
    """The clock without its thread. ``steady`` shows seconds and is never set: by it a wall clock set back shows.

    ``keys`` makes the keys of one look. Without a ``head_start`` nothing begins before it is due.
    """

    def __init__(
        self,
        *,
        database: Database,
        steady: Callable[[], float],
        regions: Regions,
        keys: Callable[[datetime], Iterator[int]] = made_keys,
        head_start: HeadStart | None = None,
    ) -> None:
        self._database = database
        self._head_start = head_start
        self._steady = steady
        self._regions = regions
        self._keys = keys
        self._ahead_s: float | None = None  # the wall clock, of the steady one

    def tick(self, term: int, now: datetime) -> datetime | None:
        """Settle all that is due; when to look again, None for never: before something is due. Raises StaleTerm.

        With nothing due soon and nothing new it is one read.
        """
        if self._is_new(now):
            self._plan(now)
        self._ahead_s = now.timestamp() - self._steady()
        keys = self._keys(now)
        alarm = self._database.read(triggers.alarm)
        is_due = alarm.open_ticks or (alarm.due_at is not None and alarm.due_at <= now)
        if is_due:
            self._fire(term, keys, now)
        if alarm.without_inputs:
            self._give_inputs(keys, now)
            self._fire(term, keys, now)
        due_at = self._database.read(triggers.alarm).due_at if is_due else alarm.due_at
        if due_at is None or self._head_start is None or due_at > now + _SOON:
            return due_at
        count = self._database.read(partial(ticks.count_due, at=due_at))
        begin_at = due_at - timedelta(seconds=self._head_start.seconds(count))
        if now < begin_at or due_at <= now:
            return begin_at
        began_s = self._steady()
        more = self._fire_some(Firing(term=term, keys=keys, regions=self._regions), due_at)
        self._head_start.learn(count, self._steady() - began_s)
        if more:
            # the rest is late anyway: nothing of it is made before it is due
            return due_at
        return self._database.read(triggers.alarm).due_at

    def _is_new(self, now: datetime) -> bool:
        """Whether this is the first look, or the wall clock was set back since the last."""
        return self._ahead_s is None or now.timestamp() - self._steady() < self._ahead_s - _SLACK_S

    def _plan(self, now: datetime) -> None:
        after: tuple[int, str] | None = (-1, "")
        while after is not None:
            after = self._database.write(
                partial(triggers.replan, after=after, now=now, limit=_PLANNED_AT_ONCE), urgent=True, wakes=False
            )

    def _fire(self, term: int, keys: Iterator[int], now: datetime) -> None:
        firing = Firing(term=term, keys=keys, regions=self._regions)
        while self._fire_some(firing, now):
            pass

    def _fire_some(self, firing: Firing, now: datetime) -> bool:
        return self._database.write(partial(ticks.fire, firing=firing, now=now), urgent=True)

    def _give_inputs(self, keys: Iterator[int], now: datetime) -> None:
        """Store the arguments of new triggers, which all their executions share. Compressed outside of the units."""
        while bare := self._database.read(partial(triggers.without_inputs, limit=_GIVEN_AT_ONCE)):
            held, size = list[Given](), 0
            for one in bare:
                held.append(Given.of(one, InputSetKey(next(keys)), inputs.tasks_of(one.tasks)))
                size += sum(len(chunk.data) for chunk in held[-1].chunks)
                if size > _UNIT_BYTES:
                    self._give(held, now)
                    held, size = [], 0
            self._give(held, now)

    def _give(self, given: Sequence[Given], now: datetime) -> None:
        if given:
            self._database.write(partial(triggers.give_inputs, given=given, now=now), urgent=True, wakes=False)


class Firer(Repeat):
    """The clock's thread. ``term`` asks for the scheduler's present one."""

    def __init__(
        self,
        triggers_clock: TriggerClock,
        *,
        clock: Callable[[], datetime],
        term: Callable[[], int],
        problems: Problems,
    ) -> None:
        super().__init__(self._look, name="triggers", source="triggers", problems=problems, again_s=LOOK_EVERY_S)
        self._triggers_clock = triggers_clock
        self._clock = clock
        self._term = term

    def _look(self) -> float:
        again = self._triggers_clock.tick(self._term(), self._clock())
        return pause_s(self._clock(), again)


def pause_s(now: datetime, again: datetime | None) -> float:
    """How long to sleep: to the next whole minute, to ``again``, or a second, whichever comes first."""
    ahead = [now.replace(second=0, microsecond=0) + _MINUTE, *([] if again is None else [again])]
    return max(0.0, min(LOOK_EVERY_S, *((at - now).total_seconds() for at in ahead)))
