"""`tidemill fire JOB TRIGGER`, and how `tidemill get triggers JOB` shows them."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.output import Column, Output
from tidemill.cli.run import follow
from tidemill.sdk import Trigger


def command(
    job: str,
    trigger: str,
    /,
    *,
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Start an execution of a trigger now, with the trigger's arguments, whether it is enabled or not.

    Prints the id of the execution; `tidemill get triggers JOB` lists what there is.

    Parameters
    ----------
    job
        The job's name.
    trigger
        The trigger's id.
    wait
        Wait until every task has ended; exit code 1 unless all succeeded.
    """
    with connected(server or Connection()) as client:
        follow(client, job, client.fire_trigger(job, trigger), wait=wait, form=form)


def print_triggers(triggers: Sequence[Trigger]) -> None:
    """A table of triggers, in the order of the job's spec."""
    now = output.wall_clock()
    columns = (
        *(Column("ID"), Column("TYPE"), Column("ENABLED"), Column("WHEN", long=True)),
        *(Column("NEXT"), Column("LAST", spare=True), Column("OUTCOME")),
    )
    rows = []
    for trigger in triggers:
        last, coming = trigger.get("lastRun", {}), trigger.get("nextRuns") or []
        rows.append(
            (
                trigger["id"],
                trigger.get("type", "-"),
                "yes" if trigger.get("enabled") else "no",
                _when(trigger),
                output.until(coming[0] if coming else None, now),
                output.ago(last.get("dueAt"), now),
                _outcome(trigger),
            )
        )
    output.print_table(columns, rows)


def _when(trigger: Trigger) -> str:
    """A schedule with its time zone, or the path to call."""
    configuration = trigger.get("configuration") or {}
    if "schedule" in configuration:
        return f"{configuration['schedule']} ({configuration.get('timezone', 'UTC')})"
    return str(configuration.get("path", "/"))


def _outcome(trigger: Trigger) -> Text:
    """How the last execution is, or why there was none."""
    last = trigger.get("lastRun", {})
    if "executionId" in last:
        return output.state(last.get("status", "-")).append(f" {output.short_id(last['executionId'])}", style="default")
    return Text(last.get("reason") or last.get("outcome", "-"))
