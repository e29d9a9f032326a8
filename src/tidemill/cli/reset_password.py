"""`tidemill reset-password`: a link with which somebody sets a password without the one that they have."""

import sys

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.output import Output


def command(user: str, /, *, form: Output = "table", server: Connection | None = None) -> None:
    """Make a link with which somebody of the workspace sets a password. It is good once, for a day.

    Parameters
    ----------
    user
        Their email, or the id of their account.
    """
    with connected(server or Connection()) as client:
        found = client.reset_password(user)
    if form != "table":
        output.print_value(found, form)
        return
    sys.stdout.write(f"{found['url']}\n")
    output.hint(f"Good once, until {found['expiresAt']}. Who has it has the account: send it to nobody else.")
