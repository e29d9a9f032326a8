"""A stand-in for a server that answers the official SDK and remembers what it asked; a watch over sockets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WATCH = """
import os, sys
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        os.write(2, f"REACHES {arguments[0]}:{arguments[1]}\\n".encode())
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        os.write(2, f"REACHES {arguments[1][0]}:{arguments[1][1]}\\n".encode())
sys.addaudithook(watch)
"""
"""First lines of a program: the interpreter then says every name it looks up and every address it connects to."""


def reached(stderr: str) -> set[str]:
    """``host:port`` of all that a program that begins with WATCH turned to."""
    return {line.removeprefix("REACHES ") for line in stderr.splitlines() if line.startswith("REACHES ")}


@dataclass(slots=True)
class Recorder:
    """``asked`` holds method, path (without its query) and the two headers of identity of each request."""

    address: str
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.address}/v0"


@contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"data": [], "meta": {}})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            # contract 2.3: what the SDK needs of a token
            self._answer({"access_token": "t", "refresh_token": "r", "expires_in": 7200, "token_type": "Bearer"})

        def _answer(self, value: object) -> None:
            credential = self.headers["X-Blaxel-Authorization"] or self.headers["Authorization"]
            path = self.path.partition("?")[0]
            recorder.asked.append((self.command, path, credential, self.headers["X-Blaxel-Workspace"]))
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder = Recorder(f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
