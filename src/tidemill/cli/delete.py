"""`tidemill delete job NAME...`: remove jobs."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import CommandError, usage
from tidemill.cli.output import Output
from tidemill.sdk import Client

app = App(name="delete", help="Delete a job.")


@app.command
def job(
    *names: str,
    yes: Annotated[bool, Parameter(alias="-y", negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Delete jobs. Their executions are cancelled by force.

    Parameters
    ----------
    names
        The jobs.
    yes
        Do not ask.
    """
    if not names:
        raise usage("name the job to delete: tidemill delete job NAME")
    if not yes and not sys.stdin.isatty():
        raise usage(f"not deleting {', '.join(names)} without being told so; add --yes")
    with connected(server or Connection()) as client:
        if not yes:
            _ask(client, names)
        for name in names:
            deleted = client.delete_job(name)
            if form == "table":
                output.stdout().print(f"{name}: {deleted.get('status', 'deleted')}", soft_wrap=True)
            else:
                output.print_value(deleted, form)


def _ask(client: Client, names: tuple[str, ...]) -> None:
    """Raises CommandError when the answer is not yes; ApiError before the question when there is no such job."""
    for name in names:
        client.get_job(name)
    listed = ", ".join(names)
    print(f"Delete {listed}, and cancel what runs? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError(f"{listed}: not deleted")
