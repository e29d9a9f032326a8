"""`tidemill token`: what requests of the login in use are sent with, for curl and other programs."""

import os
import sys

from tidemill.cli.connection import Connection, environment, find_server, fresh_token, told


def command(*, server: Connection | None = None) -> None:
    """Print the API key or an access token that is good for ten minutes at least."""
    found = find_server(server or Connection(), environment(), is_root=os.geteuid() == 0)
    with told(found):
        sys.stdout.write(f"{found.endpoint.api_key or fresh_token(found)}\n")
