"""A small real HTTP server that answers what a test tells it to, and the command line in front of it."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tidemill.main import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer. `body` is JSON unless it is bytes; `cut` closes the connection after the body, before its end."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class WireServer:
    """Answers `METHOD /path` by the replies set for it, one after the other; the last one stays."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.seen: list[Seen] = []
        self.arrived = threading.Condition()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                owner.answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - names of the standard library

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.origin}/v0"

    def on(self, line: str, *replies: Reply) -> None:
        self.replies[line] = list(replies)

    def lines(self) -> list[str]:
        return [seen.line for seen in self.seen]

    def find(self, line: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.line == line]

    def wait_for(self, line: str, timeout_s: float = 20.0) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: line in self.lines(), timeout_s), f"{line} never came"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        seen = Seen(method=handler.command, path=parts.path, query=query, headers=headers, body=body)
        with self.arrived:
            self.seen.append(seen)
            self.arrived.notify_all()
            waiting = self.replies.get(seen.line)
            missing = Reply(status=404, body={"code": 404, "error": "not found", "message": f"no {seen.line} here"})
            reply = missing if not waiting else waiting.pop(0) if len(waiting) > 1 else waiting[0]
        self._write(handler, reply)

    @staticmethod
    def _write(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        if reply.cut and not content:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) + (1 if reply.cut else 0)))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = reply.cut


@pytest.fixture
def wire() -> Iterator[WireServer]:
    server = WireServer()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tidemill(wire: WireServer, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `tidemill WORDS` against the wire server, in this process."""

    def call(*words: str) -> Ended:
        code = run([*words, "--url", wire.url, "--api-key", "key-1", "--workspace", "main"])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call
