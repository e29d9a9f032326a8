"""What the scheduler's modules work with, put together once by the loop."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.protocol import Engine
from tidemill.model.ids import NodeId
from tidemill.model.lease import Event, EventBatch, Position
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.problems import Problems
from tidemill.secrets import KeyRing
from tidemill.store.database import Database
from tidemill.store.ledger_settle import Report, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """``jitter`` gives numbers from 0 to 1 for the waits of retries.

    ``steady`` is a clock that never jumps, in seconds: how long a lease has not been renewed is measured by it alone.
    """

    database: Database
    engine: Engine
    keyring: KeyRing
    blobs: Blobs
    logfiles: LogFiles
    policy: SchedulerPolicy
    jitter: Callable[[], float]
    steady: Callable[[], float]
    problems: Problems = field(default_factory=Problems)


@dataclass(slots=True)
class Handed:
    """A batch on its way to the scheduler's thread. ``position`` is set when its effects are committed."""

    node: NodeId
    batch: EventBatch
    done: threading.Event = field(default_factory=threading.Event)
    position: Position | None = None


def conclude(parts: Parts, node: NodeId, events: Sequence[Event], now: datetime) -> None:
    """Write down ends of attempts that the server knows without hearing of them from the node."""
    if events:
        report = Report(node=node, events=events)
        parts.database.write(
            lambda connection: settle(connection, report, now=now, jitter=parts.jitter), urgent=True, wakes=False
        )
