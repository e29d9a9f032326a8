"""The scheduler's threads: one that decides, one per node that listens, one each that collects logs, forgets, fires."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.protocol import Engine
from tidemill.model.ids import NodeId
from tidemill.model.outlook import Outlook
from tidemill.model.region import Regions
from tidemill.scheduler.audit_end import AuditEnd
from tidemill.scheduler.collect import Collector
from tidemill.scheduler.fire import Firer, TriggerClock
from tidemill.scheduler.head_start import HeadStart
from tidemill.scheduler.listen import Hears, Inbox, Listener
from tidemill.scheduler.pace import rest_s
from tidemill.scheduler.parts import Parts
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.retain import Retention, Sweeper
from tidemill.scheduler.tick import Ticker
from tidemill.secrets import KeyRing
from tidemill.store.database import Database

_LOG: Final = structlog.get_logger("tidemill.scheduler")
_STORE: Final = "scheduler"


def wall_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the loop's own clock, read once a pass and handed on


class Scheduler:
    """Runs from ``start`` to ``stop``; sleeps until a commit, a report or the next due time."""

    def __init__(  # noqa: PLR0913 - put together once, by the server
        self,
        *,
        database: Database,
        engine: Engine,
        keyring: KeyRing,
        blobs: Blobs,
        logfiles: LogFiles,
        policy: SchedulerPolicy,
        regions: Regions,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._parts = Parts(
            database=database,
            engine=engine,
            keyring=keyring,
            blobs=blobs,
            logfiles=logfiles,
            policy=policy,
            jitter=random.SystemRandom().random,
            steady=time.monotonic,
        )
        self._clock = clock
        self._stopping = threading.Event()
        self._inbox = Inbox(database.changes.signal)
        self._collector = Collector(self._parts)
        self._listeners: dict[NodeId, Listener] = {}
        self._sweeper = Sweeper(
            Retention(
                database=database,
                blobs=blobs,
                logfiles=logfiles,
                policy=policy,
                audit_end=_audit_end(self._parts),
            ),
            clock=clock,
            every_s=policy.retain_every_s,
            problems=self._parts.problems,
        )
        self._triggers = TriggerClock(
            database=database,
            steady=time.monotonic,
            regions=regions,
            head_start=HeadStart(),
        )
        self._firer: Firer | None = None
        self._thread: threading.Thread | None = None
        self._ticker: Ticker | None = None

    def start(self) -> None:
        """Take the term and begin. Raises what the database raises."""
        ticker = self._ticker = Ticker(self._parts, now=self._clock())
        self._firer = Firer(self._triggers, clock=self._clock, term=lambda: ticker.term, problems=self._parts.problems)
        self._collector.start()
        self._sweeper.start()
        self._firer.start()
        self._thread = threading.Thread(target=self._run, args=(ticker,), name="tidemill-scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing more, commit what was reported, end all threads. What runs on nodes goes on running."""
        if self._thread is None or self._firer is None:
            return
        self._stopping.set()
        self._sweeper.stop()
        self._firer.stop()
        self._parts.database.changes.signal()
        self._thread.join()
        self._collector.join()
        self._sweeper.join()
        self._firer.join()

    def problem(self) -> str | None:
        """What does not work now, in words; None when all does."""
        return self._parts.problems.current()

    def outlook(self) -> Outlook:
        """How things look to the scheduler; a pass that fails stops all claims."""
        seen = Outlook() if self._ticker is None else self._ticker.outlook
        return replace(seen, stopped=self._parts.problems.of(_STORE))

    def _run(self, ticker: Ticker) -> None:
        changes = self._parts.database.changes
        while not self._stopping.is_set():
            seen = changes.count  # before the look: what is committed during it wakes us again
            begun = self._parts.steady()
            due = self._pass(ticker)
            ended = self._parts.steady()
            wait = (due - self._clock()).total_seconds()
            if wait > 0 and not self._stopping.is_set():
                changes.wait(seen, wait)
                rest = rest_s(ended - begun) - (self._parts.steady() - ended)
                if rest > 0:
                    self._stopping.wait(rest)
        self._wind_up(ticker)

    def _pass(self, ticker: Ticker) -> datetime:
        now = self._clock()
        try:
            self._settle_reports(ticker)
            due = ticker.tick(now)
            self._listen(ticker)
        except Exception as error:  # noqa: BLE001 - the top of a loop: said, and tried again
            if self._parts.problems.report(_STORE, f"{type(error).__name__}: {error}"):
                _LOG.error("pass failed", exc_info=error)
            return now + timedelta(seconds=self._parts.policy.look_every_s)
        self._parts.problems.clear(_STORE)
        return due

    def _settle_reports(self, ticker: Ticker) -> None:
        while (handed := self._inbox.take()) is not None:
            source = f"reports of {handed.node}"
            try:
                handed.position = ticker.settle(handed.node, handed.batch, self._clock())
                self._parts.problems.clear(source)
            except Exception as error:  # noqa: BLE001 - one node's reports must not hold up the others
                if self._parts.problems.report(source, f"{type(error).__name__}: {error}"):
                    _LOG.error("reports not committed", node=handed.node, exc_info=error)
            finally:
                # without a position the listener asks for the same events again
                handed.done.set()

    def _listen(self, ticker: Ticker) -> None:
        for node in ticker.nodes:
            if node not in self._listeners:
                hears = Hears(inbox=self._inbox, on_logs=self._collector.notify, live=partial(ticker.live, node))
                self._listeners[node] = Listener(self._parts, node, hears)
                self._listeners[node].start()

    def _wind_up(self, ticker: Ticker) -> None:
        for listener in self._listeners.values():
            listener.stop()
        self._collector.stop()
        self._inbox.close()
        self._settle_reports(ticker)
        for listener in self._listeners.values():
            listener.join()


def _audit_end(parts: Parts) -> AuditEnd | None:
    policy = parts.policy
    if policy.audit_retention_days is None:
        return None
    return AuditEnd(
        database=parts.database,
        mac=parts.keyring.audit_mac,
        workspace=policy.home,
        days=policy.audit_retention_days,
        rows=policy.swept_rows,
    )
