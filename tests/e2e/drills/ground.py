"""What drills have in common: a server with a job, an execution of it, and what must hold when all is over."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.drive import Server, until

JOB = """type = "job"
name = "drill"
[entrypoint]
prod = "sh main.sh"
[runtime]
memory = 16
maxConcurrentTasks = 16
"""
# some take their time, so that whoever is killed has tasks that run
SCRIPT = """
sleep 0.$((TASK_INDEX % 5))
cat "$TIDEMILL_TASK_FILE" > "$TIDEMILL_RESULT_FILE"
"""
ENDED = {"succeeded", "failed", "cancelled"}


class DrillError(AssertionError):
    """A promise that was broken."""


@dataclass(slots=True)
class Ground:
    """A server on which job ``drill`` is deployed."""

    server: Server

    def submit(self, tasks: int) -> str:
        with self.server.http() as http:
            answer = http.post("/jobs/drill/executions", json={"tasks": [{"n": n} for n in range(tasks)]})
            answer.raise_for_status()
            return str(answer.json()["executionId"])

    def stats(self, execution: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self._get(execution)["stats"]  # type: ignore[assignment]
        return found

    def status(self, execution: str) -> str:
        return str(self._get(execution)["status"])

    def end(self, execution: str, tasks: int, *, seconds: float) -> None:
        """Wait for its end. Raises DrillError unless every task succeeded, in one charged attempt."""
        until(lambda: self.status(execution) in ENDED, seconds=seconds)
        wanted = {"total": tasks, "success": tasks, "running": 0, "failure": 0, "cancelled": 0, "retried": 0}
        if (said := self.stats(execution)) != wanted:
            raise DrillError(f"execution {execution} ended as {said}, not as {wanted}")

    def _get(self, execution: str) -> Mapping[str, object]:
        with self.server.http() as http:
            answer = http.get(f"/jobs/drill/executions/{execution}")
            answer.raise_for_status()
            found: Mapping[str, object] = answer.json()
            return found


@contextmanager
def ground(folder: Path, *, data: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[Ground]:
    """Make one; at the end the ledger must be sound, nothing live, and no process left. Raises DrillError."""
    job = folder / "drill"
    job.mkdir()
    (job / "blaxel.toml").write_text(JOB)
    (job / "main.sh").write_text(SCRIPT)
    server = Server(data or folder / "data", settings or {})
    server.start()
    try:
        server.cli("deploy", str(job))
        yield Ground(server)
    finally:
        server.stop()
    check(server)


def check(server: Server) -> None:
    """Of a server that has ended. Raises DrillError."""
    said = server.cli("doctor", "--ledger", code=0)
    if left := server.ours():
        raise DrillError(f"processes were left: {left}; {said}")
