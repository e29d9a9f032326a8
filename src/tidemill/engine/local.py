"""The local engine: one node, a process of its own on this machine, started when there is none."""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.image import incoming_blob
from tidemill.model.lease import (
    PROTOCOL_VERSION,
    Acknowledgement,
    BlobRef,
    BuildLease,
    EventBatch,
    Inventory,
    Lease,
    LogBatch,
    NodeInfo,
    Position,
    TaskLease,
)
from tidemill.node.calls import NODE_ID
from tidemill.node.channel import codec
from tidemill.node.channel.client import Connection
from tidemill.node.channel.frames import Frame
from tidemill.node.discovery import Card, Places, read_card, stop_node, wait_until_free
from tidemill.node.settings import NodeSettings, node_environment

CALL_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 20.0
IDLE_END_S: Final = 5.0
# a node that dies at once is started again after 1 s, 2 s, ... 30 s; one that has lived for a minute at once
PAUSE_MAX_S: Final = 30.0
STEADY_S: Final = 60.0
# leases are sent in frames of about this size, so that none keeps the node from hearing others for long
FRAME_BYTES: Final = 8 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detached:
    """A node that goes on without us: ``busy`` is how many attempts it runs or is going to."""

    pid: int
    busy: int


class LocalEngine:
    """Implements Engine (engine/protocol.py) with the node of one data directory."""

    def __init__(
        self,
        settings: NodeSettings,
        blob_path: Callable[[str], Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``blob_path`` says where a blob lies on this machine; the node reads it there, and builds write there.

        ``environment`` is what the node, and so installers in builds, may see; by default a few variables of our own.
        """
        self._settings = settings
        self._places = Places(settings.data_dir)
        self._blob_path = blob_path
        own = node_environment(os.environ)  # noqa: TID251  # what a node sees is chosen here
        self._environment = dict(environment) if environment is not None else own
        self._opening = threading.Lock()
        self._guard = threading.Lock()
        self._idle: list[Connection] = []
        self._problem: str | None = None
        self._children: set[int] = set()
        self._not_before = 0.0
        self._pause_s = 0.0
        self._drained = ""
        self._closed = False

    def problem(self) -> str | None:
        """Why the node cannot be reached, as far as is known from the last call; None when it answered."""
        return self._problem

    def nodes(self) -> Sequence[NodeInfo]:
        return [codec.read_node(self._call("nodes").document["ok"])]

    def launch(self, node: NodeId, leases: Sequence[Lease], term: int) -> Sequence[Acknowledgement]:
        _check_node(node)
        taken: list[Acknowledgement] = []
        located: dict[BlobRef, BlobRef] = {}
        for batch in _batches([self._locate(lease, located) for lease in leases]):
            answer = self._call("launch", leases=[codec.write_lease(lease) for lease in batch], term=term)
            taken += [codec.read_acknowledgement(each) for each in answer.document["ok"]["acknowledgements"]]
        return taken

    def events(self, node: NodeId, after: Position, wait_s: float) -> EventBatch:
        _check_node(node)
        answer = self._call(
            "events", timeout_s=wait_s + CALL_TIMEOUT_S, after=codec.write_position(after), wait_s=wait_s
        )
        return codec.read_event_batch(answer.document["ok"])

    def logs(self, node: NodeId, after: Position, max_bytes: int) -> LogBatch:
        _check_node(node)
        answer = self._call("logs", after=codec.write_position(after), max_bytes=max_bytes)
        return codec.read_log_batch(answer.document["ok"], answer.tail)

    def renew(self, node: NodeId, attempts: Sequence[AttemptId], ttl_s: float, term: int) -> None:
        _check_node(node)
        self._call("renew", attempts=codec.write_attempts(attempts), ttl_s=ttl_s, term=term)

    def cancel(self, node: NodeId, attempts: Sequence[AttemptId], grace_s: float, term: int) -> None:
        _check_node(node)
        self._call("cancel", attempts=codec.write_attempts(attempts), grace_s=grace_s, term=term)

    def withdraw(self, node: NodeId, attempts: Sequence[AttemptId], term: int) -> Sequence[AttemptId]:
        _check_node(node)
        answer = self._call("withdraw", attempts=codec.write_attempts(attempts), term=term)
        return codec.read_attempts(answer.document["ok"]["attempts"])

    def inventory(self, node: NodeId) -> Inventory:
        _check_node(node)
        return codec.read_inventory(self._call("inventory").document["ok"])

    def close(self, *, stop_tasks: bool) -> None:
        if not stop_tasks:
            self.detach()
            return
        self._leave()
        if not stop_node(self._settings.data_dir):
            raise EngineUnavailable(f"the node does not end: {self._held_lock()}")
        self._reap(options=0)

    def detach(self) -> Detached | None:
        """Let go of the node: an idle one ends, and has ended when this returns; a busy one goes on and is returned."""
        self._leave()
        card = read_card(self._places.card)
        if card is None:
            return None
        try:
            connection = Connection(Path(card.socket))
        except OSError:
            return None
        try:
            answer = connection.call("detach", CALL_TIMEOUT_S).document["ok"]
        except (OSError, EngineUnavailable):
            return Detached(card.pid, 0)
        finally:
            connection.close()
        if answer["busy"] == 0 and wait_until_free(self._places.lock, IDLE_END_S):
            self._reap(options=0)
            return None
        return Detached(answer["pid"], answer["busy"])

    def _locate(self, lease: Lease, located: dict[BlobRef, BlobRef]) -> Lease:
        """``lease`` with URLs. ``located`` has images that were found for others: most leases of a call share one."""
        if isinstance(lease, BuildLease):
            # nobody knows the digest yet: whoever commits the outcome moves the image to where it stays
            upload = self._blob_path(incoming_blob(lease.attempt.owner, lease.attempt.number))
            source = None if lease.source is None else self._with_url(lease.source)
            return replace(lease, source=source, upload_url=upload.absolute().as_uri())
        image = located.get(lease.image)
        if image is None:
            image = located[lease.image] = self._with_url(lease.image)
        return replace(lease, image=image)

    def _with_url(self, blob: BlobRef) -> BlobRef:
        return replace(blob, url=self._blob_path(blob.name).absolute().as_uri())

    def _call(self, name: str, timeout_s: float = CALL_TIMEOUT_S, **question: Any) -> Frame:
        connection = self._take()
        try:
            answer = connection.call(name, timeout_s, **question)
        except OSError as error:
            connection.close()
            self._drop_idle()
            what = f"the node did not answer {name!r}: {str(error) or type(error).__name__}"
            self._problem = what
            raise EngineUnavailable(what) from error
        except BaseException:
            # it has answered, or we were interrupted in between: nobody knows what this connection would say next
            connection.close()
            raise
        with self._guard:
            if not self._closed:
                self._idle.append(connection)
                return answer
        connection.close()
        return answer

    def _take(self) -> Connection:
        with self._guard:
            if self._closed:
                raise EngineUnavailable("this engine is closed")
            if self._idle:
                return self._idle.pop()
        with self._opening:
            try:
                connection = self._connect() or self._start()
            except EngineUnavailable as error:
                self._problem = error.message
                raise
            self._problem = None
            return connection

    def _connect(self) -> Connection | None:
        """A new connection to the node that runs; None when there is none."""
        card = read_card(self._places.card)
        if card is None:
            return None
        try:
            connection = Connection(Path(card.socket))
        except OSError:
            return None
        if (card.protocol_version, card.settings) != (PROTOCOL_VERSION, self._settings.digest()):
            self._drain(card, connection)
        return connection

    def _drain(self, card: Card, connection: Connection) -> None:
        """A node of another version, or with other settings, takes nothing new, and ends when nothing runs."""
        if self._drained != card.incarnation:
            with suppress(OSError):
                connection.call("drain", CALL_TIMEOUT_S)
            self._drained = card.incarnation
            log.info("node %d drains: it was started with other settings or by another version", card.pid)
        if card.protocol_version != PROTOCOL_VERSION:
            connection.close()
            raise EngineUnavailable(
                f"node {card.pid} speaks protocol {card.protocol_version}; it is replaced when what it runs has ended"
            )

    def _start(self) -> Connection:
        now = time.monotonic()
        if now < self._not_before:
            raise EngineUnavailable(f"the node is started again in {self._not_before - now:.0f} s")
        self._places.make()
        self._reap()
        if not wait_until_free(self._places.lock, 0):
            raise EngineUnavailable(self._held_lock())
        steady = now - self._not_before > STEADY_S
        self._pause_s = 1.0 if steady else min(PAUSE_MAX_S, max(1.0, self._pause_s * 2))
        self._not_before = now + self._pause_s
        said = self._spawn()
        connection = self._connect() if said == "ready" else None
        if connection is None:
            # it may have taken longer to fail than the pause is
            self._not_before = time.monotonic() + self._pause_s
            raise EngineUnavailable(f"the node did not start: {said or f'see {self._places.output}'}")
        return connection

    def _spawn(self) -> str:
        """Start the node, and return the line it says when it is ready, or why it is not."""
        ours, theirs = os.pipe()
        os.set_inheritable(theirs, True)
        try:
            with self._places.output.open("ab") as output:
                arguments = [sys.executable, "-m", "tidemill.node", self._settings.to_json(), str(theirs)]
                pid = os.posix_spawn(
                    sys.executable,
                    arguments,
                    self._environment,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                        (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
                    ],
                    setsid=True,
                )
        finally:
            os.close(theirs)
        self._children.add(pid)
        try:
            return _read_line(ours)
        finally:
            os.close(ours)

    def _held_lock(self) -> str:
        card = read_card(self._places.card)
        who = f"node {card.pid}" if card is not None else "a node"
        return f"{who} holds {self._places.lock} but does not answer; no second one is started"

    def _leave(self) -> None:
        with self._guard:
            self._closed = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        with self._guard:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.close()

    def _reap(self, options: int = os.WNOHANG) -> None:
        """Collect the nodes we started that have ended; without WNOHANG, wait for one whose lock is free already."""
        for pid in list(self._children):
            with suppress(ChildProcessError):
                if os.waitpid(pid, options)[0] == 0:
                    continue
            self._children.discard(pid)


def _check_node(node: NodeId) -> None:
    if node != NODE_ID:
        raise EngineUnavailable(f"there is no node {node!r} here, only {NODE_ID!r}")


def _batches(leases: Sequence[Lease]) -> Iterator[list[Lease]]:
    batch: list[Lease] = []
    size = 0
    for lease in leases:
        batch.append(lease)
        size += 4096 + (lease.weight if isinstance(lease, TaskLease) else 0)
        if size > FRAME_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_line(fd: int) -> str:
    """What a starting node says, without the end of line; empty when it died or takes too long."""
    data = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(fd, 4096) if ready else b""
        if not piece:
            return ""
        data += piece
    return data.decode().rstrip("\n")
