"""make bench-million: one execution of a million tasks, asked about while it runs (`python -m bench.million`).

Everything is measured from outside, through the public API of a real server on a fresh data directory. Tasks
run at level process, which every machine has.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Final

import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from bench.ground import TRUE_JOB
from tests.e2e.drive import Server, until

TASKS: Final = 1_000_000
PAGE: Final = 200
LOOKS: Final = 40
_EXECUTIONS: Final = "/jobs/true/executions"
_MB: Final = 1 << 20


@dataclass(slots=True)
class Figures:
    """What was measured, in order, as (name, value)."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        self.rows.append((name, value))

    def times(self, name: str, seconds: list[float]) -> None:
        """Median and 99th percentile of times in milliseconds."""
        cuts = quantiles(seconds, n=100, method="inclusive")
        self.add(name, f"{cuts[49] * 1000:.0f} / {cuts[98] * 1000:.0f} ms")


def peak_mb(server: Server) -> float:
    """The most memory that the server's process ever had, as the kernel says; MB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def body(tasks: int) -> bytes:
    """A request with ``tasks`` small arguments, each its own."""
    return b'{"tasks":[' + b",".join(b'{"n":%d}' % number for number in range(tasks)) + b"]}"


def took(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def get(http: httpx2.Client, path: str) -> httpx2.Response:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def pages(http: httpx2.Client, path: str) -> Iterator[tuple[float, int]]:
    """Every page of an execution's tasks: how long it took, and how many tasks it has."""
    cursor, more = "", True
    while more:
        begun = time.perf_counter()
        page = get(http, f"{path}/tasks?limit={PAGE}&cursor={cursor}").json()
        yield time.perf_counter() - begun, len(page["data"])
        cursor, more = page["meta"]["nextCursor"], page["meta"]["hasMore"]


def ask(http: httpx2.Client, path: str, figures: Figures) -> None:
    """How long single answers take while tasks run."""
    asked = {
        "GET execution": path,
        "GET executions": _EXECUTIONS,
        "first page": f"{path}/tasks?limit={PAGE}",
        "last page": f"{path}/tasks?limit={PAGE}&sort=name:desc",
        "page q=task-500000": f"{path}/tasks?limit={PAGE}&q=task-500000",
        "page q=99": f"{path}/tasks?limit={PAGE}&q=99",
        "page q=nothing": f"{path}/tasks?limit={PAGE}&q=nothing",
        "page status=running": f"{path}/tasks?limit={PAGE}&status=running",
        "page status=failed": f"{path}/tasks?limit={PAGE}&status=failed",
        "page status=pending": f"{path}/tasks?limit={PAGE}&status=pending",
        "explain": f"{path}/explain",
    }
    for name, each in asked.items():
        figures.times(f"{name}, p50 / p99", [took(lambda each=each: get(http, each)) for _ in range(LOOKS)])  # type: ignore[misc]  # bound to this turn


def walk(http: httpx2.Client, path: str, figures: Figures) -> None:
    """All pages, one after the other."""
    begun = time.perf_counter()
    found = list(pages(http, path))
    assert sum(count for _, count in found) == TASKS
    figures.add(f"all {len(found)} pages of {PAGE}", f"{time.perf_counter() - begun:.0f} s")
    times = [seconds for seconds, _ in found]
    middle = len(times) // 2
    for name, some in (("first", times[:LOOKS]), ("middle", times[middle : middle + LOOKS]), ("last", times[-LOOKS:])):
        figures.times(f"{LOOKS} pages at the {name}, p50 / p99", some)


@contextmanager
def running() -> Iterator[tuple[Server, Path]]:
    """A server on a fresh data directory, with the job `true`."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "true"
        job.mkdir()
        (job / "blaxel.toml").write_text(TRUE_JOB)
        server = Server(Path(folder) / "data", {"TIDEMILL_ISOLATION": "process"})
        server.start()
        try:
            server.cli("deploy", str(job))
            yield server, Path(folder) / "data"
        finally:
            server.stop()


def measured(server: Server, data: Path) -> Figures:
    figures = Figures()
    figures.add("server's peak memory, idle", f"{peak_mb(server):.0f} MB")
    with server.http() as http:
        request = body(TASKS)
        begun = time.perf_counter()
        execution = http.post(_EXECUTIONS, content=request, timeout=60).json()["executionId"]
        figures.add(f"POST of {TASKS} tasks ({len(request) / _MB:.0f} MB)", f"{time.perf_counter() - begun:.1f} s")
        figures.add("server's peak memory, after the POST", f"{peak_mb(server):.0f} MB")
        path = f"{_EXECUTIONS}/{execution}"
        until(lambda: get(http, path).json()["stats"]["success"] >= PAGE)
        ask(http, path, figures)
        walk(http, path, figures)
        ended = get(http, path).json()["stats"]["success"]
        figures.add("tasks a second meanwhile", f"{ended / (time.perf_counter() - begun):.0f}")
        figures.add("cancel", f"{took(lambda: http.delete(f'{path}?force=true')) * 1000:.0f} ms")
        begun = time.perf_counter()
        until(lambda: get(http, path).json()["status"] == "cancelled")
        figures.add("from its answer until all had ended", f"{(time.perf_counter() - begun) * 1000:.0f} ms")
    figures.add("server's peak memory, at the end", f"{peak_mb(server):.0f} MB")
    size = sum(file.stat().st_size for file in data.glob("tidemill.db*"))
    figures.add("database on disk", f"{size / _MB:.0f} MB")
    return figures


def main() -> None:
    with running() as (server, data):
        figures = measured(server, data)
        server.stop()
        figures.add("ledger", server.cli("doctor", "--ledger").splitlines()[-1])
    if "--json" in sys.argv:
        print(json.dumps(dict(figures.rows)))
        return
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / (1 << 30)
    table = Table(title=f"One execution of {TASKS:,} x /bin/true; {cores} cores, {memory:.0f} GB")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.rows:
        table.add_row(name, value)
    Console().print(table)


if __name__ == "__main__":
    main()
