"""make bench: requests a second and their times, next to a bare FastAPI route (`python -m bench.requests`).

One server process, 32 connections kept open, and a client that does as little as it can: it shares the machine.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from bench.ground import TRUE_JOB
from tests.e2e.drive import Server

CONNECTIONS: Final = 32
SECONDS: Final = 5.0
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


@dataclass(frozen=True, slots=True)
class Figure:
    """What a request was measured to do: answers a second, and times in milliseconds."""

    name: str
    rate: float
    p50: float
    p99: float


def message(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as its bytes."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _END + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send one request and read all of its answer, which must be 200."""
    writer.write(request)
    head = (await reader.readuntil(_END)).lower()
    assert head.startswith(b"http/1.1 200"), head
    at = head.index(_LENGTH) + len(_LENGTH)
    await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))


async def _connection(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        begun = time.perf_counter()
        while begun < until:
            await ask(reader, writer, request)
            now = time.perf_counter()
            times.append(now - begun)
            begun = now
    finally:
        writer.close()


async def _load(port: int, request: bytes) -> tuple[list[float], float]:
    """The times of all requests that 32 connections made, and how long they took together; seconds."""
    await _connection(port, request, time.perf_counter() + 0.5, [])  # warm
    times: list[float] = []
    begun = time.perf_counter()
    await asyncio.gather(*(_connection(port, request, begun + SECONDS, times) for _ in range(CONNECTIONS)))
    return times, time.perf_counter() - begun


def measure(name: str, port: int, request: bytes) -> Figure:
    times, took = uvloop.run(_load(port, request))
    cuts = quantiles(times, n=100, method="inclusive")
    return Figure(name, len(times) / took, cuts[49] * 1000, cuts[98] * 1000)


@contextmanager
def bare() -> Iterator[tuple[int, int]]:
    """The port of a server with a bare route, and its pid."""
    process = subprocess.Popen([sys.executable, "-m", "bench.bare_route"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[-1]), process.pid
    finally:
        process.kill()
        process.wait()


def figures(server: Server) -> list[Figure]:
    """A bare route, a job, a page of tasks, and new executions of one task each, in one run."""
    port = int(server.url.rsplit(":", 1)[1])
    key = {"authorization": f"Bearer {server.credentials['BL_API_KEY']}", "blaxel-version": "2026-04-28"}
    with server.http() as http:
        many = http.post("/jobs/still/executions", json={"tasks": [{}] * 1_000}).json()["executionId"]
    page = f"/v0/jobs/still/executions/{many}/tasks?limit=50"
    with bare() as (other, _pid):
        found = [measure("bare FastAPI route", other, message("GET", "/bare", {}))]
    found.append(measure("GET of a job", port, message("GET", "/v0/jobs/still", key)))
    found.append(measure("page of 50 tasks", port, message("GET", page, key)))
    # of a job whose executions wait behind the workspace's quota: what is measured is not their tasks
    found.append(measure("POST of an execution of one task", port, message("POST", "/v0/jobs/still/executions", key)))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "still"
        job.mkdir()
        toml = TRUE_JOB.replace('name = "true"', 'name = "still"').replace("/bin/true", "/bin/sleep 1000")
        (job / "blaxel.toml").write_text(toml.replace("maxConcurrentTasks = 64", "maxConcurrentTasks = 1"))
        server = Server(Path(folder) / "data", {"TIDEMILL_NODE_SLOTS": "1"})
        server.start()
        try:
            server.cli("deploy", str(job))
            found = figures(server)
        finally:
            server.stop()
    if "--json" in sys.argv:
        print(json.dumps({one.name: [one.rate, one.p50, one.p99] for one in found}))
        return
    table = Table(title=f"One server process, {CONNECTIONS} connections, {SECONDS:.0f} s each")
    table.add_column("request")
    for name in ("a second", "of the bare route", "median (ms)", "p99 (ms)"):
        table.add_column(name, justify="right")
    for one in found:
        share = f"{one.rate / found[0].rate:.0%}"
        table.add_row(one.name, f"{one.rate:.0f}", share, f"{one.p50:.1f}", f"{one.p99:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
