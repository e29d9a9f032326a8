"""Bodies far over their limits, over real HTTP: refused before they are parsed, and never held whole."""

import http.client
import socket
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.drive import Server

MIB: Final = 1 << 20
PIECE: Final = b"[" * MIB
CASES: Final = [
    ("GET", "/v0/jobs", 100),
    ("GET", "/healthz", 100),
    ("POST", "/v0/jobs", 100),
    ("PUT", "/v0/jobs/sweep", 100),
    ("DELETE", "/v0/jobs/sweep", 100),
    ("POST", "/v0/jobs/sweep/executions/00000000/rerun", 100),
    ("POST", "/nowhere", 100),
    ("PUT", "/uploads/none", 100),
    ("POST", "/v0/jobs/sweep/executions", 300),
    ("POST", "/default/jobs/sweep/executions", 300),
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


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_a_huge_body_is_answered_in_bounded_memory_on_any_route(fresh: Server, chunked: bool) -> None:
    assert fresh.process is not None
    before = peak_mib(fresh.process.pid)
    for method, path, mib in CASES[:8]:
        status = answered(fresh, method, path, mib, chunked=chunked)
        assert status == 200 if method == "GET" else 400 <= status < 500, (method, path, status)
    # what has no limit of its own is not read at all, what has is read to 4 MiB
    assert peak_mib(fresh.process.pid) < before + 64
    for method, path, mib in CASES[8:]:
        assert answered(fresh, method, path, mib, chunked=chunked) == 413, (method, path)
    # an execution's body may have 256 MiB: without an announcement so much is held once
    assert peak_mib(fresh.process.pid) < before + (64 if not chunked else 256 + 256)
    with fresh.http() as client:
        assert client.get("/jobs").json()["meta"]["total"] == 0
