"""`tidemill run job NAME`: start an execution, and on request wait for its end."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from tidemill.cli import output, progress
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import INTERRUPTED, CommandError, usage
from tidemill.cli.inputs import Inputs, Overrides, body, parse_env, read_file, read_text
from tidemill.cli.output import Output
from tidemill.sdk import Client, Created, Execution, PageQuery, Stats, Task

app = App(name="run", help="Run a job over its inputs.")

_FAILED_SHOWN = 5


@Parameter(name="*", group="Inputs", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """What to run the job over."""

    data: Annotated[str, Parameter(alias="-d")] = ""
    """JSON: an array of task arguments, one object of arguments, or a whole request with `tasks`."""
    file: Annotated[Path | None, Parameter(alias="-f", allow_leading_hyphen=True)] = None
    """The same from a file: .json, .yaml, or .jsonl with one task's arguments a line; - is stdin."""
    env: Annotated[list[str], Parameter(alias="-e", negative="")] = field(default_factory=list)
    """NAME=VALUE for the environment of every task; may be repeated."""
    memory: int | None = None
    """Memory of a task in MB, at most the job's."""
    id: str = ""
    """The execution's id, 8 to 64 of A-Za-z0-9._-; the same id again is the same execution."""


@app.command
def job(
    name: str,
    /,
    *,
    what: What | None = None,
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Start an execution of a job. Prints its id; with --wait shows its progress and ends as it ended.

    Parameters
    ----------
    name
        The job.
    wait
        Wait until every task has ended; exit code 1 unless all succeeded.
    """
    what = what or What()
    request = body(_inputs(what), Overrides(env=parse_env(what.env), memory_mb=what.memory, execution_id=what.id))
    with connected(server or Connection()) as client:
        created = client.create_execution(name, request)
        follow(client, name, created, wait=wait, form=form)


def follow(client: Client, name: str, created: Created, *, wait: bool, form: output.Format) -> None:
    """Say what was started, or wait for its end. Raises CommandError unless all its tasks succeeded."""
    execution = created["executionId"]
    if not wait:
        _print_started(name, execution, created, form)
        return
    if form == "table":
        print(execution, flush=True)
    ended = _wait(client, name, execution)
    _print_ended(client, name, ended, form)
    if ended.get("status") != "succeeded":
        raise CommandError


def _inputs(what: What) -> Inputs | None:
    if what.data and what.file:
        raise usage("give the inputs by --data or by --file, not by both")
    if what.data:
        return read_text(what.data, "--data")
    if what.file:
        return read_file(what.file, sys.stdin.buffer.read() if str(what.file) == "-" else b"")
    return None


def _print_started(name: str, execution: str, created: object, form: output.Format) -> None:
    if form != "table":
        output.print_value(created, form)
        return
    print(execution)
    short = output.short_id(execution)
    output.hint(
        f"state:    tidemill get execution {name} {short}",
        f"logs:     tidemill logs job {name} {short} --follow",
        f"results:  tidemill results {short} --follow",
    )


def _wait(client: Client, name: str, execution: str) -> Execution:
    try:
        with progress.display(output.stderr()) as shown:
            return progress.watch(client, name, execution, shown)
    except KeyboardInterrupt:
        short = output.short_id(execution)
        raise CommandError(
            f"no longer waiting; execution {execution} goes on",
            code=INTERRUPTED,
            advice=(
                f"state:   tidemill get execution {name} {short}",
                f"cancel:  tidemill cancel {name} {short}",
            ),
        ) from None


def _print_ended(client: Client, name: str, ended: Execution, form: output.Format) -> None:
    if form != "table":
        output.print_value(ended, form)
        return
    console = output.stdout()
    stats, metadata = ended.get("stats", Stats()), ended.get("metadata", {})
    took = output.span(metadata.get("createdAt"), metadata.get("completedAt"), output.wall_clock())
    line = output.state(ended.get("status", ""))
    line.append(f": {stats.get('success', 0)} of {stats.get('total', 0)} tasks succeeded in {took}", style="not bold")
    console.print(line, soft_wrap=True)
    short = output.short_id(metadata.get("id", ""))
    if stats.get("failure", 0):
        _print_failed(client, name, ended, console)
    _print_dropped(ended, console)
    output.hint(f"results:  tidemill results {short}", f"logs:     tidemill logs job {name} {short}")


def _print_failed(client: Client, name: str, ended: Execution, console: Console) -> None:
    execution = ended.get("metadata", {}).get("id", "")
    page = client.list_tasks(name, execution, PageQuery(limit=_FAILED_SHOWN, status="failed"))
    # an older server may not know the filter
    failed = [task for task in page.items if task.get("status") == "failed"][:_FAILED_SHOWN]
    for task in failed:
        reason, message = cause(task)
        text = Text(f"  {task_name(task)}  ")
        text.append(reason, style="red").append(f"  {message}")
        console.print(text, soft_wrap=True)
    hidden = ended.get("stats", Stats()).get("failure", 0) - len(failed)
    if failed and hidden > 0:
        console.print(f"  and {hidden} more: tidemill results {output.short_id(execution)} --failed", soft_wrap=True)
    if failed:
        first = task_name(failed[0])
        output.hint(f"why:      tidemill logs job {name} {output.short_id(execution)} {first}")


def _print_dropped(ended: Execution, console: Console) -> None:
    """Results that the server did not take: an execution's answer has its first tasks, and they say so."""
    dropped = [task for task in ended.get("tasks") or [] if task.get("status") == "succeeded" and cause(task)[0]]
    if not dropped:
        return
    reason, message = cause(dropped[0])
    all_seen = len(ended.get("tasks") or []) >= ended.get("stats", Stats()).get("total", 0)
    count = f"{'' if all_seen else 'at least '}{len(dropped)} result{'s' if len(dropped) > 1 else ''}"
    text = Text(f"  {count} dropped, {'that' if len(dropped) == 1 else 'first that'} of {task_name(dropped[0])}  ")
    text.append(reason, style="yellow").append(f"  {message}")
    console.print(text, soft_wrap=True)


def task_name(task: Task) -> str:
    """What the server calls a task, such as `task-7`."""
    return task.get("metadata", {}).get("name", "") or "-"


def cause(task: Task) -> tuple[str, str]:
    """Reason and message of a task's last condition; both empty when it has none."""
    conditions = task.get("conditions") or []
    if not conditions:
        return "", ""
    last = conditions[-1]
    return last.get("reason") or last.get("type", ""), last.get("message", "")
