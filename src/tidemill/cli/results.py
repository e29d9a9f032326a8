"""`tidemill results [JOB] ID`: what the tasks of an execution have written, one line each."""

import csv
import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from rich.text import Text

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.output import Column
from tidemill.sdk import ApiError, Client, ConnectionFailedError, PageQuery, ResultLine
from tidemill.sdk.wire import Json

_AWAY_LOOK_S: Final = 1.0
_MOST_COLUMNS: Final = 8


def command(  # noqa: PLR0913 - each is a word of the command line
    job_or_id: str,
    execution: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative="", show_default=False)] = False,
    failed: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    chain: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Annotated[Literal["ndjson", "table", "csv", "json", "yaml"], Parameter(name=["--output", "-o"])] = "ndjson",
    server: Connection | None = None,
) -> None:
    """Print the results of an execution in the order of its tasks: those that have ended by now.

    A line is `{"index":0,"status":"succeeded","result":…,"attempts":1,"startedAt":…,"completedAt":…}`; one that failed
    has an `error` with `reason` and `message`.

    Parameters
    ----------
    job_or_id
        The execution's id, its first eight characters will do; or its job: then its newest execution is meant.
    execution
        The execution's id, when the job was named.
    follow
        Wait for every task until the execution has ended.
    failed
        Only tasks that failed.
    chain
        Over an execution and all its reruns: of each task the newest success, else how it went last.
    form
        ndjson streams a line per task; csv and table have a column for each member of the results.
    """
    if chain and follow:
        raise usage("--chain tells how it is now; give it without --follow")
    with connected(server or Connection()) as client:
        job, execution = (job_or_id, execution) if execution else _find(client, job_or_id)
        lines = _follow(client, job, execution) if follow else client.results(job, execution, chain=chain)
        wanted = (line for line in lines if not failed or line.get("status") == "failed")
        printed = _PRINTERS[form](wanted)
    if not printed:
        output.hint("no task has failed" if failed else "no task has ended yet; --follow waits for them")


def _find(client: Client, job_or_id: str) -> tuple[str, str]:
    """Job and id of the execution that a single word means: its id, else the newest one of the job of that name."""
    try:
        metadata = client.find_execution(job_or_id)["metadata"]
    except ApiError as error:
        if error.status not in {400, 404}:
            raise
        newest = _newest(client, job_or_id)
        if newest is None:
            raise
        output.hint(f"execution {newest} of job {job_or_id}, the newest")
        return job_or_id, newest
    return metadata["job"], metadata["id"]


def _newest(client: Client, job: str) -> str | None:
    try:
        page = client.list_executions(job, PageQuery(limit=1))
    except ApiError:
        return None
    return page.items[0]["metadata"]["id"] if page.items else None


def _follow(client: Client, job: str, execution: str) -> Iterator[ResultLine]:
    """Results until the execution has ended, over restarts of the server."""
    after, away = -1, False
    while True:
        try:
            for line in client.results(job, execution, follow=True, after=after):
                after, away = line["index"], False
                yield line
        except ConnectionFailedError:
            if not away:
                output.hint("the server does not answer; the execution goes on, waiting for the server")
            away = True
            time.sleep(_AWAY_LOOK_S)
        else:
            return


def _print_ndjson(lines: Iterator[ResultLine]) -> int:
    count = 0
    for line in lines:
        output.print_line(line)
        count += 1
    return count


def _print_json(lines: Iterator[ResultLine]) -> int:
    held = list(lines)
    output.print_value(held, "json")
    return len(held)


def _print_yaml(lines: Iterator[ResultLine]) -> int:
    held = list(lines)
    output.print_value(held, "yaml")
    return len(held)


def _print_csv(lines: Iterator[ResultLine]) -> int:
    held = list(lines)
    names = members(held)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("index", "status", "attempts", "startedAt", "completedAt", "reason", "message", *names))
    for line in held:
        error = line.get("error", {})
        fixed = (line["index"], line.get("status", ""), line.get("attempts", ""), line.get("startedAt", ""))
        ends = (line.get("completedAt", ""), error.get("reason", ""), error.get("message", ""))
        writer.writerow((*fixed, *ends, *(cell(line, name) for name in names)))
    return len(held)


def _print_table(lines: Iterator[ResultLine]) -> int:
    held = list(lines)
    names = members(held)[:_MOST_COLUMNS]
    now = output.wall_clock()
    columns = (
        Column("INDEX", numeric=True),
        Column("STATUS"),
        Column("TRIES", numeric=True),
        Column("TOOK", numeric=True),
        *(_column(held, name) for name in names),
        *((Column("ERROR", long=True),) if any("error" in line for line in held) else ()),
    )
    rows = []
    for line in held:
        error = line.get("error", {})
        fixed: tuple[str | Text, ...] = (
            str(line["index"]),
            output.state(line.get("status", "")),
            str(line.get("attempts", "-")),
            output.span(line.get("startedAt"), line.get("completedAt"), now),
        )
        why = (": ".join(filter(None, (error.get("reason"), error.get("message")))),)
        rows.append((*fixed, *(cell(line, name) for name in names), *why)[: len(columns)])
    if rows:
        output.print_table(columns, rows)
    return len(held)


def members(lines: list[ResultLine]) -> list[str]:
    """The columns that results need: each member of the objects among them, and `result` for anything else."""
    names: dict[str, None] = {}
    for line in lines:
        value = line.get("result")
        if isinstance(value, dict):
            names.update(dict.fromkeys(value))
        elif value is not None:
            names["result"] = None
    return list(names)


def _column(lines: list[ResultLine], name: str) -> Column:
    """Text may be shortened, a number may not."""
    values = [line.get("result") for line in lines]
    cells = [value.get(name) if isinstance(value, dict) else value for value in values]
    numbers = all(value is None or isinstance(value, int | float) for value in cells)
    return Column(name, numeric=numbers, long=not numbers)


def cell(line: ResultLine, name: str) -> str:
    """One member of a result as text; empty where the result has none of that name."""
    value: Json = line.get("result")
    if isinstance(value, dict):
        value = value.get(name)
    elif name != "result":
        return ""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


_PRINTERS: Final = {
    "ndjson": _print_ndjson,
    "json": _print_json,
    "yaml": _print_yaml,
    "csv": _print_csv,
    "table": _print_table,
}
