"""make bench: what a user waits for, measured through the public API of a real server (`python -m bench.run`).

Tasks run at level process, which every machine has; what a sandbox costs is measured by bench.confinement.
"""

import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from tests.e2e.drive import ROOT, Server, until

STARTS = 20
TASKS = 2_000
TRUE_JOB = """type = "job"
name = "true"
[entrypoint]
prod = "/bin/true"
[runtime]
memory = 16
maxConcurrentTasks = 64
"""


def first_line_ms(server: Server) -> float:
    """From the sending of a POST of one task of examples/shell to its first line, as the log says; milliseconds."""
    with server.http() as http:
        sent = time.time()  # noqa: TID251 - compared with the log's wall clock
        execution_id = http.post("/jobs/shell/executions", json={"tasks": [{"name": "Ada"}]}).json()["executionId"]
        query = {"resourceType": "jobs", "workloadIds": "shell", "executionId": execution_id, "limit": 100}

        def lines() -> list[dict[str, str]]:
            found: list[dict[str, str]] = http.get("/observability/logs", params=query).json()["shell"]["logs"]
            return found

        oldest = until(lines)[-1]
        until(lambda: http.get(f"/jobs/shell/executions/{execution_id}").json()["status"] == "succeeded")
    return (datetime.fromisoformat(oldest["timestamp"]).timestamp() - sent) * 1000


def tasks_a_second(server: Server, tasks: int) -> float:
    """Throughput of one execution of ``tasks`` times /bin/true, from POST to its end."""
    with server.http() as http:
        begun = time.monotonic()
        execution_id = http.post("/jobs/true/executions", json={"tasks": [{}] * tasks}).json()["executionId"]
        path = f"/jobs/true/executions/{execution_id}"
        until(lambda: http.get(path).json()["status"] not in {"queued", "pending", "running"}, seconds=300)
        took = time.monotonic() - begun
        stats = http.get(path).json()["stats"]
    assert stats["success"] == tasks, stats
    return tasks / took


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "true"
        job.mkdir()
        (job / "blaxel.toml").write_text(TRUE_JOB)
        server = Server(Path(folder) / "data", {"TIDEMILL_ISOLATION": "process"})
        server.start()
        try:
            server.cli("deploy", str(ROOT / "examples" / "shell"))
            server.cli("deploy", str(job))
            starts = [first_line_ms(server) for _ in range(STARTS)]
            rate = tasks_a_second(server, TASKS)
        finally:
            server.stop()
    figures = {
        "POST to first line, median (ms)": round(median(starts), 1),
        "POST to first line, p90 (ms)": round(quantiles(starts, n=10)[-1], 1),
        "POST to first line, min (ms)": round(min(starts), 1),
        f"tasks a second, {TASKS} x /bin/true": round(rate),
    }
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    table = Table(title=f"Tidemill on this machine ({STARTS} starts, one execution of {TASKS} tasks)")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
