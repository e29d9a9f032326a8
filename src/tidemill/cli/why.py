"""`tidemill why [JOB] ID[/TASK]`: what something waits for, or why it failed, in one sentence."""

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from tidemill.cli import output, protections
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.lookup import find_execution
from tidemill.cli.output import Output
from tidemill.sdk import Explanation


def command(
    job_or_id: str,
    execution: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Say why an execution or a task waits, or why it failed.

    One sentence: which limit is reached, who holds it, and until when at the latest; or how it ended. `ID/TASK` asks
    for one task, by its index. `-o json` adds the facts.

    Parameters
    ----------
    job_or_id
        The execution's id, its first eight characters will do, with `/TASK` for one task; or its job.
    execution
        The execution's id, with `/TASK` for one task, when the job was named.
    """
    word, slash, task = (execution or job_or_id).partition("/")
    if not word or bool(slash) != bool(task) or "/" in task:
        raise usage(f"cannot explain {(execution or job_or_id)!r}: name an execution by ID, or a task by ID/TASK")
    with connected(server or Connection()) as client:
        if execution:
            job, found = job_or_id, word
        else:
            metadata = find_execution(client, word, "why")["metadata"]
            job, found = metadata["job"], metadata["id"]
        answer = client.explain(job, found, task)
    if form != "table":
        output.print_value(answer, form)
        return
    output.stdout().print(Text(answer.get("summary", "")), soft_wrap=True)
    if had := answer.get("protections"):
        output.hint(f"its newest attempt ran at {protections.sentence(had)}")
    if answer.get("reason") == "failed":
        output.hint(*_next(answer, job, output.short_id(found), task))


def _next(answer: Explanation, job: str, execution: str, task: str) -> list[str]:
    """What to type when something failed."""
    if task:
        return [f"logs:    tidemill logs job {job} {execution} {task.removeprefix('task-')}"]
    failures = answer.get("failures") or []
    first = [f"tries:   tidemill get task {job} {execution}/{one['firstIndex']}" for one in failures[:1]]
    # where the execution ran out of time, its tasks are cancelled, and none may have failed
    return [*first, f"again:   tidemill rerun {execution} --not-succeeded"]
