"""`tidemill get …`: what there is, as a table or as the server's objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar, assert_never

from cyclopts import Parameter
from rich.text import Text

from tidemill.cli import output, protections
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.lookup import find_execution
from tidemill.cli.nodes import print_nodes
from tidemill.cli.output import Column, Output
from tidemill.cli.run import cause, task_name
from tidemill.cli.triggers import print_triggers
from tidemill.sdk import Attempt, Client, Execution, Job, Page, PageQuery, Stats, Task, Workspace

T = TypeVar("T")

_WITH_STATUS: Final = ("jobs", "tasks")
"""The lists that the server can narrow by state."""
_FORMS = (
    "jobs",
    "job NAME",
    "executions JOB",
    "execution [JOB] ID",
    "tasks [JOB] ID",
    "task [JOB] ID/INDEX",
    "triggers JOB",
    "workspaces",
    "workspace NAME",
    "nodes",
    "job NAME executions",
    "job NAME execution ID",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked for. An execution's `job` may be empty: then it is found by its id."""

    kind: Literal[
        "jobs", "job", "executions", "execution", "tasks", "task", "triggers", "workspaces", "workspace", "nodes"
    ]
    job: str = ""
    name: str = ""
    """The execution's id, or the workspace's name."""
    task: str = ""
    """The index of one task, or its name."""


