"""One life of a server: the real scheduler, taken apart into the steps that its threads would do."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.protocol import Engine
from tidemill.model.errors import EngineUnavailable, OutOfSpace, StaleTerm
from tidemill.model.ids import NodeId
from tidemill.model.lease import EventBatch, Position
from tidemill.model.region import Regions
from tidemill.scheduler.collect import collect
from tidemill.scheduler.fire import TriggerClock
from tidemill.scheduler.head_start import LONGEST_S, HeadStart
from tidemill.scheduler.parts import Parts
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.retain import Retention
from tidemill.scheduler.tick import Ticker
from tidemill.secrets import KeyRing
from tidemill.service import jobs
from tidemill.service import parts as service
from tidemill.store import nodes
from tidemill.store.database import Database
from tidemill.testing.simulator.points import (
    Life,
    mortal_blobs,
    mortal_database,
    mortal_engine,
    mortal_logfiles,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What outlives a server. ``wall`` may jump, ``steady`` does not; ``folder`` is the data directory.

    ``keys`` makes a new key.
    """

    database: Database
    engine: Engine
    blobs: Blobs
    folder: Path
    keyring: KeyRing
    policy: SchedulerPolicy
    wall: Callable[[], datetime]
    steady: Callable[[], float]
    keys: Callable[[], int]
    dice: random.Random


class Server:
    """Dies with its life: every method raises Died from then on. What cannot be done now returns False."""

    def __init__(self, ground: Ground, life: Life) -> None:
        """Start. Raises Died, and OutOfSpace when the disk has no room for it."""
        self.life = life
        self._wall = ground.wall
        self.logfiles = LogFiles(ground.folder / "logs")
        self.parts = Parts(
            database=mortal_database(ground.database, life, ground.dice),
            engine=mortal_engine(ground.engine, life),
            keyring=ground.keyring,
            blobs=mortal_blobs(ground.blobs, life),
            logfiles=mortal_logfiles(self.logfiles, life),
            policy=ground.policy,
            jitter=ground.dice.random,
            steady=ground.steady,
        )
        self.service = service.Parts(
            database=self.parts.database,
            keyring=ground.keyring,
            blobs=self.parts.blobs,
            logfiles=self.parts.logfiles,
            arrivals=ground.folder / "arrivals",
            limits=service.Limits(),
        )
        self._heard: dict[NodeId, Position] = {}
        self._inbox: deque[tuple[NodeId, EventBatch]] = deque()
        self._logs: deque[NodeId] = deque()
        self.retention = Retention(
            database=self.parts.database,
            blobs=self.parts.blobs,
            logfiles=self.parts.logfiles,
            policy=ground.policy,
        )
        self._triggers = TriggerClock(
            database=self.parts.database,
            steady=ground.steady,
            regions=Regions(),
            keys=lambda _: iter(ground.keys, None),
            # so that it begins as early as it ever may
            head_start=HeadStart(LONGEST_S),
        )
        jobs.finish_deletes(self.service, now=self._wall())
        self.ticker = Ticker(self.parts, now=self._wall())

    def bury(self) -> None:
        """Give back what the operating system would take from a process that has ended."""
        self.logfiles.sync()

    def listen(self, node: NodeId) -> bool:
        """As a listener's thread does: it asks again only when its last batch is settled."""
        if any(waiting == node for waiting, _ in self._inbox):
            return False
        try:
            if node not in self._heard:
                self._heard[node] = self.parts.database.read(
                    lambda connection: nodes.read_up_to(connection, node)
                ).events
            batch = self.parts.engine.events(node, self._heard[node], 0)
        except EngineUnavailable:
            return False
        if batch.log_head and node not in self._logs:
            self._logs.append(node)
        if batch.events:
            self._inbox.append((node, batch))
        return True

    def settle(self) -> bool:
        """As the scheduler's thread does with what waits longest."""
        if not self._inbox:
            return False
        node, batch = self._inbox.popleft()
        try:
            position = self.ticker.settle(node, batch, self._wall())
        except OutOfSpace:
            return False  # the listener asks for the same events again
        if position is not None:
            self._heard[node] = position
        return True

    def collect(self) -> bool:
        """As the collector's thread does."""
        if not self._logs:
            return False
        node = self._logs.popleft()
        try:
            while collect(self.parts, node):
                pass
        except (EngineUnavailable, OutOfSpace):
            return False
        return True

    def fire(self) -> bool:
        """As the trigger clock's thread does; False for a look that failed."""
        try:
            self._triggers.tick(self.ticker.term, self._wall())
        except (OutOfSpace, StaleTerm):
            return False
        return True

    def tick(self) -> datetime | None:
        """As the scheduler's thread does; when it would look again. None for a pass that failed."""
        try:
            return self.ticker.tick(self._wall())
        except OutOfSpace:
            return None

    def retain(self) -> bool:
        """As the sweeper's thread does once in a while, but for the files, whose times are those of the real world."""
        try:
            for _ in self.retention.units(self._wall()):
                pass
        except OutOfSpace:
            return False
        return True
