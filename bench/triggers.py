"""How long after their due time triggers have fired (`python -m bench.triggers`): the real clock on a real database.

10,000 triggers of as many jobs in ten workspaces. First all are due in the same minute; then a sixtieth of them is due
in each minute of an hour, of which the last part of a second before each minute is lived through.
"""

import gc
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Final

from rich.console import Console
from sqlalchemy import Connection, func, insert, select

from tidemill.model.ids import key_run
from tidemill.model.job import JobSpec, Runtime
from tidemill.model.region import Regions
from tidemill.scheduler.fire import TriggerClock, pause_s
from tidemill.scheduler.head_start import HeadStart
from tidemill.store import jobs, nodes, schema, specs, triggers
from tidemill.store.database import Database

TRIGGERS: Final = 10_000
WORKSPACES: Final = 10
IDLE_LOOKS: Final = 200
LIVED_S: Final = 0.6
NOON: Final = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
_AT_ONCE: Final = 500
_MINUTE: Final = timedelta(minutes=1)


def deploy(connection: Connection, numbers: range) -> None:
    """A job with two triggers for each number: one at 12:01, one at a minute of the hour from 13:00 on."""
    spec = specs.encode(JobSpec(runtime=Runtime(image="job/bench:tag")))
    for number, key in zip(numbers, key_run(int(NOON.timestamp() * 1000) + numbers.start), strict=False):
        texts = dict.fromkeys(("display_name", "external_id"), "")
        who = {"created_at": NOON, "created_by": "bench", "updated_at": NOON, "updated_by": "bench"}
        workspace, name = f"w{number % WORKSPACES}", f"job-{number}"
        names = {"workspace": workspace, "name": name, "state": "DEPLOYED", "labels": {}}
        kept = [
            {"id": trigger, "type": "cron", "enabled": True, "configuration": {"schedule": schedule}}
            for trigger, schedule in (("at-once", "1 12 * * *"), ("spread", f"{number % 60} 13 * * *"))
        ]
        extra = {"spec": {"triggers": kept}}
        connection.execute(
            insert(schema.job).values(key=key, **names, **texts, **who, extra=extra, active_revision="rev-1")
        )
        connection.execute(
            insert(schema.revision).values(
                job=key, id="rev-1", number=1, spec=spec, image_digest="d" * 64, created_at=NOON, created_by="bench"
            )
        )
        row = jobs.row_of(connection, workspace, name)
        assert row is not None
        triggers.keep(connection, row, kept, now=NOON)


def begin(connection: Connection) -> int:
    """The workspaces, and the term."""
    for number in range(WORKSPACES):
        connection.execute(
            insert(schema.workspace).values(
                name=f"w{number}", display_name="", created_at=NOON, max_parallel_executions=100
            )
        )
    return nodes.take_term(connection, "scheduler", holder="bench", now=NOON)


def fired(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(schema.execution)) or 0


def took(clock: TriggerClock, term: int, now: datetime) -> float:
    began = time.perf_counter()
    clock.tick(term, now)
    return time.perf_counter() - began


class Hour:
    """A wall clock that goes as fast as the machine's, and is set from minute to minute."""

    def __init__(self) -> None:
        self._set_to, self._at = NOON, time.perf_counter()

    def set(self, now: datetime) -> None:
        self._set_to, self._at = now, time.perf_counter()

    def now(self) -> datetime:
        return self._set_to + timedelta(seconds=time.perf_counter() - self._at)


def late_s(clock: TriggerClock, term: int, hour: Hour, minute: datetime) -> float:
    """How long after the minute all that was due in it exists, when the clock looks as its thread does; 0 in time."""
    hour.set(minute - timedelta(seconds=LIVED_S))
    again: datetime | None = hour.now()
    while again is not None and again <= minute:
        time.sleep(pause_s(hour.now(), again))
        again = clock.tick(term, hour.now())
    return max(0.0, (hour.now() - minute).total_seconds())


def percentiles(seconds: Sequence[float]) -> str:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


def main() -> None:
    console = Console()
    # as a server does
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "tidemill.db")
        term = database.write(begin)
        for first in range(0, TRIGGERS, _AT_ONCE):
            database.write(partial(deploy, numbers=range(first, first + _AT_ONCE)))
        hour = Hour()
        clock = TriggerClock(
            database=database,
            steady=time.perf_counter,
            regions=Regions(),
            head_start=HeadStart(),
        )
        console.print(f"first look, and the inputs of {2 * TRIGGERS} triggers: {took(clock, term, NOON):.2f} s")
        idle = [took(clock, term, NOON + timedelta(seconds=1)) for _ in range(IDLE_LOOKS)]
        console.print(f"a look with nothing due: {percentiles(idle)}")
        all_at_once = took(clock, term, NOON + _MINUTE)
        assert database.read(fired) == TRIGGERS
        console.print(f"{TRIGGERS} due in the same minute, all executions exist after {all_at_once:.2f} s")
        one = NOON.replace(hour=13, minute=0, second=0)
        spread = [late_s(clock, term, hour, one + minute * _MINUTE) for minute in range(60)]
        assert database.read(fired) == 2 * TRIGGERS
        console.print(f"a sixtieth of {TRIGGERS} each minute, the last of them exists after: {percentiles(spread)}")
        database.close()


if __name__ == "__main__":
    main()
