"""Serves each attempt its arguments: one loopback listener, a secret path an attempt (docs/wire.md, 8.2).

It answers 200 with the document or closes the connection. Never an error with a body: the official SDKs ignore the
status, and would run the user's function without arguments.
"""

import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tidemill.node.loop import ERROR, READ, WRITE, Loop, Timer

HEADER_MAX_BYTES: Final = 16 << 10
# for the whole of a request and its answer; a task reads up to 1 MiB from its own machine
REQUEST_TIMEOUT_S: Final = 30.0
CONNECTIONS_MAX: Final = 512

_ACCEPTED_AT_ONCE: Final = 64
_BACKLOG: Final = 1024


class ArgumentsServer:
    """What is offered lives until it is withdrawn, at the latest with the node; so does the port."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._documents: dict[str, bytes] = {}
        self._connections: OrderedDict[int, _Connection] = OrderedDict()
        listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._port: int = listener.getsockname()[1]
        self._own = self.serve_at(listener)

    def offer(self, arguments: str) -> str:
        """Serve a task's arguments (a JSON object as text); returns the path to be withdrawn."""
        path = f"/{secrets.token_urlsafe(24)}"
        self._documents[path] = b'{"tasks":[%b]}' % arguments.encode("utf-8", "surrogatepass")
        return path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def withdraw(self, path: str) -> None:
        self._documents.pop(path, None)

    def find(self, path: str) -> bytes | None:
        return self._documents.get(path)

    @property
    def port(self) -> int:
        return self._port

    def serve_at(self, listener: socket.socket) -> "Listener":
        """Serve all that is offered to those who come to ``listener`` too, which listens in another network."""
        return Listener(self._loop, listener, self._accept)

    def close(self) -> None:
        self._own.close()
        for connection in list(self._connections.values()):
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except OSError:
                return
            accepted.setblocking(False)
            if len(self._connections) >= CONNECTIONS_MAX:
                # the oldest has had the most time to say what it wants
                next(iter(self._connections.values())).close()
            connection = _Connection(self, self._loop, accepted, self._connections)
            self._connections[connection.fd] = connection


class Listener:
    """A socket that is accepted from until it is closed."""

    def __init__(self, loop: Loop, listener: socket.socket, accept: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._socket = listener
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, lambda _events: accept(listener))

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()


class _Connection:
    """One request, one answer."""

    def __init__(
        self, server: ArgumentsServer, loop: Loop, accepted: socket.socket, all_: "OrderedDict[int, _Connection]"
    ) -> None:
        self._server = server
        self._loop = loop
        self._socket = accepted
        self._all = all_
        self._asked = b""
        self._answer = memoryview(b"")
        self.fd = accepted.fileno()
        self._deadline: Timer = loop.call_later(REQUEST_TIMEOUT_S, self.close)
        loop.watch(self.fd, READ, self._ready)

    def close(self) -> None:
        self._deadline.cancel()
        self._loop.forget(self.fd)
        self._all.pop(self.fd, None)
        self._socket.close()

    def _ready(self, events: int) -> None:
        try:
            if self._answer:
                self._send()
            elif events & (READ | ERROR):
                self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def _receive(self) -> None:
        data = self._socket.recv(HEADER_MAX_BYTES)
        self._asked += data
        if b"\r\n\r\n" in self._asked:
            document = self._find()
            if document is None:
                self.close()
                return
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(document)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
            )
            self._answer = memoryview(head.encode() + document)
            self._loop.change(self.fd, WRITE)
            self._send()
        elif not data or len(self._asked) > HEADER_MAX_BYTES:
            self.close()

    def _find(self) -> bytes | None:
        words = self._asked.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] != b"GET" or not words[2].startswith(b"HTTP/1."):
            return None
        return self._server.find(words[1].decode("ascii", "replace"))

    def _send(self) -> None:
        sent = self._socket.send(self._answer)
        self._answer = self._answer[sent:]
        if not self._answer:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self.close()
