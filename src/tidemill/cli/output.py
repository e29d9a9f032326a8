"""What people and programs read: tables with humanised times, JSON and YAML with the server's own words."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeAlias

import yaml
from cyclopts import Parameter
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Format: TypeAlias = Literal["table", "json", "yaml"]

Output: TypeAlias = Annotated[
    Format, Parameter(name=["--output", "-o"], help="table for people; json or yaml: the server's objects.")
]

_OUR_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GAP: Final = 2
"""Blanks between two columns."""
_SHORTEST: Final = 12
"""What is left of a long text when a table is made narrower, in columns of the terminal."""
_STYLES: Final = {
    "succeeded": "green",
    "deployed": "green",
    "ready": "green",
    "running": "cyan",
    "building": "cyan",
    "deploying": "cyan",
    "uploading": "cyan",
    "cancelling": "yellow",
    "failed": "red",
    "cancelled": "yellow",
    "terminated": "dim",
    "deactivated": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `numeric` ones are aligned at their last digit.

    On a terminal that is too narrow a `long` text is shortened, and a `spare` column is left out; others stay whole.
    """

    title: str
    numeric: bool = False
    long: bool = False
    spare: bool = False


def wall_clock() -> datetime:
    """Now, in UTC: the one clock of the client commands, read where a command begins and in its waiting loops."""
    return datetime.now(UTC)  # noqa: TID251 - the client has no main loop above its commands


def stdout() -> Console:
    """A console on stdout: as wide as the terminal, or as wide as needed when there is none."""
    return _console(stderr=False)


def stderr() -> Console:
    """A console on stderr, for what is said beside the answer."""
    return _console(stderr=True)


def hint(*lines: str) -> None:
    """Say what may be typed next; never part of the answer."""
    console = stderr()
    for line in lines:
        console.print(Text(line, style="dim"), soft_wrap=True)


def print_value(value: object, form: Format) -> None:
    """Print an answer as it came, as JSON or YAML."""
    if form == "yaml":
        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
    else:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_line(value: object) -> None:
    """Print one value as one line of JSON, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows under their titles. Cells are shown as they are: no markup, no guessed colours."""
    console = stdout()
    for line in layout(columns, rows, console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True)


def layout(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], width: int | None) -> list[Text]:
    """The lines of a table, the titles first, each of `width` at most where long and spare columns allow that.

    None is any width. A cell is one line, whatever it holds; no line ends in blanks.
    """
    lines = [[Text(column.title, style="bold") for column in columns], *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[place].plain) for line in lines) for place in range(len(columns))]
    shown = list(range(len(columns)))
    if width is not None:
        shown = _shown(columns, widths, width)
        _shorten(columns, widths, shown, width)
    return [_join([(columns[place], line[place], widths[place]) for place in shown]) for line in lines]


def shown_id(execution: str) -> str:
    """An execution's id in a table: what may be typed on a terminal, all of it where it is kept."""
    return short_id(execution) if stdout().is_terminal else execution


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(word or "-", style=_STYLES.get(word.lower(), ""))


def short_id(execution: str) -> str:
    """An execution's id as it may be typed: eight characters of one that we made, all of one that a caller chose."""
    return execution[:8] if _OUR_ID.fullmatch(execution) else execution


def parse_time(text: str | None) -> datetime | None:
    """A time of the wire (RFC 3339), or None where there is none or none that can be read."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def ago(text: str | None, now: datetime) -> str:
    """A time of the wire as people say it: `12 s ago`, `3 h ago`, `5 d ago`; `-` where there is none."""
    at = parse_time(text)
    if at is None:
        return "-"
    seconds = (now - at).total_seconds()
    if seconds < 0:
        # clocks of two machines differ by a little; by more, the date says it better
        return "now" if seconds > -60 else at.astimezone().strftime("%Y-%m-%d %H:%M")
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (100 * 86400, 86400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return at.astimezone().strftime("%Y-%m-%d")


def until(text: str | None, now: datetime) -> str:
    """How long it is to a time of the wire; "-" without one."""
    then = parse_time(text)
    return "-" if then is None else f"in {duration(max(0.0, (then - now).total_seconds()))}"


def duration(seconds: float) -> str:
    """A span as people say it, with two units at most: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def span(start: str | None, end: str | None, now: datetime) -> str:
    """How long something took, or takes until now; `-` when it has not started."""
    begun = parse_time(start)
    if begun is None:
        return "-"
    return duration(((parse_time(end) or now) - begun).total_seconds())


def _cell(cell: str | Text) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(cell if cell.isprintable() else " ".join(cell.split()))


def _shown(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The places of the columns that fit, each long one shortened: spare ones go, the last one first."""
    least = [min(own, _SHORTEST) if column.long else own for column, own in zip(columns, widths, strict=True)]
    shown = list(range(len(columns)))
    for place in reversed([place for place, column in enumerate(columns) if column.spare]):
        if _total(least, shown) > width:
            shown.remove(place)
    return shown


def _shorten(columns: Sequence[Column], widths: list[int], shown: Sequence[int], width: int) -> None:
    """Take what is too much from the long columns, always from the widest of them."""
    long = [place for place in shown if columns[place].long]
    for place in long:
        widths[place] = min(widths[place], max(width, _SHORTEST))
    while long and _total(widths, shown) > width:
        widest = max(long, key=lambda place: widths[place])
        if widths[widest] <= _SHORTEST:
            return
        widths[widest] -= 1


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[place] for place in shown) + _GAP * (len(shown) - 1)


def _join(cells: Sequence[tuple[Column, Text, int]]) -> Text:
    line = Text()
    for number, (column, cell, width) in enumerate(cells):
        fitted = cell.copy()
        fitted.truncate(width, overflow="ellipsis")
        blanks = " " * (width - cell_len(fitted.plain))
        line.append(" " * _GAP if number else "")
        line.append_text(Text(blanks) + fitted if column.numeric else fitted + Text(blanks))
    line.rstrip()
    return line


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    # without a terminal rich would cut every table at 80 columns
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=1000)
