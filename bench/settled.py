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
from tidemill.secrets import FILE_NAME, KeyRing
from tidemill.service import key_check
from tidemill.store.database import DATABASE_NAME, Database

_INCARNATION: Final = "settled"
_TRUE: Final = Play()
# what ran on the node that was there before is asked for first, and that takes a while
_PATIENCE_S: Final = 60


def settle(data: Path, node: str, tasks: int) -> int:
    """Let the fake node ``node`` run ``tasks`` of what waits in a data directory; how many it were, a few more.

    Raises Conflict while a server runs there, AssertionError when nothing is left before that.
    """
    database = Database(data / DATABASE_NAME)
    try:
        return settle_in(database, key_check.load(data / DATABASE_NAME, data / FILE_NAME, None), node, tasks)
    finally:
        database.close()


def settle_in(database: Database, keyring: KeyRing, node: str, tasks: int) -> int:
    """The same in a database that is open."""
    info = NodeInfo(id=NodeId(node), region="local", memory_mb=1 << 20, slots=1_000, incarnation=_INCARNATION)
    now = time.time  # noqa: TID251 - a main loop
    engine = FakeEngine([info], lambda _lease: _TRUE, clock=now, steady=time.monotonic)
    parts = Parts(
        database=database,
        engine=engine,
        keyring=keyring,
        blobs=Blobs(database.path.parent / "blobs"),
        logfiles=LogFiles(database.path.parent / "logs"),
        policy=SchedulerPolicy(task_url="http://bench.invalid/v0", run_url="http://bench.invalid"),
        jitter=random.random,
        steady=time.monotonic,
    )
    return _settle(parts, engine, info, tasks)


def _settle(parts: Parts, engine: FakeEngine, info: NodeInfo, tasks: int) -> int:
    ticker = Ticker(parts, now=_now())
    position = Position(incarnation=_INCARNATION, number=0)
    ended, heard = 0, time.monotonic()
    while ended < tasks:
        ticker.tick(_now())
        batch = engine.events(info.id, position, 0)
        position = ticker.settle(info.id, batch, _now()) or position
        ended += sum(event.kind is EventKind.ENDED for event in batch.events)
        heard = time.monotonic() if batch.events else heard
        assert time.monotonic() - heard < _PATIENCE_S, f"after {ended} of {tasks} tasks nothing more starts"
    return ended


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a main loop's own clock