@Parameter(name="*", group="Lists", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which entries of a list."""

    limit: int = 200
    """At most so many entries, newest first."""
    all: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Every entry, however many."""
    status: str = ""
    """Only entries in these states, comma separated (of jobs and tasks; nothing else can be asked so)."""


def command(
    kind: str, /, *names: str, which: Which | None = None, form: Output = "table", server: Connection | None = None
) -> None:
    """Show jobs, executions, tasks, triggers, workspaces or nodes.

    Forms: `jobs`, `job NAME`, `executions JOB`, `execution [JOB] ID`, `tasks [JOB] ID`, `task [JOB] ID/INDEX` (which
    shows every attempt), `triggers JOB`, `workspaces`, `workspace NAME`, `nodes`, and as in `bl`: `job NAME
    executions`, `job NAME execution ID`. Instead of an ID its first eight characters will do.

    Parameters
    ----------
    kind
        What to show.
    names
        Which one.
    """
    target, which = parse_target((kind, *names)), which or Which()
    if which.status and target.kind not in _WITH_STATUS:
        raise usage(f"get {target.kind} has no --status; these have: {', '.join(_WITH_STATUS)}")
    with connected(server or Connection()) as client:
        _show(client, target, which, form)


def parse_target(words: Sequence[str]) -> Target:
    """The words behind `get`. Raises a usage error that lists the forms."""
    match _as_bl(words):
        case ("jobs" | "workspaces" | "nodes" as kind,):
            return Target(kind=kind)
        case ("job" | "jobs", name):
            return Target(kind="job", job=name)
        case ("executions" | "triggers" as kind, name):
            return Target(kind=kind, job=name)
        case ("execution" | "tasks" as kind, execution):
            return Target(kind=kind, name=execution)
        case ("execution" | "tasks" as kind, name, execution):
            return Target(kind=kind, job=name, name=execution)
        case ("task", *job, path) if len(job) <= 1 and all(path.partition("/")):
            execution, _, task = path.partition("/")
            return Target(kind="task", job="".join(job), name=execution, task=task)
        case ("workspace" | "workspaces", name):
            return Target(kind="workspace", name=name)
    raise usage(f"cannot get {' '.join(words)!r}", "these can:", *(f"  tidemill get {form}" for form in _FORMS))


def _as_bl(words: Sequence[str]) -> tuple[str, ...]:
    """The forms of `bl`, where the job comes first, turned into ours; any other words as they are."""
    match words:
        case ("job" | "jobs", name, "executions" | "execution"):
            return ("executions", name)
        case ("job" | "jobs", name, "executions" | "execution", execution):
            return ("execution", name, execution)
        case ("job" | "jobs", name, "executions" | "execution", execution, "tasks"):
            return ("tasks", name, execution)
        case ("job" | "jobs", name, "executions" | "execution", execution, "task" | "tasks", task):
            return ("task", name, f"{execution}/{task}")
    return tuple(words)


def _show(client: Client, target: Target, which: Which, form: output.Format) -> None:
    match target.kind:
        case "jobs" | "job":
            jobs = _collect(client.list_jobs, which) if target.kind == "jobs" else client.get_job(target.job)
            _print(jobs, form, lambda found: print_jobs(found if isinstance(found, list) else [found]))
        case "executions":
            executions = _collect(lambda page: client.list_executions(target.job, page), which)
            _print(executions, form, _print_executions)
        case "execution":
            _print(_find(client, target), form, _print_execution)
        case "tasks":
            _show_tasks(client, target, which, form)
        case "task":
            task = client.get_task(*_place(client, target), target.task)
            _print(task, form, _print_task)
        case "triggers":
            _print(client.list_triggers(target.job), form, print_triggers)
        case "workspaces":
            _print(client.list_workspaces(), form, _print_workspaces)
        case "nodes":
            _print(client.list_nodes(), form, print_nodes)
        case "workspace":
            _print(client.get_workspace(target.name), form, lambda workspace: _print_workspaces([workspace]))
        case _:
            assert_never(target.kind)


def _find(client: Client, target: Target) -> Execution:
    """An execution by its id or a prefix; in the whole workspace when the job is not named."""
    if target.job:
        return client.get_execution(target.job, target.name)
    return find_execution(client, target.name, f"get {target.kind}")


def _place(client: Client, target: Target) -> tuple[str, str]:
    """The job and the id of the execution that is meant."""
    if target.job:
        return target.job, target.name
    metadata = _find(client, target)["metadata"]
    return metadata["job"], metadata["id"]


def _show_tasks(client: Client, target: Target, which: Which, form: output.Format) -> None:
    job, execution = _place(client, target)
    _print(_collect(lambda page: client.list_tasks(job, execution, page), which), form, _print_tasks)


def _print(value: T, form: output.Format, as_table: Callable[[T], None]) -> None:
    if form == "table":
        as_table(value)
    else:
        output.print_value(value, form)


def _collect(ask: Callable[[PageQuery], Page[T]], which: Which) -> list[T]:
    """The pages of a list, one after the other, up to the limit; says when there is more."""
    found: list[T] = []
    cursor = ""
    while True:
        room = 100 if which.all else min(100, which.limit - len(found))
        page = ask(PageQuery(limit=room, cursor=cursor, status=which.status))
        found += page.items[:room]
        cursor = page.next_cursor
        if not cursor:
            return found
        if not which.all and len(found) >= which.limit:
            # the server's total is that of the list without the filter
            of = "matching" if which.status else f"of {page.total}"
            output.hint(f"the first {len(found)} {of}; --limit N or --all shows more")
            return found


def print_jobs(jobs: list[Job]) -> None:
    """A table of jobs."""
    now = output.wall_clock()
    columns = (
        Column("NAME"),
        Column("STATUS"),
        Column("IMAGE", long=True, spare=True),
        Column("MEMORY", numeric=True),
        Column("UPDATED", spare=True),
    )
    rows = []
    for job in jobs:
        metadata, runtime = job.get("metadata", {}), job.get("spec", {}).get("runtime") or {}
        memory = runtime.get("memory")
        rows.append(
            (
                metadata.get("name", "-"),
                output.state(job.get("status", "")),
                str(runtime.get("image") or "-"),
                f"{memory} MB" if memory else "-",
                output.ago(metadata.get("updatedAt"), now),
            )
        )
    output.print_table(columns, rows)


def _print_executions(executions: list[Execution]) -> None:
    now = output.wall_clock()
    titles = ("TASKS", "RUNNING", "SUCCEEDED", "FAILED")
    columns = (
        *(Column("ID"), Column("JOB", spare=True), Column("STATUS")),
        *(Column(title, numeric=True) for title in titles),
        *(Column(title) for title in ("CREATED", "TOOK")),
    )
    output.print_table(columns, [_execution_row(execution, now) for execution in executions])


def _execution_row(execution: Execution, now: datetime) -> tuple[str | Text, ...]:
    metadata, stats = execution.get("metadata", {}), execution.get("stats", Stats())
    return (
        output.shown_id(metadata.get("id", "-")),
        metadata.get("job", "-"),
        output.state(execution.get("status", "")),
        str(stats.get("total", 0)),
        str(stats.get("running", 0)),
        str(stats.get("success", 0)),
        str(stats.get("failure", 0)),
        output.ago(metadata.get("createdAt"), now),
        output.span(metadata.get("startedAt"), metadata.get("completedAt"), now),
    )


def _print_execution(execution: Execution) -> None:
    _print_executions([execution])
    metadata = execution.get("metadata", {})
    job, short = metadata.get("job", ""), output.short_id(metadata.get("id", ""))
    output.hint(
        f"tasks:    tidemill get tasks {job} {short}",
        f"results:  tidemill results {short}",
        f"logs:     tidemill logs job {job} {short}",
    )


def _print_tasks(tasks: list[Task]) -> None:
    now = output.wall_clock()
    # a server may not say it
    tries = any("attemptCount" in task for task in tasks)
    columns = (
        *(Column("TASK"), Column("STATUS"), *((Column("TRIES", numeric=True),) if tries else ())),
        *(Column("STARTED", spare=True), Column("TOOK"), Column("REASON"), Column("MESSAGE", long=True)),
    )
    rows = []
    for task in tasks:
        metadata = task.get("metadata", {})
        reason, message = cause(task)
        rows.append(
            (
                task_name(task),
                output.state(task.get("status", "")),
                *((str(task.get("attemptCount", "-")),) if tries else ()),
                output.ago(metadata.get("startedAt"), now),
                output.span(metadata.get("startedAt"), metadata.get("completedAt"), now),
                reason,
                message,
            )
        )
    output.print_table(columns, rows)


def _print_task(task: Task) -> None:
    _print_tasks([task])
    attempts, count = task.get("attempts") or [], task.get("attemptCount", 0)
    if not attempts:
        return
    print_attempts(attempts)
    if had := attempts[-1].get("protections"):
        output.hint(f"attempt {attempts[-1].get('number', '-')} ran at {protections.sentence(had)}")
    if count > len(attempts):
        output.hint(f"the newest {len(attempts)} of {count} attempts")


def print_attempts(attempts: Sequence[Attempt]) -> None:
    """A table of attempts, below that of their task. Those that do not count against maxRetries are `free`."""
    now = output.wall_clock()
    columns = (
        *(
            Column("ATTEMPT", numeric=True),
            Column("OUTCOME"),
            Column("CODE", numeric=True),
            Column("SIGNAL", numeric=True),
        ),
        *(Column("COUNTS", spare=True), Column("STARTED", spare=True), Column("TOOK")),
        *(Column("MEMORY", numeric=True), Column("CPU", numeric=True), Column("NODE", spare=True)),
        Column("MESSAGE", long=True),
    )
    rows = []
    for attempt in attempts:
        peak, cpu_s = attempt.get("peakMemoryBytes"), attempt.get("cpuSeconds")
        rows.append(
            (
                str(attempt.get("number", "-")),
                output.state(attempt.get("outcome", "running" if attempt.get("startedAt") else "claimed")),
                str(attempt.get("exitCode", "-")),
                str(attempt.get("signal", "-")),
                "yes" if attempt.get("charged") else "free",
                output.ago(attempt.get("startedAt"), now),
                output.span(attempt.get("startedAt"), attempt.get("completedAt"), now),
                "-" if peak is None else f"{peak / (1 << 20):.0f} MB",
                "-" if cpu_s is None else f"{cpu_s:.2f} s",
                attempt.get("node", "-"),
                attempt.get("message", ""),
            )
        )
    output.print_table(columns, rows)


def _print_workspaces(workspaces: list[Workspace]) -> None:
    now = output.wall_clock()
    columns = (Column("NAME"), Column("DISPLAY NAME", long=True), Column("CREATED", spare=True))
    rows = [(w.get("name", "-"), w.get("displayName") or "-", output.ago(w.get("createdAt"), now)) for w in workspaces]
    output.print_table(columns, rows)
