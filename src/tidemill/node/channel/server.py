"""The node's end of the channel: answers the calls of servers, several connections at a time, in the node's loop."""

import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.model.errors import EngineUnavailable, StaleTerm, TidemillError
from tidemill.node.channel.frames import BadFrame, Document, Frame, FrameReader, encode
from tidemill.node.channel.peer import is_below_us
from tidemill.node.loop import ERROR, READ, WRITE, Loop, Timer

READ_BYTES: Final = 1 << 20
WAIT_MAX_S: Final = 60.0

log = logging.getLogger(__name__)

Answer = Frame | None
"""None: the call waits, and is asked again when something has happened or its time is up."""

Handler = Callable[[Document, bool], Answer]
"""Gets the question, and whether it is the last time it is asked. May raise a TidemillError."""


class ChannelServer:
    """Listens on a Unix socket that only this user can open, and hangs up on tasks of this node."""

    def __init__(self, loop: Loop, path: Path, handle: Handler) -> None:
        """Replaces a socket that a dead node has left at ``path``. ``on_connections`` gets how many there are."""
        self._loop = loop
        self._handle = handle
        self._connections: set[_Connection] = set()
        self._changed = False
        self.last_call = loop.monotonic
        self.on_connections: Callable[[int], None] = lambda _count: None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(64)
        self._path = path
        loop.watch(self._listener.fileno(), READ, self._accept)
        loop.at_turn_end(self._ask_again)

    def notice(self) -> None:
        """Something has happened that a waiting call may want to know; it is asked again at the end of this turn."""
        self._changed = True

    def answer(self, question: Document, *, last: bool) -> Answer:
        self.last_call = self._loop.monotonic
        try:
            return self._handle(question, last)
        except TidemillError as error:
            return _refuse(error)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("a call %r that is none of this version: %r", question.get("call"), error)
            return _refuse(EngineUnavailable(f"the node does not understand the call: {error!r}"))

    def quiet_s(self) -> float:
        """Seconds since the last call."""
        return self._loop.monotonic - self.last_call

    def left(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        self.on_connections(len(self._connections))

    def close(self) -> None:
        """Answer what waits, then close everything."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.ask(last=True)
            connection.close()

    def _accept(self, _events: int) -> None:
        while True:
            try:
                accepted, _address = self._listener.accept()
            except OSError:
                return
            if is_below_us(accepted):
                log.warning("a task has tried to speak to its node")
                accepted.close()
                continue
            accepted.setblocking(False)
            self._connections.add(_Connection(self, self._loop, accepted))
            self.on_connections(len(self._connections))

    def _ask_again(self) -> None:
        if self._changed:
            self._changed = False
            for connection in list(self._connections):
                connection.ask(last=False)


def _refuse(error: TidemillError) -> Frame:
    return Frame({"error": error.error_code, "message": error.message})


class _Connection:
    """One question at a time; those that come meanwhile wait."""

    def __init__(self, server: ChannelServer, loop: Loop, accepted: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self._socket = accepted
        self._fd = accepted.fileno()
        self._reader = FrameReader()
        self._questions: deque[Document] = deque()
        self._deadline: Timer | None = None
        self._output = bytearray()
        self._open = True
        loop.watch(self._fd, READ, self._ready)

    def ask(self, *, last: bool) -> None:
        """Answer the questions, as far as they can be answered now."""
        while self._questions and self._open:
            question = self._questions[0]
            answer = self._server.answer(question, last=last)
            if answer is None:
                self._wait(question)
                return
            self._questions.popleft()
            self._forget_deadline()
            self._send(encode(answer))
            last = False

    def close(self) -> None:
        if self._open:
            self._open = False
            self._forget_deadline()
            self._loop.forget(self._fd)
            self._socket.close()
            self._server.left(self)

    def _wait(self, question: Document) -> None:
        if self._deadline is None:
            wait_s = min(WAIT_MAX_S, max(0.0, float(question["wait_s"])))
            self._deadline = self._loop.call_later(wait_s, lambda: self.ask(last=True))

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _ready(self, events: int) -> None:
        try:
            if self._output and events & WRITE:
                self._flush()
            if events & (READ | ERROR):
                self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, BadFrame) as error:
            log.info("a connection ends: %s", error)
            self.close()

    def _receive(self) -> None:
        data = self._socket.recv(READ_BYTES)
        if not data:
            self.close()
            return
        waiting = bool(self._questions)
        self._questions.extend(frame.document for frame in self._reader.feed(data))
        if not waiting:
            self.ask(last=False)

    def _send(self, data: bytes) -> None:
        self._output += data
        with suppress(BlockingIOError, InterruptedError):
            try:
                self._flush()
            except ConnectionError:
                self.close()

    def _flush(self) -> None:
        sent = self._socket.send(self._output)
        del self._output[:sent]
        self._loop.change(self._fd, READ | WRITE if self._output else READ)


def check_term(term: int, highest: int) -> None:
    """Raises StaleTerm when the caller's right to give has passed to another."""
    if term < highest:
        raise StaleTerm(f"term {term} is over; this node has seen term {highest}")
