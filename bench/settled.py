"""Settles most of a big execution without running it, so that what comes after can be measured within the hour.

The scheduler and the ledger are those of a server, on the data directory of one that is stopped; only the engine is the
fake one, whose tasks end as soon as they start. The ledger is then what it would be after so many tasks that have run.
"""

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.fake import FakeEngine, Play
from tidemill.model.ids import NodeId
from tidemill.model.lease import EventKind, NodeInfo, Position
from tidemill.scheduler.parts import Parts
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.tick import Ticker
from tidemill.secrets import FILE_NAME
from tidemill.service import key_check
from tidemill.store.database import DATABASE_NAME, Database

_INCARNATION: Final = "settled"
_TRUE: Final = Play()


def settle(data: Path, node: str, tasks: int) -> int:
    """Let the fake node ``node`` run ``tasks`` of what waits in a data directory; how many it were, a few more.

    Raises AssertionError when nothing is left before that.
    """
    info = NodeInfo(id=NodeId(node), region="local", memory_mb=1 << 20, slots=1_000, incarnation=_INCARNATION)
    engine = FakeEngine([info], lambda _lease: _TRUE, clock=time.time, steady=time.monotonic)  # noqa: TID251 - a main loop
    database = Database(data / DATABASE_NAME)
    try:
        parts = Parts(
            database=database,
            engine=engine,
            keyring=key_check.load(data / DATABASE_NAME, data / FILE_NAME, None),
            blobs=Blobs(data / "blobs"),
            logfiles=LogFiles(data / "logs"),
            policy=SchedulerPolicy(task_url="http://bench.invalid/v0", run_url="http://bench.invalid"),
            jitter=random.random,
            steady=time.monotonic,
        )
        return _settle(parts, engine, info, tasks)
    finally:
        database.close()


def _settle(parts: Parts, engine: FakeEngine, info: NodeInfo, tasks: int) -> int:
    ticker = Ticker(parts, now=_now())
    position = Position(incarnation=_INCARNATION, number=0)
    ended = idle = 0
    while ended < tasks:
        ticker.tick(_now())
        batch = engine.events(info.id, position, 0)
        position = ticker.settle(info.id, batch, _now()) or position
        ended += sum(event.kind is EventKind.ENDED for event in batch.events)
        idle = 0 if batch.events else idle + 1
        # what the node ran that was there before is asked for first, and that takes some looks
        assert idle < 10_000, f"after {ended} of {tasks} tasks nothing more starts"
    return ended


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a main loop's own clock
