"""A disk that is full now and then: writes are refused with a reason, what runs goes on, and all is well afterwards."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.e2e.drills.ground import ENDED, DrillError, Ground, ground
from tests.e2e.drive import select_pause, until

SIZE_MB = 96
# so little that a page of the log may still fit, or may not
_LEFT_MAX = 64 << 10


def why_not() -> str:
    """Why a small disk cannot be made here; "" when it can."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def small_disk(folder: Path, *, megabytes: int = SIZE_MB) -> Iterator[Path]:
    """A file system of that size, mounted on ``folder``."""
    folder.mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tidemill-drill", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def drill(folder: Path, *, rounds: int, tasks: int, seconds: float, chance: random.Random) -> str:
    """Fill the disk ``rounds`` times for up to ``seconds``, while tasks run and clients submit. Raises DrillError."""
    refused, accepted = 0, list[str]()
    with small_disk(folder / "disk") as disk, ground(folder, data=disk / "data") as on:
        execution = on.submit(tasks)
        for _ in range(rounds):
            _until_something_runs(on, execution, tasks)
            filler = disk / "filler"
            _fill(disk, filler, chance.randrange(_LEFT_MAX))
            over = time.monotonic() + seconds * chance.random()
            while time.monotonic() < over:
                answer = _try(on)
                refused += answer is None
                accepted += [answer] if answer else []
                select_pause()
            filler.unlink()
            until(lambda: _is_ready(on), seconds=60)
        on.end(execution, tasks, seconds=300)
        for one in accepted:
            until(lambda one=one: on.status(one) in ENDED, seconds=120)  # type: ignore[misc]
            if (status := on.status(one)) != "succeeded":
                raise DrillError(f"execution {one}, accepted on a full disk, is {status}")
    return (
        f"full {rounds} times; {refused} requests refused with 503, {len(accepted)} accepted, {tasks} tasks succeeded"
    )


def _until_something_runs(on: Ground, execution: str, tasks: int) -> None:
    done = on.stats(execution)["success"]
    until(lambda: on.stats(execution)["success"] > done or done == tasks, seconds=120)


def _fill(disk: Path, filler: Path, leave: int) -> None:
    """Until so many bytes are free."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize - leave) > 0:
            file.write(bytes(min(free, 1 << 20)))


def _try(on: Ground) -> str | None:
    """Submit one task: its execution, or None for a refusal in words. Raises DrillError for any other answer."""
    with on.server.http() as http:
        answer = http.post("/jobs/drill/executions", json={"tasks": [{"n": 0}]})
    if answer.status_code == httpx2.codes.OK:
        return str(answer.json()["executionId"])
    if answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE or answer.headers.get("x-should-retry") != "true":
        raise DrillError(f"a full disk was answered {answer.status_code}: {answer.text}")
    return None


def _is_ready(on: Ground) -> bool:
    return httpx2.get(f"{on.server.url}/readyz").status_code == httpx2.codes.OK
