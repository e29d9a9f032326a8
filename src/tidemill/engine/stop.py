"""`tidemill stop`: end the server and the node of a data directory."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from tidemill.node.discovery import Places, read_card, stop_node, wait_until_free
from tidemill.settings import default_data_dir

# a server finishes the requests it has (10 s), and commits what it was told
SERVER_PATIENCE_S: Final = 30.0


def command(*, data_dir: Annotated[Path | None, Parameter(env_var="TIDEMILL_DATA_DIR")] = None) -> int:
    """End the server and the node of a data directory; what runs is ended and runs again at the next start.

    Parameters
    ----------
    data_dir
        The data directory of the server to end; default as of `tidemill server`.
    """
    where = (data_dir or default_data_dir()).absolute()
    if not where.is_dir():
        sys.stdout.write(f"there is no {where}: nothing runs\n")
        return 0
    server, node = _stop_server(where), _stop_node(where)
    return 0 if server and node else 1


def _stop_server(data_dir: Path) -> bool:
    """False when it goes on. ``server.lock`` is held for the life of a server, ``server.json`` says its pid."""
    lock = data_dir / "server.lock"
    if wait_until_free(lock, 0):
        sys.stdout.write("no server runs\n")
        return True
    try:
        pid = int(json.loads((data_dir / "server.json").read_text())["pid"])
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"error: a server holds {lock}, and cannot be told to end: {error}\n")
        return False
    if not wait_until_free(lock, SERVER_PATIENCE_S):
        sys.stderr.write(f"error: server {pid} has not ended in {SERVER_PATIENCE_S:g} s\n")
        return False
    sys.stdout.write(f"server {pid} has ended\n")
    return True


def _stop_node(data_dir: Path) -> bool:
    places = Places(data_dir)
    if wait_until_free(places.lock, 0):
        sys.stdout.write("no node runs\n")
        return True
    card = read_card(places.card)
    name = f"node {card.pid}" if card is not None else "the node"
    if not stop_node(data_dir):
        sys.stderr.write(f"error: {name} holds {places.lock} and does not end\n")
        return False
    sys.stdout.write(f"{name} has ended, with all it ran\n")
    return True
