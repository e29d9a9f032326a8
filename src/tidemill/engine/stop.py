"""`tidemill stop`: end the server and the node of a data directory."""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from tidemill.node.discovery import Places, read_card, stop_node, wait_until_free
from tidemill.settings import default_data_dir

# a server finishes the requests it has (10 s), and commits what it was told
SERVER_PATIENCE_S: Final = 30.0
CARD_PATIENCE_S: Final = 5.0


def command(*, data_dir: Annotated[Path | None, Parameter(env_var="TIDEMILL_DATA_DIR")] = None) -> int:
    """End the server and the node of a data directory; what runs is ended and runs again at the next start.

    Parameters
    ----------
    data_dir
        The data directory of the server to end; default as of `tidemill server`.
    """
    where = (data_dir or default_data_dir()).absolute()
    server_runs = not wait_until_free(where / "server.lock", 0)
    node_runs = not wait_until_free(Places(where).lock, 0)
    if not server_runs and not node_runs:
        sys.stdout.write(f"nothing runs on {where}\n")
        return 0
    server_ended = _stop_server(where) if server_runs else _say("no server runs")
    # a server ends an idle node before it ends itself, and may have started one since we looked
    if not wait_until_free(Places(where).lock, 0):
        node_ended = _stop_node(where)
    else:
        node_ended = _say("its node was idle and has ended" if node_runs else "no node runs")
    return 0 if server_ended and node_ended else 1


def _stop_server(data_dir: Path) -> bool:
    """False when it goes on. ``server.lock`` is held for the life of a server, ``server.json`` says its pid."""
    lock = data_dir / "server.lock"
    card = data_dir / "server.json"
    deadline = time.monotonic() + CARD_PATIENCE_S
    # between taking the lock and saying who it is, a server has no card
    while not card.exists() and time.monotonic() < deadline and not wait_until_free(lock, 0.05):
        pass
    try:
        pid = int(json.loads(card.read_text())["pid"])
        # a descriptor means this very process, also after its number was given to another one
        process = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"error: a server holds {lock}, and cannot be told to end: {error}\n")
        return False
    try:
        ended = _terminate(process, lock)
    except OSError as error:
        sys.stderr.write(f"error: server {pid} cannot be told to end: {error.strerror}\n")
        return False
    finally:
        os.close(process)
    if not ended:
        sys.stderr.write(f"error: server {pid} has not ended in {SERVER_PATIENCE_S:g} s\n")
        return False
    return _say(f"server {pid} has ended")


def _terminate(process: int, lock: Path) -> bool:
    """Whether the process of a descriptor has ended and nobody holds its lock, after SIGTERM. Raises OSError."""
    deadline = time.monotonic() + SERVER_PATIENCE_S
    signal.pidfd_send_signal(process, signal.SIGTERM)
    poll = select.poll()
    # readable once it has ended; its lock is free some time before that
    poll.register(process, select.POLLIN)
    if not poll.poll(SERVER_PATIENCE_S * 1000):
        return False
    return wait_until_free(lock, max(0.0, deadline - time.monotonic()))


def _stop_node(data_dir: Path) -> bool:
    places = Places(data_dir)
    card = read_card(places.card)
    name = f"node {card.pid}" if card is not None else "the node"
    if not stop_node(data_dir):
        sys.stderr.write(f"error: {name} holds {places.lock} and does not end\n")
        return False
    return _say(f"{name} has ended, with all it ran")


def _say(line: str) -> bool:
    sys.stdout.write(f"{line}\n")
    return True
