"""The server that is measured: a fresh data directory, two jobs of /bin/true, and a client that hardly loads it.

Everything goes through the public API. The ends of executions are waited for as `tidemill run --wait` does: the server
says when something happens, so that nobody asks in vain (docs/events.md).
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2

from tests.e2e.drive import Server

Json: TypeAlias = Any

JOB: Final = "true"
OTHER_JOB: Final = "other"
MEMORY_MB: Final = 16
TRUE_JOB: Final = f"""type = "job"
name = "{JOB}"
[entrypoint]
prod = "/bin/true"
[runtime]
memory = {MEMORY_MB}
maxConcurrentTasks = 64
"""
ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "timeout"})
# every machine has it; what a sandbox costs is measured by bench.confinement
# and no paths for interpreters, which /bin/true does not read
SETTINGS: Final = {"TIDEMILL_ISOLATION": "process", "TIDEMILL_TASK_READ_PATHS": "[]"}

_WAIT_S: Final = 20
_NO_TASKS: Final[Mapping[str, str | int]] = {"tasks": "false", "limit": 1_000}


class BenchError(Exception):
    """What was measured did not do what it had to."""


class Watch:
    """Hears of executions of a job; what happens after it was made is not missed."""

    def __init__(self, http: httpx2.Client, job: str) -> None:
        self._http, self._job = http, job
        self._after: int = http.get("/events", params={"after": "newest"}).raise_for_status().json()["next"]

    def wait(self, execution: str, *, seconds: float) -> str:
        """The state in which ``execution`` has ended. Raises BenchError when it has not within ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self._events(execution=execution):
                if event["type"] == "execution" and event["status"] in ENDED:
                    return str(event["status"])
        raise BenchError(f"execution {execution} of job {self._job} has not ended within {seconds:.0f} s")

    def count(self, executions: int, *, seconds: float) -> None:
        """Until so many have succeeded, within ``seconds``. Raises BenchError when one ends otherwise or it is over."""
        deadline, ended = time.monotonic() + seconds, 0
        while ended < executions:
            for event in self._events():
                if event["type"] == "execution" and event["status"] in ENDED:
                    if event["status"] != "succeeded":
                        raise BenchError(f"execution {event['execution']} is {event['status']}")
                    ended += 1
            if time.monotonic() > deadline:
                raise BenchError(f"{ended} of {executions} executions have ended within {seconds:.0f} s")

    def _events(self, **only: str) -> list[Json]:
        query: Mapping[str, str | int] = {"after": self._after, "job": self._job, "wait": _WAIT_S, **_NO_TASKS, **only}
        page = self._http.get("/events", params=query, timeout=_WAIT_S + 10).raise_for_status().json()
        self._after = page["next"]
        events: list[Json] = page["events"]
        return events


@dataclass(frozen=True, slots=True)
class Ground:
    """A server that runs, with both jobs deployed, and a client of it."""

    server: Server
    http: httpx2.Client

    @property
    def pids(self) -> tuple[int, int]:
        """The server and its node."""
        assert self.server.process is not None
        return self.server.process.pid, self.server.node_pid

    def submit(self, tasks: int | bytes, *, job: str = JOB) -> str:
        """Start an execution of so many tasks without arguments, or of a body as it is; its id."""
        body = b'{"tasks":[%b]}' % b",".join([b"{}"] * tasks) if isinstance(tasks, int) else tasks
        answer = self.http.post(f"/jobs/{job}/executions", content=body, timeout=120)
        return str(answer.raise_for_status().json()["executionId"])

    def run(self, tasks: int, *, job: str = JOB, seconds: float = 3_600) -> float:
        """Seconds from the POST of an execution to its end. Raises BenchError unless every task has succeeded."""
        watch = Watch(self.http, job)
        begun = time.perf_counter()
        execution = self.submit(tasks, job=job)
        status = watch.wait(execution, seconds=seconds)
        took = time.perf_counter() - begun
        if status != "succeeded":
            raise BenchError(f"execution {execution} is {status}")
        return took

    def start_ms(self, *, job: str = JOB) -> float:
        """Milliseconds from the sending of a POST of one task to the start of its process, by the machine's clock."""
        watch = Watch(self.http, job)
        sent = time.time()  # noqa: TID251 - compared with what the attempt says of the wall clock
        execution = self.submit(1, job=job)
        watch.wait(execution, seconds=120)
        task = self.http.get(f"/jobs/{job}/executions/{execution}/tasks/0").raise_for_status().json()
        return (datetime.fromisoformat(task["attempts"][-1]["startedAt"]).timestamp() - sent) * 1000


def deploy(server: Server, folder: Path, name: str = JOB, command: str = "/bin/true") -> None:
    """The job ``name``, from a folder of its own in ``folder``; it runs ``command``."""
    source = folder / name
    source.mkdir()
    (source / "blaxel.toml").write_text(
        TRUE_JOB.replace(f'name = "{JOB}"', f'name = "{name}"').replace("/bin/true", command)
    )
    server.cli("deploy", str(source))


@contextmanager
def running(settings: Mapping[str, str] = SETTINGS) -> Iterator[Ground]:
    """Start one on a fresh data directory, with its node; both are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", dict(settings))
        server.start()
        try:
            for name in (JOB, OTHER_JOB):
                deploy(server, Path(folder), name)
            with server.http() as http:
                yield Ground(server, http)
        finally:
            server.stop()
