"""The arguments' listener and clients that are slow, wrong or hostile: it answers 200 or closes, and nothing else."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from tidemill.node import arguments
from tidemill.node.arguments import HEADER_MAX_BYTES, ArgumentsServer
from tidemill.node.loop import Loop


@dataclass
class Served:
    server: ArgumentsServer
    path: str
    big: str
    address: tuple[str, int]

    def say(self, data: bytes) -> bytes:
        """What comes back until the connection is closed."""
        with socket.create_connection(self.address, timeout=10) as connection:
            try:
                connection.sendall(data)
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionError:
                return b""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(arguments, "REQUEST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(arguments, "CONNECTIONS_MAX", 20)
    loop = Loop()
    server = ArgumentsServer(loop)
    path = server.offer('{"a": 1}')
    big = server.offer(json.dumps({"x": "y" * 4_000_000}))
    port = int(server.url("").rsplit(":", 1)[1])
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield Served(server, path, big, ("127.0.0.1", port))
    loop.call_from_thread(loop.stop)
    thread.join(10)
    server.close()
    loop.close()


def test_the_document_has_one_task(served: Served) -> None:
    answer = requests.get(served.server.url(served.path), timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"tasks": [{"a": 1}]})
    assert answer.headers["Connection"] == "close"


def test_a_document_that_is_bigger_than_a_socket_holds_comes_whole(served: Served) -> None:
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(f"GET {served.big} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(30_000), b""))
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["tasks"][0]["x"] == "y" * 4_000_000


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST %b HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"HEAD %b HTTP/1.1\r\n\r\n",
        b"GET %b\r\n\r\n",
        b"GET %b/ HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\xff\xfe\x00" * 100 + b"\r\n\r\n",
        b"GET %b HTTP/1.1\r\nX: " + b"x" * (2 * HEADER_MAX_BYTES),
        b"GET %b HTTP/1.1\r\n",
    ],
)
def test_anything_else_is_closed_without_a_word(served: Served, request_: bytes) -> None:
    assert served.say(request_.replace(b"%b", served.path.encode())) == b""


def test_a_request_may_come_byte_by_byte(served: Served) -> None:
    with socket.create_connection(served.address, timeout=10) as connection:
        for byte in f"GET {served.path} HTTP/1.0\r\n\r\n".encode():
            connection.send(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_those_who_say_nothing_do_not_keep_others_out(served: Served) -> None:
    silent = [socket.create_connection(served.address, timeout=10) for _ in range(60)]
    try:
        assert requests.get(served.server.url(served.path), timeout=10).status_code == 200
        assert silent[-1].recv(1) == b""  # its time was up
    finally:
        for connection in silent:
            connection.close()


def test_a_path_dies_when_it_is_withdrawn(served: Served) -> None:
    served.server.withdraw(served.path)
    with pytest.raises(requests.ConnectionError):
        requests.get(served.server.url(served.path), timeout=10)
