"""`tidemill cancel [JOB] ID`: stop an execution."""

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.lookup import find_execution
from tidemill.cli.output import Output
from tidemill.sdk import ENDED, Execution, Stats


def command(
    job_or_id: str,
    execution: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Cancel an execution: no task starts any more, running ones finish.

    Parameters
    ----------
    job_or_id
        The execution's id, its first eight characters will do; or its job.
    execution
        The execution's id, when the job was named.
    force
        End running tasks too: SIGTERM, and SIGKILL ten seconds later.
    """
    with connected(server or Connection()) as client:
        if execution:
            job = job_or_id
        else:
            metadata = find_execution(client, job_or_id, "cancel")["metadata"]
            job, execution = metadata["job"], metadata["id"]
        _print(client.cancel_execution(job, execution, force=force), form)


def _print(cancelled: Execution, form: output.Format) -> None:
    if form != "table":
        output.print_value(cancelled, form)
        return
    status, stats = cancelled.get("status", ""), cancelled.get("stats", Stats())
    line = Text(f"{cancelled.get('metadata', {}).get('id', '')}  ").append_text(output.state(status))
    if status not in ENDED:
        line.append(f": {stats.get('running', 0)} tasks still running", style="not bold")
    output.stdout().print(line, soft_wrap=True)
