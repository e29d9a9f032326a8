"""Finding the node of a data directory: its lock says whether there is one, its card how to reach it."""

import fcntl
import json
import os
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tidemill.node.channel.client import Connection

SOCKET_PATH_MAX: Final = 107
STOP_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.01
_KILLED_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Places:
    """Files and folders of a node in its data directory."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "node.lock"

    @property
    def card(self) -> Path:
        return self.root / "node.json"

    @property
    def output(self) -> Path:
        return self.root / "node.log"

    @property
    def own(self) -> Path:
        return self.root / "node"

    @property
    def results(self) -> Path:
        return self.own / "results"

    @property
    def logs(self) -> Path:
        return self.own / "logs"

    @property
    def cache(self) -> Path:
        return self.root / "cache" / "uv"

    def make(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        # whatever the umask: tasks of other users pass through it to images
        self.root.chmod(0o711)
        for folder in (self.own, self.results, self.logs, self.cache.parent, self.cache):
            folder.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What ``node.json`` says; ``settings`` is NodeSettings.digest()."""

    pid: int
    incarnation: str
    socket: str
    protocol_version: int
    settings: str

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.rename(path)


def read_card(path: Path) -> Card | None:
    """None when there is none that this version can read; the node it speaks of may be dead."""
    try:
        document = json.loads(path.read_text())
        return Card(**{name: document[name] for name in Card.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def take_lock(path: Path, patience_s: float) -> int | None:
    """Lock ``path`` for as long as the descriptor that is returned is open; None when somebody else keeps it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(_POLL_S)
        else:
            return fd


def wait_until_free(path: Path, patience_s: float) -> bool:
    """Whether nobody holds the lock at ``path``, waiting so long for that at most."""
    if not path.exists():
        return True
    fd = take_lock(path, patience_s)
    if fd is None:
        return False
    os.close(fd)
    return True


def socket_path(data_dir: Path) -> Path:
    """Where a new node listens: in its data directory, unless the path would be too long for a Unix socket."""
    path = data_dir / "node.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    # made by us with mode 0700 under a name nobody can guess; node.json says where it is
    return Path(tempfile.mkdtemp(prefix="tidemill-", dir="/run" if os.access("/run", os.W_OK) else None)) / "node.sock"


def remove_socket(data_dir: Path, path: Path) -> None:
    """Remove the socket of a node that has ended, and the folder that was made for it."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        if path.parent != data_dir:
            path.parent.rmdir()


def connect(data_dir: Path) -> Connection:
    """Raises OSError when no node of ``data_dir`` listens."""
    card = read_card(Places(data_dir).card)
    if card is None:
        raise FileNotFoundError(f"there is no {Places(data_dir).card}")
    return Connection(Path(card.socket))


def stop_node(data_dir: Path, patience_s: float = STOP_PATIENCE_S) -> bool:
    """End the node of ``data_dir`` and what it runs: SIGTERM, its grace, SIGKILL; after ``patience_s`` at once.

    One that does not answer, because it is frozen, is killed: its launchers end what it runs. False when it goes on.
    """
    lock = Places(data_dir).lock
    for _ in range(2):
        try:
            connection = connect(data_dir)
        except OSError:
            break
        try:
            connection.call("close", patience_s)
        except OSError:
            pass
        finally:
            connection.close()
        if wait_until_free(lock, patience_s):
            return True
    if not wait_until_free(lock, 0):
        _kill_node(data_dir)
    return wait_until_free(lock, _KILLED_S)


def _kill_node(data_dir: Path) -> None:
    """SIGKILL to the process that the card names, if it is a node of ``data_dir``: a number can be anybody's."""
    card = read_card(Places(data_dir).card)
    if card is None:
        return
    with suppress(OSError):
        process = os.pidfd_open(card.pid)
        try:
            words = Path(f"/proc/{card.pid}/cmdline").read_bytes().split(b"\0")
            if b"tidemill.node" in words and os.fsencode(data_dir) in b" ".join(words):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
