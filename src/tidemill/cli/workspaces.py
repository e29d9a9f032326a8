"""`tidemill workspaces [WORKSPACE]`: which logins there are, and which one is in use."""

from typing import Annotated

from cyclopts import Parameter

from tidemill.cli import logins, output
from tidemill.cli.connection import environment
from tidemill.cli.exits import usage
from tidemill.cli.output import Column, Output


def command(
    workspace: str = "",
    *,
    current: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
) -> None:
    """Show the workspaces that you are logged in to, the one in use first; with a name, use that one from now on.

    Parameters
    ----------
    workspace
        The workspace to use.
    current
        Print the name of the one in use, and nothing else.
    """
    file = logins.file_path(environment())
    kept = logins.read(file)
    if workspace:
        chosen = next((each for each in kept if each.workspace == workspace), None)
        if chosen is None:
            raise usage(f"there is no login for workspace {workspace}", f"tidemill login {workspace} --url URL")
        kept = logins.used(kept, chosen)
        logins.write(file, kept)
    if current:
        if not kept:
            raise usage("there is no login", "tidemill login --url URL")
        output.stdout().print(kept[0].workspace, soft_wrap=True)
        return
    rows = [{"workspace": each.workspace, "url": each.url, "current": number == 0} for number, each in enumerate(kept)]
    if form != "table":
        output.print_value(rows, form)
        return
    columns = [Column("WORKSPACE"), Column("SERVER", long=True), Column("IN USE")]
    output.print_table(
        columns, [[str(row["workspace"]), str(row["url"]), "yes" if row["current"] else ""] for row in rows]
    )
