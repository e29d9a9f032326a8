"""Bodies far over their limits, over real HTTP: refused before they are parsed, and never held whole."""

import http.client
import re
import socket
from pathlib import Path
from typing import Final

from tests.e2e.drive import Server

MIB: Final = 1 << 20
PIECE: Final = b"[" * MIB
EXECUTIONS: Final = ("/v0/jobs/nothing/executions", "/default/jobs/nothing/executions")
# they take no body, and do not look at one
NO_BODY: Final = {("POST", "/v0/keys/rotate"), ("POST", "/v0/keys/signing/rotate")}
CHUNKED: Final = [
    ("GET", "/v0/jobs"),
    ("POST", "/v0/jobs"),
    ("PUT", "/v0/jobs/nothing"),
    ("POST", "/nowhere"),
    ("PUT", "/uploads/nothing"),
]


def peak_mib(pid: int) -> int:
    """The most memory that the process has ever held."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def answered(server: Server, method: str, path: str, mib: int, *, chunked: bool) -> int:
    """The status, be it that the server does not read to the end of what is sent."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.connect()
    connection.putrequest(method, path)
    connection.putheader("Authorization", f"Bearer {server.credentials['BL_API_KEY']}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(mib * MIB))))
    connection.endheaders()
    framed = b"%x\r\n%b\r\n" % (MIB, PIECE) if chunked else PIECE
    try:
        for _ in range(mib):
            connection.send(framed)
        if chunked:
            connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has answered and hung up, which is its right
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_WR)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_huge_body_that_is_announced_is_answered_in_bounded_memory_on_every_route(fresh: Server) -> None:
    assert fresh.process is not None
    with fresh.http() as client:
        described = client.get("/openapi.json").json()["paths"]
    before = peak_mib(fresh.process.pid)
    asked = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert len(asked) > 30
    for method, template in sorted(asked):
        path = re.sub(r"{\w+}", "nothing", template.replace("{workspace_in_path}", "default"))
        mib = 300 if path in EXECUTIONS else 100
        status = answered(fresh, method, path, mib, chunked=False)
        unread = method == "GET" or (method, path) in NO_BODY
        assert 400 <= status < 500 or (unread and status == 200), (method, path, status)
    # not one of them is read: neither what has no use for a body nor what says that it has too much
    assert peak_mib(fresh.process.pid) < before + 64


def test_a_huge_body_without_an_announcement_is_answered_in_bounded_memory(fresh: Server) -> None:
    assert fresh.process is not None
    before = peak_mib(fresh.process.pid)
    for method, path in CHUNKED:
        status = answered(fresh, method, path, 100, chunked=True)
        assert 400 <= status < 500 or (method, status) == ("GET", 200), (method, path, status)
    # what has a use for a body is read to 4 MiB
    assert peak_mib(fresh.process.pid) < before + 64
    for path in EXECUTIONS:
        assert answered(fresh, "POST", path, 300, chunked=True) == 413, path
    # an execution's body may have 256 MiB: so much is held once
    assert peak_mib(fresh.process.pid) < before + 256 + 256
    with fresh.http() as client:
        assert client.get("/jobs").json()["meta"]["total"] == 0
