"""`tidemill keys list|rotate|end`: the keys that seal the server's secrets, and those that sign its tokens."""

from typing import Annotated

from cyclopts import App, Parameter

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected
from tidemill.cli.exits import usage
from tidemill.cli.output import Column, Output
from tidemill.sdk.wire import Keys, SigningKeys

app = App(name="keys", help="Show, rotate or end the keys of the server's secrets and tokens.")


@app.command(name="list")
def show(*, form: Output = "table", server: Connection | None = None) -> None:
    """Show the ids of the keys, which one seals or signs, how much needs each, and until when it verifies."""
    with connected(server or Connection()) as client:
        keys = client.list_keys()
    if form != "table":
        output.print_value(keys, form)
        return
    if keys.get("signing"):
        _print_signing(keys, form)
    _print(keys, form)


@app.command
def rotate(
    *,
    drop: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    signing: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Make a new key and seal everything with it, while the server serves. One that was cut short is gone on with.

    Parameters
    ----------
    drop
        Take away older keys instead, which nothing needs any more.
    signing
        Make a new key that signs tokens instead; what the one before it signed is good until it ends.
    """
    if drop and signing:
        raise usage("--drop is for the keys of secrets: older keys of tokens go by themselves, or with `keys end`")
    with connected(server or Connection()) as client:
        if signing:
            _print_signing(client.rotate_signing_keys(), form)
            return
        keys = client.rotate_keys(drop=drop)
        before = _open(keys)
        while not keys.get("done", True):
            keys = client.rotate_keys()
            left = _open(keys)
            if left >= before:
                break  # what is left does not open with any key that the server has
            before = left
        _print(keys, form)


@app.command
def end(key: str, /, *, form: Output = "table", server: Connection | None = None) -> None:
    """Refuse all tokens that a key has signed, at once. For a key that somebody else may know: rotate --signing first.

    Parameters
    ----------
    key
        The id of a key of tokens that signs no more.
    """
    with connected(server or Connection()) as client:
        _print_signing(client.end_signing_key(key), form)


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
    for each in keys.get("unopened", []):
        output.hint(f"does not open, and keeps its key: {each['table']} {each['id']} (key {each['key'] or 'none'})")


def _print_signing(keys: SigningKeys, form: output.Format) -> None:
    if form != "table":
        output.print_value(keys, form)
        return
    rows = [
        [key["id"], "signs" if key["active"] else f"verifies until {key['verifiesUntil']}", key["createdAt"]]
        for key in keys["signing"]
    ]
    output.print_table([Column("KEY"), Column("USE"), Column("MADE")], rows)
