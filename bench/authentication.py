"""make bench: what it costs to know who asks, in microseconds (`python -m bench.authentication`).

Each kind of credential against a bare read of the ledger, alternating, one thread, a real SQLite file.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from tests.api.asking import ADMIN, Api, opened
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.service import identity

ROUNDS: Final = 20
CALLS: Final = 200
_ONE: Final = text("SELECT 1")


def credentials(api: Api) -> Mapping[str, str]:
    """One of each kind, all of workspace main."""
    api.deployed()
    execution = api.post("/v0/jobs/sweep/executions", b"").json()["executionId"]
    api.run_task(execution, 0)
    made = api.post("/v0/service_accounts", {"name": "ci", "role": "admin"}).json()
    pair = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    of_task = api.parts.keyring.task_credential(AttemptId(OwnerKind.TASK, api.key(execution), 0, 1))
    return {
        "API key": ADMIN,
        "access token": token(api, pair),
        "task's credential": of_task,
        "task's token": token(api, {"client_id": "task", "client_secret": of_task}),
    }


def token(api: Api, pair: Mapping[str, str]) -> str:
    found: str = api.post("/v0/oauth/token", {"grant_type": "client_credentials", **pair}).json()["access_token"]
    return found


def microseconds(work: Callable[[], object]) -> float:
    """Of one call, over ``CALLS`` of them."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - begun) / CALLS * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        api = opened(Path(folder))
        now, parts = api.now[0], api.parts
        works: dict[str, Callable[[], object]] = {
            "a read of nothing": lambda: parts.database.read(lambda connection: connection.scalar(_ONE))
        }
        for name, credential in credentials(api).items():
            works[name] = lambda credential=credential: identity.authenticate(parts, credential, "main", now=now)
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                times[name].append(microseconds(work))
        api.close()
    table = Table("credential", "median µs", "best µs", "of a read of nothing")
    bare = median(times["a read of nothing"])
    for name, found in times.items():
        table.add_row(name, f"{median(found):.0f}", f"{min(found):.0f}", f"{median(found) / bare:.1f} x")
    Console().print(table)


if __name__ == "__main__":
    main()
