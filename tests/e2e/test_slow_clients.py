"""Clients that send drop by drop, too much, or never read: raw sockets against a server with small limits."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from tests.e2e.conftest import running
from tests.e2e.drive import Server, until

LIMITS = {
    "TIDEMILL_HEADER_TIMEOUT_S": "0.6",
    "TIDEMILL_MIN_BODY_BYTES_PER_S": "20000",
    "TIDEMILL_MAX_HEADER_BYTES": "8192",
    "TIDEMILL_ANSWER_TIMEOUT_S": "1",
    "TIDEMILL_UNAUTHENTICATED_PER_S": "5",
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(Server(tmp_path_factory.mktemp("strict") / "data", LIMITS))


@contextmanager
def connected(server: Server, *, receive_bytes: int = 0) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with closing(socket.socket()) as client:
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(20)
        client.connect((host, int(port)))
        yield client


def head(server: Server, line: str, *headers: str) -> bytes:
    """The head of a request of the admin, with its end."""
    key = f"Authorization: Bearer {server.credentials['BL_API_KEY']}"
    return "\r\n".join([f"{line} HTTP/1.1", "Host: tide.test", key, *headers, "", ""]).encode()


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes; it may cut a client off that still sends."""
    found = b""
    try:
        while piece := client.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def drip(client: socket.socket, drop: bytes) -> bytes:
    """Send ``drop`` again and again until something is answered or the connection is closed; what was answered."""
    deadline = time.monotonic() + 20
    while not select.select([client], [], [], 0.05)[0]:
        assert time.monotonic() < deadline, "the server waits for ever"
        try:
            client.sendall(drop)
        except (BrokenPipeError, ConnectionResetError):
            break
    return rest(client)


def one(client: socket.socket) -> int:
    """The status of one answer, read to its end."""
    read = client.makefile("rb")
    status = int(read.readline().split()[1])
    headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(read.readline, b"\r\n"))
    read.read(int(headers["content-length"]))
    return status


def assert_refused(answer: bytes, status: int, error_code: str) -> None:
    top, _, body = answer.partition(b"\r\n\r\n")
    lines = top.decode().lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} "), answer
    assert {"connection: close", "content-type: application/json", "x-content-type-options: nosniff"} <= set(lines)
    problem = json.loads(body)
    assert (problem["code"], problem["error_code"]) == (status, error_code)


def test_a_head_that_comes_drop_by_drop_is_408_and_closed(strict: Server) -> None:
    with connected(strict) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: tide.test\r\nX-Slow: ")
        assert_refused(drip(client, b"a"), 408, "REQUEST_TIMEOUT")


def test_a_connection_that_says_nothing_is_closed_without_a_word(strict: Server) -> None:
    with connected(strict) as client:
        assert rest(client) == b""


def test_a_later_head_has_no_more_time_than_the_first(strict: Server) -> None:
    with connected(strict) as client:
        client.sendall(head(strict, "GET /v0/jobs"))
        assert one(client) == 200
        assert_refused(drip(client, b"\r\n"), 408, "REQUEST_TIMEOUT")  # empty lines belong to no request


@pytest.mark.parametrize("length", ["Content-Length: 4000000", "Transfer-Encoding: chunked"])
def test_a_body_that_comes_drop_by_drop_is_408_and_closed(strict: Server, length: str) -> None:
    with connected(strict) as client:
        client.sendall(head(strict, "POST /v0/jobs", length))
        assert_refused(drip(client, b"1\r\na\r\n"), 408, "REQUEST_TIMEOUT")


def test_a_refused_request_cannot_go_on_dripping(strict: Server) -> None:
    with connected(strict) as client:
        client.sendall(b"POST /v0/jobs HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\n")
        assert one(client) in {401, 429}
        assert drip(client, b"a") == b""


def test_a_body_may_take_long_if_it_moves(strict: Server) -> None:
    piece, pieces = b" " * 8_000, 40
    with connected(strict) as client:
        begun = time.monotonic()
        client.sendall(head(strict, "POST /v0/jobs", f"Content-Length: {len(piece) * pieces + 2}"))
        for _ in range(pieces):
            assert not select.select([client], [], [], 0.05)[0], rest(client)
            client.sendall(piece)
        client.sendall(b"{}")
        assert one(client) == 400  # no job, but a request
        assert time.monotonic() - begun > 3 * float(LIMITS["TIDEMILL_HEADER_TIMEOUT_S"])


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([f"X-{number}: a" for number in range(100)], id="too many"),
        pytest.param(["X-Long: " + "a" * 8_192], id="too long"),
    ],
)
def test_too_much_head_is_431_and_closed(strict: Server, more: list[str]) -> None:
    with connected(strict) as client:
        client.sendall(head(strict, "GET /v0/jobs", *more))
        assert_refused(rest(client), 431, "HEADERS_TOO_LARGE")


def test_as_much_head_as_allowed_is_answered(strict: Server) -> None:
    with connected(strict) as client:
        client.sendall(head(strict, "GET /v0/jobs", *[f"X-{number}: a" for number in range(98)]))
        assert one(client) == 200
        client.sendall(head(strict, "GET /v0/jobs", "X-Long: " + "a" * 7_900))
        assert one(client) == 200


@pytest.mark.parametrize("begin", ["GET /healthz HTTP/1.1\r\nX-Endless: ", "GET /"])
def test_a_line_without_an_end_is_431(strict: Server, begin: str) -> None:
    with connected(strict) as client:
        client.sendall(begin.encode())
        assert_refused(drip(client, b"a" * 4_000), 431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize("drop", [b"a" * 4_000, b"X-T: " + b"a" * 4_000 + b"\r\n"])
def test_trailers_without_an_end_are_431(strict: Server, drop: bytes) -> None:
    with connected(strict) as client:
        client.sendall(head(strict, "POST /v0/jobs", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX-Endless: ")
        assert_refused(drip(client, drop), 431, "HEADERS_TOO_LARGE")


def test_what_is_no_http_is_told_so_in_the_shape_of_all_errors(strict: Server) -> None:
    with connected(strict) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert_refused(rest(client), 400, "INVALID")


def test_who_reads_no_answers_loses_the_connection(strict: Server) -> None:
    with connected(strict, receive_bytes=4_096) as client:
        client.sendall(head(strict, "GET /healthz"))
        assert one(client) == 200
        port = client.getsockname()[1]
        assert strict.process is not None
        server = psutil.Process(strict.process.pid)

        def held() -> bool:
            return port in {getattr(each.raddr, "port", 0) for each in server.net_connections()}

        assert held()
        # more than the kernel keeps for a client that does not read
        client.sendall(head(strict, "GET /docs/swagger-ui-bundle.js") * 8)
        until(lambda: not held())


def test_too_many_requests_without_a_credential_are_429_and_the_admin_goes_on(strict: Server) -> None:
    with strict.http() as http:
        assert http.get("/jobs").status_code == 200
        wrong = {"Authorization": "Bearer tm_wrong"}
        answers = [http.get("/jobs", headers=wrong) for _ in range(100)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {401, 429}
        assert {answer.headers["x-should-retry"] for answer in refused} == {"true"}
        assert {answer.json()["error_code"] for answer in refused} == {"RATE_LIMITED"}
        assert int(refused[-1].headers["retry-after"]) >= 1
        assert http.get("/jobs").status_code == 200
        assert http.get(f"{strict.url}/healthz").status_code == 200
