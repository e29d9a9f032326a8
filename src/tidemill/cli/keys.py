"""`tidemill keys list|rotate`: the keys that seal the server's secrets."""

from typing import Annotated

from cyclopts import App, Parameter

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.output import Column, Output
from tidemill.sdk.wire import Keys

app = App(name="keys", help="Show or rotate the keys of the server's secrets.")


@app.command(name="list")
def show(*, form: Output = "table", server: Connection | None = None) -> None:
    """Show the ids of the keys, which one seals, and how much still needs each."""
    with connected(server or Connection()) as client:
        _print(client.list_keys(), form)


@app.command
def rotate(
    *,
    drop: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Make a new key and seal everything with it, while the server serves. One that was cut short is gone on with.

    Parameters
    ----------
    drop
        Take away older keys instead, which nothing needs any more.
    """
    with connected(server or Connection()) as client:
        keys = client.rotate_keys(drop=drop)
        before = _open(keys)
        while not keys.get("done", True):
            keys = client.rotate_keys()
            left = _open(keys)
            if left >= before:
                break  # what is left does not open with any key that the server has
            before = left
        _print(keys, form)


def _open(keys: Keys) -> int:
    return sum(key["envelopes"] for key in keys["keys"] if key["held"] and not key["active"])


def _print(keys: Keys, form: output.Format) -> None:
    if form != "table":
        output.print_value(keys, form)
        return
    rows = [
        [key["id"], "seals" if key["active"] else "opens" if key["held"] else "missing", str(key["envelopes"])]
        for key in keys["keys"]
    ]
    output.print_table([Column("KEY"), Column("USE"), Column("ENVELOPES")], rows)
