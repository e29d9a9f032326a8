"""`tidemill logs job NAME [EXECUTION [TASK]]`: what tasks and builds have printed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.following import Pause
from tidemill.cli.output import Output
from tidemill.manifest import ManifestError, duration_s
from tidemill.sdk import ENDED, Client, ConnectionFailedError, LogLine, LogQuery
from tidemill.sdk.calls import ALL_SEVERITIES

app = App(name="logs", help="Show what tasks have printed.")

_PAGE: Final = 1000
_DEFAULT_PERIOD: Final = "1h"
_LOOK_EVERY_S: Final = 1.0
# output travels in blocks of up to a second, over a node and a server: a line may be found some time after it was
# printed
_LATE: Final = timedelta(seconds=30)
_QUIET_LOOKS: Final = 3
"""An execution that has ended is followed until so many looks in a row have found nothing new."""
_MOST_LINES: Final = 100_000
_ERROR: Final = 17
"""The OpenTelemetry number from which on a line is an error."""


@Parameter(name="*", group="Lines", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Which lines."""

    follow: Annotated[bool, Parameter(alias="-f", negative="", show_default=False)] = False
    """Go on until the execution has ended; without an execution until Ctrl-C."""
    search: Annotated[str, Parameter(alias="-s")] = ""
    """Only lines that contain this text."""
    severity: str = ""
    """Only these severities, comma separated: FATAL, ERROR, WARNING, INFO, DEBUG, TRACE, UNKNOWN."""
    period: str = ""
    """How far back, such as 10m, 1h, 3d (default: 1h; of an execution: all of it)."""
    limit: int = _PAGE
    """At most so many lines, the newest."""


@app.command
def job(
    name: str,
    execution: Annotated[str, Parameter(show_default=False)] = "",
    task: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    which: Lines | None = None,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Show the lines of a job, of one of its executions, or of one task.

    Parameters
    ----------
    name
        The job.
    execution
        An execution's id; its first eight characters will do.
    task
        A task by its index or its name, such as 7 or task-7.
    """
    which = which or Lines()
    now = _now()
    with connected(server or Connection()) as client:
        query = LogQuery(
            job=name,
            start=_start(client, name, execution, which.period, now),
            end=now + timedelta(seconds=2),
            execution=execution,
            task=f"task-{task}" if task.isdecimal() else task,
            search=which.search,
            severities=_severities(which.severity),
        )
        tail = Tail()
        lines, total = read_window(client, query, which.limit)
        fresh = tail.fresh(lines)
        _print(fresh, query, form)
        if which.follow:
            _follow(client, query, tail, form)
        elif not fresh:
            _say(
                "no lines" if execution else f"no lines in the last {which.period or _DEFAULT_PERIOD}; try --period 1d"
            )
        elif total > len(lines):
            _say(f"the newest {len(lines)} of {total} lines; --limit N shows more")


class Tail:
    """Which lines of overlapping windows have not been seen yet.

    Lines have no number, and a program may print the same line twice within a tick of its clock: they are counted.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str, str, int]] = Counter()

    def fresh(self, window: Sequence[LogLine]) -> list[LogLine]:
        """The new lines of a window that comes newest first, oldest first."""
        counted: Counter[tuple[str, str, str, int]] = Counter()
        found = []
        for line in reversed(window):
            key = (line.get("timestamp", ""), line.get("message", ""), line.get("task", ""), line.get("attempt", 0))
            counted[key] += 1
            if counted[key] > self._seen[key]:
                self._seen[key] = counted[key]
                found.append(line)
        return found


def read_window(client: Client, query: LogQuery, limit: int) -> tuple[list[LogLine], int]:
    """At most `limit` lines of a window, newest first, and how many the window has."""
    lines: list[LogLine] = []
    while True:
        wanted = min(_PAGE, limit - len(lines))
        page = client.logs(replace(query, limit=wanted, offset=len(lines)))
        found = page.get("logs") or []
        lines += found
        if len(found) < wanted or len(lines) >= limit:
            return lines, max(page.get("totalCount", 0), len(lines))


def _follow(client: Client, query: LogQuery, tail: Tail, form: output.Format) -> None:
    quiet, away = 0, False
    since = query.start
    pause = Pause(client, query.job, query.execution)
    while quiet < _QUIET_LOOKS:
        pause.sleep(_LOOK_EVERY_S)
        now = _now()
        try:
            lines, _ = read_window(client, replace(query, start=since, end=now + timedelta(seconds=2)), _MOST_LINES)
            ended = bool(query.execution) and _has_ended(client, query)
        except ConnectionFailedError:
            if not away:
                _say("the server does not answer; waiting for it")
            away = True
            continue
        fresh = tail.fresh(lines)
        _print(fresh, query, form)
        quiet = quiet + 1 if ended and not fresh else 0
        # while the server was away nothing was collected: what was printed then is found late
        since = since if away else max(query.start, now - _LATE)
        away = False


def _has_ended(client: Client, query: LogQuery) -> bool:
    return client.get_execution(query.job, query.execution).get("status") in ENDED


def _start(client: Client, name: str, execution: str, period: str, now: datetime) -> datetime:
    """The beginning of the window: of an execution its creation, so that yesterday's is found too."""
    if execution and not period:
        created = output.parse_time(client.get_execution(name, execution).get("metadata", {}).get("createdAt"))
        if created is not None:
            return created
    try:
        return now - timedelta(seconds=duration_s(period or _DEFAULT_PERIOD))
    except ManifestError as error:
        raise usage(f"--period: {error}") from error


def _severities(text: str) -> tuple[str, ...]:
    words = tuple(word.strip().upper() for word in text.split(",") if word.strip())
    for word in words:
        if word not in ALL_SEVERITIES:
            raise usage(f"no severity {word!r}; there are {', '.join(ALL_SEVERITIES)}")
    return words or ALL_SEVERITIES


def _print(lines: list[LogLine], query: LogQuery, form: output.Format) -> None:
    if form != "table":
        for line in lines:
            output.print_line(line) if form == "json" else output.print_value([line], form)
        return
    console = output.stdout()
    for line in lines:
        print_line(console, line, origin(line, one_task=bool(query.task)))


def origin(line: LogLine, *, one_task: bool) -> str:
    """What to put before a line, to tell whose it is; empty where that is clear, or the server does not say it."""
    task = "" if one_task else line.get("task", "")
    if not task and not one_task:
        return ""
    attempt = line.get("attempt", 1)
    name = f"{task}#{attempt}" if attempt > 1 else task
    return f"{name} │ " if name else ""


def print_line(console: Console, line: LogLine, before: str = "") -> None:
    """One line with its time: of the day on a terminal, RFC 3339 where it is kept."""
    stamp = line.get("timestamp", "")
    at = output.parse_time(stamp)
    if console.is_terminal and at is not None:
        stamp = at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    text = Text(stamp, style="dim")
    text.append(f" {before}").append(
        line.get("message", ""), style="not dim red" if line.get("severity", 0) >= _ERROR else "not dim"
    )
    console.print(text, soft_wrap=True)


def _now() -> datetime:
    return output.wall_clock().astimezone(UTC)


def _say(line: str) -> None:
    output.hint(line)
