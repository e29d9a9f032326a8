"""Who has connected to the node's socket: a server, or a task of the node itself, which has no business there."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")


def is_below_us(connection: socket.socket) -> bool:
    """Whether who has opened ``connection`` descends from this process.

    Where the node is its tasks' subreaper, all of them do, whatever they fork. Who has gone is taken for one.
    """
    peer: int = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    own = os.getpid()
    while peer > 1:
        if peer == own:
            return True
        parent = _parent(peer)
        if parent is None:
            return True
        peer = parent
    # 0: a process that this one cannot see, such as a server in another container
    return False


def _parent(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(text[text.rindex(b")") + 2 :].split()[1])
