"""Watching an execution until it has ended: how it is asked, how fast it goes, how that is shown."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from tidemill.cli.following import Pause
from tidemill.cli.output import duration, parse_time
from tidemill.sdk import ENDED, Client, ConnectionFailedError, Execution, Stats

_WINDOW_S: Final = 30.0
"""The rate is that of the last 30 s: long enough to be steady, short enough to follow a change."""
_FIRST_LOOK_S: Final = 0.1
_SLOWEST_LOOK_S: Final = 2.0
_LINE_EVERY_S: Final = 5.0
_AWAY_LOOK_S: Final = 1.0


@dataclass(slots=True)
class Pace:
    """How many tasks end per second, from what was seen so far. Times are seconds of any clock that only grows."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _first: tuple[float, int] | None = None

    def observe(self, at_s: float, done: int) -> None:
        """At `at_s` this many tasks had ended."""
        self._first = self._first or (at_s, done)
        self._seen.append((at_s, done))
        # one sample older than the window stays, so that the window is always covered
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - _WINDOW_S:
            self._seen.popleft()

    def rate(self) -> float:
        """Tasks per second in the window; where none ended in it, since the beginning; 0 before the first end."""
        if self._first is None:
            return 0.0
        last = self._seen[-1]
        for begin in (self._seen[0], self._first):
            if last[1] > begin[1] and last[0] > begin[0]:
                return (last[1] - begin[1]) / (last[0] - begin[0])
        return 0.0

    def left_s(self, remaining: int) -> float | None:
        """How long `remaining` tasks will take at this rate; None when nothing is known yet."""
        rate = self.rate()
        return remaining / rate if rate > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at an execution shows."""

    status: str
    stats: Stats
    rate: float
    """Tasks per second: of late, and on average once it has ended."""
    left_s: float | None

    @property
    def total(self) -> int:
        return self.stats.get("total", 0)

    @property
    def done(self) -> int:
        return done(self.stats)

    def words(self) -> str:
        """The look as one line."""
        stats = self.stats
        parts = [
            f"{self.done}/{self.total} done",
            f"{stats.get('running', 0)} running",
            f"{stats.get('failure', 0)} failed",
        ]
        if retried := stats.get("retried", 0):
            parts.append(f"{retried} retried")
        if self.rate:
            speed = f"{self.rate:.1f}/s" if self.rate >= 0.1 else f"{self.rate * 60:.1f}/min"
            parts.append(f"{speed} on average" if self.status in ENDED else speed)
        if self.left_s is not None and self.done < self.total:
            parts.append(f"{duration(self.left_s)} left")
        if self.status not in {"running", "succeeded"}:
            parts.insert(0, self.status)
        return "  ".join(parts)


class Display(Protocol):
    """Where looks are shown."""

    def show(self, look: Look) -> None:
        """Show what is now."""

    def say(self, line: str) -> None:
        """Say something once, above what is shown."""


@dataclass(frozen=True, slots=True)
class _Bar:
    progress: Progress
    row: TaskID

    def show(self, look: Look) -> None:
        colour = "red" if look.stats.get("failure", 0) else "green"
        self.progress.update(self.row, completed=look.done, total=look.total or None, words=look.words(), colour=colour)

    def say(self, line: str) -> None:
        self.progress.console.print(line)


@dataclass(slots=True)
class _Lines:
    """For a log file or a pipe: a line every few seconds, and the last one."""

    console: Console
    _last_s: float = float("-inf")
    _words: str = ""

    def show(self, look: Look) -> None:
        at_s = time.monotonic()
        if look.status not in ENDED and at_s - self._last_s < _LINE_EVERY_S:
            return
        if (words := look.words()) != self._words:
            self.console.print(words)
        self._last_s, self._words = at_s, words

    def say(self, line: str) -> None:
        self.console.print(line)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A progress bar on a terminal, else lines."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("[{task.fields[colour]}]{task.fields[words]}"))
    with Progress(*columns, console=console, transient=False) as progress:
        row = progress.add_task("", total=None, words="asking the server", colour="green")
        yield _Bar(progress, row)


def done(stats: Stats) -> int:
    """How many tasks have ended, in whatever way."""
    return stats.get("success", 0) + stats.get("failure", 0) + stats.get("cancelled", 0)


def average(ended: Execution) -> float:
    """Tasks per second of an execution that has ended, from its first start to its end; 0 where that is not known.

    Those that were cancelled are not counted: most of them never ran.
    """
    metadata, stats = ended.get("metadata", {}), ended.get("stats", Stats())
    begin = parse_time(metadata.get("startedAt") or metadata.get("createdAt"))
    end = parse_time(metadata.get("completedAt"))
    if begin is None or end is None or end <= begin:
        return 0.0
    return (stats.get("success", 0) + stats.get("failure", 0)) / (end - begin).total_seconds()


def watch(client: Client, job: str, execution: str, shown: Display) -> Execution:
    """Look at an execution until it has ended, and return what it was then.

    A server that is away is waited for: executions outlive it, and it will be back.
    """
    pace, pause = Pace(), Pause(client, job, execution)
    pause_s, away = _FIRST_LOOK_S, False
    while True:
        try:
            found = client.get_execution(job, execution)
        except ConnectionFailedError as error:
            if not away:
                shown.say(f"the server does not answer ({error.reason}); the execution goes on, waiting for the server")
            away = True
            time.sleep(_AWAY_LOOK_S)
            continue
        if away:
            shown.say("the server is back")
            away = False
        stats, status = found.get("stats", Stats()), found.get("status", "")
        pace.observe(time.monotonic(), done(stats))
        left_s = pace.left_s(stats.get("total", 0) - done(stats))
        # of a fast run the looks have seen too little to say how fast it was
        rate = average(found) if status in ENDED else pace.rate()
        shown.show(Look(status=status, stats=stats, rate=rate, left_s=left_s))
        if status in ENDED:
            return found
        pause.sleep(pause_s)
        pause_s = min(pause_s * 1.3, _SLOWEST_LOOK_S)
