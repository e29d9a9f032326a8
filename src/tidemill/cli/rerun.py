"""`tidemill rerun [JOB] ID`: run failed tasks of an execution again."""

import json
from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Parameter

from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.inputs import parse_env
from tidemill.cli.lookup import find_execution
from tidemill.cli.output import Output
from tidemill.cli.run import follow


@Parameter(name="*", group="Which tasks", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which tasks of the execution; those that failed, when nothing is said. Several filters must all hold."""

    failed: Annotated[bool, Parameter(negative="")] = False
    """Those that failed (the default)."""
    not_succeeded: Annotated[bool, Parameter(negative="")] = False
    """Those that failed or were cancelled."""
    status: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    """Those that ended as succeeded, failed or cancelled; may be repeated."""
    exit_code: Annotated[list[int], Parameter(negative="")] = field(default_factory=list)
    """Those that ended with this exit code; may be repeated."""
    reason: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    """Those that ended for this reason, such as OutOfMemory or Timeout; may be repeated."""
    indices: str = ""
    """Indices and ranges of them, like 1,5-9."""


@Parameter(name="*", group="How they run", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What differs from the first time."""

    revision: str = ""
    """same (the default), latest, or the id of a kept revision."""
    memory: int | None = None
    """Memory of a task in MB; it may be more than the job's."""
    timeout: int | None = None
    """Seconds that an attempt may take."""
    env: Annotated[list[str], Parameter(alias="-e", negative="")] = field(default_factory=list)
    """NAME=VALUE on top of the execution's own environment; may be repeated."""


def command(  # noqa: PLR0913 - each is a word of the command line
    job_or_id: str,
    execution: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    which: Which | None = None,
    how: How | None = None,
    job: Annotated[str, Parameter(show_default=False)] = "",
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Run tasks of an execution that has ended again: those that failed, with the same arguments.

    Prints the id of the rerun, an execution of its own; `tidemill results ID --chain` shows both together.

    Parameters
    ----------
    job_or_id
        The execution's id, its first eight characters will do; or its job.
    execution
        The execution's id, when the job was named.
    job
        The execution's job.
    wait
        Wait until every task has ended; exit code 1 unless all succeeded.
    """
    if job and execution:
        raise usage("name the job before the id or by --job, not by both")
    body = _body(which or Which(), how or How())
    with connected(server or Connection()) as client:
        if execution:
            name, word = job_or_id, execution
        elif job:
            name, word = job, job_or_id
        else:
            metadata = find_execution(client, job_or_id, "rerun")["metadata"]
            name, word = metadata["job"], metadata["id"]
        follow(client, name, client.rerun_execution(name, word, body), wait=wait, form=form)


def _body(which: Which, how: How) -> bytes:
    members = {
        "select": _select(which),
        "revision": how.revision,
        "memory": how.memory,
        "timeout": how.timeout,
        "env": parse_env(how.env),
    }
    return json.dumps({name: value for name, value in members.items() if value not in (None, "", {})}).encode()


def _select(which: Which) -> object:
    filters = {
        "status": which.status,
        "exitCode": which.exit_code,
        "reason": which.reason,
        "indices": [word.strip() for word in which.indices.split(",") if word.strip()],
    }
    given = {name: value for name, value in filters.items() if value}
    if which.failed + which.not_succeeded + bool(which.status) > 1:
        raise usage("give one of --failed, --not-succeeded and --status")
    if not given:
        return "not_succeeded" if which.not_succeeded else "failed"
    if which.failed or which.not_succeeded:
        given["status"] = ["failed", *(["cancelled"] if which.not_succeeded else [])]
    return given
