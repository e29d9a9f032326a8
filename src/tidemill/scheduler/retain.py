"""What is forgotten: what has ended long enough ago, and what nobody refers to."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.model.ids import oldest_key
from tidemill.scheduler.audit_end import AuditEnd
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.problems import Problems
from tidemill.scheduler.repeat import Repeat
from tidemill.store import deploys, events, forgotten, inputs, outbox, outdated, ranges, ticks, tokens
from tidemill.store.database import Database

T = TypeVar("T")

PAGE: Final = 200
FILES_EVERY_S: Final = 3_600.0
# what is late is looked for in the file of its hour: none of the last day goes, however short the retention
FILES_KEPT: Final = timedelta(days=1)
_HOUR: Final = "%Y%m%d%H"
_HOUR_LENGTH: Final = 10
_SOURCE: Final = "retention"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Retention:
    """The sweep, in units of at most 1,000 rows. What it remembers only saves work: it begins anew after a crash.

    An execution that has just outlived its time is the last of its chain to do so, or the chain is kept for another
    one; so each is looked at once, and a sweep costs what has expired since the one before.
    """

    def __init__(
        self,
        *,
        database: Database,
        blobs: Blobs,
        logfiles: LogFiles,
        policy: SchedulerPolicy,
        audit_end: AuditEnd | None = None,
    ) -> None:
        """Without ``audit_end`` the audit is kept for ever."""
        self._audit_end = audit_end
        self._database = database
        self._blobs = blobs
        self._logfiles = logfiles
        self._policy = policy
        self._expired_to = (_EPOCH, 0)
        self._unused_to = _EPOCH

    def units(self, now: datetime) -> Iterator[None]:
        """Do all that is due, and yield after each unit. Whoever stops in between leaves nothing that is in the way."""
        cutoff = now - timedelta(days=self._policy.retention_days)
        self._write(lambda connection: deploys.drop_expired(connection, now))
        yield
        yield from self._repeat(partial(tokens.sweep, now=now, limit=self._policy.swept_rows))
        yield from self._drop_unused(now - timedelta(seconds=self._policy.unused_inputs_s))
        yield from self._purge()
        # before what they are about: who reads on behind what was swept is told, and looks at what there is
        yield from self._repeat(partial(events.sweep, cutoff=cutoff, limit=self._policy.swept_rows))
        yield from self._forget(cutoff, now)
        yield from self._repeat(partial(ticks.sweep, cutoff=cutoff, limit=self._policy.swept_rows))
        yield from self._repeat(partial(outbox.forget, cutoff=cutoff, limit=self._policy.swept_rows))
        yield from self._repeat(partial(outdated.forget_builds, cutoff=cutoff, limit=self._policy.swept_rows))
        yield from self._repeat(partial(outdated.forget_jobs, cutoff=cutoff))
        if self._audit_end is not None:
            yield from self._audit_end.units(now)

    def files(self, now: datetime) -> Iterator[None]:
        """The same for blobs, log files and what leads to them, whose folders are read whole: for once in a while."""
        cutoff = now - timedelta(days=self._policy.retention_days)
        before = now - timedelta(seconds=self._policy.unused_inputs_s)
        yield from self._repeat(partial(outdated.forget_images, before=before, limit=self._policy.swept_rows))
        builds = self._database.read(outdated.open_builds)
        # what a build has left may wait for its report for as long as the server is away
        yield from self._blobs_of("images", min([before, *(build.created_at for build in builds)]))
        yield from self._blobs_of("sources", before)
        yield from self._blobs_of("incoming", before)
        yield from self._stray_output(cutoff)
        yield from self._log_files(min(cutoff, now - FILES_KEPT))

    def _forget(self, cutoff: datetime, now: datetime) -> Iterator[None]:
        self._expired_to = min(self._expired_to, (cutoff, 0))  # the clock may have been set back
        while True:
            page = self._database.read(
                partial(forgotten.find_expired, after=self._expired_to, cutoff=cutoff, limit=PAGE)
            )
            if not page:
                return
            chains = sorted({row.chain for row in page})
            while self._write(partial(forgotten.forget, chains=chains, cutoff=cutoff, now=now)):
                yield
                yield from self._purge()
            self._expired_to = (page[-1].completed_at, page[-1].key)

    def _purge(self) -> Iterator[None]:
        return self._repeat(partial(forgotten.purge, limit=self._policy.swept_rows))

    def _drop_unused(self, before: datetime) -> Iterator[None]:
        """Inputs and ranges that were stored for an execution which was not made after all."""
        after = self._unused_to
        while (sets := self._database.read(partial(inputs.find_unused, after=after, before=before))) is not None:
            yield from self._repeat(partial(inputs.drop_unused, key=sets, limit=self._policy.swept_rows))
        low, high = (oldest_key(int(at.timestamp() * 1000)) for at in (after, before))
        while (key := self._database.read(partial(ranges.find_unmade, after=low, before=high))) is not None:
            yield from self._repeat(partial(ranges.drop_unmade, execution=key, limit=self._policy.swept_rows))
        self._unused_to = before

    def _stray_output(self, cutoff: datetime) -> Iterator[None]:
        strays = partial(outdated.stray_blocks, cutoff=cutoff, limit=self._policy.swept_rows)
        while rows := self._database.read(strays):
            self._write(partial(forgotten.delete_block_rows, rows=rows))
            yield

    def _log_files(self, before: datetime) -> Iterator[None]:
        for name in self._logfiles.older(before.strftime(_HOUR)):
            job, _, file = name.partition("/")
            hour = datetime.strptime(file[:_HOUR_LENGTH], _HOUR).replace(tzinfo=UTC)
            used = partial(outdated.log_file_used, job=int(job), file=name, hour=hour)
            if not self._database.read(used):
                self._logfiles.remove(name)
                yield

    def _blobs_of(self, folder: str, before: datetime) -> Iterator[None]:
        names = self._blobs.older(folder, before.timestamp())
        for first in range(0, len(names), PAGE):
            page = names[first : first + PAGE]
            for name in sorted(set(page) - self._wanted(folder, page)):
                # asked once more when it is set aside: a build may have left the same image meanwhile
                wanted = partial(self._wanted, folder, [name])
                self._blobs.remove_unless(name, before.timestamp(), wanted)
                yield

    def _wanted(self, folder: str, names: Sequence[str]) -> frozenset[str]:
        """Those of ``names`` that something in the store leads to."""
        stems = {name: name.removeprefix(f"{folder}/").partition(".")[0] for name in names}
        if folder == "images":
            used = self._database.read(partial(outdated.used_images, digests=stems.values()))
            return frozenset(name for name, stem in stems.items() if stem in used)
        builds = self._database.read(outdated.open_builds)
        if folder == "sources":
            kept = {build.source_digest for build in builds}
            return frozenset(name for name, stem in stems.items() if stem in kept)
        keys = {f"b-{build.key}" for build in builds}
        return frozenset(name for name, stem in stems.items() if stem.rpartition("-")[0] in keys)

    def _repeat(self, unit: Callable[[Any], int]) -> Iterator[None]:
        while self._write(unit):
            yield

    def _write(self, unit: Callable[[Any], T]) -> T:
        return self._database.write(unit, urgent=True, wakes=False)


class Sweeper(Repeat):
    """A thread of its own, so that nobody waits for a sweep; as long as a unit took it leaves the store to others."""

    def __init__(
        self, retention: Retention, *, clock: Callable[[], datetime], every_s: float, problems: Problems
    ) -> None:
        super().__init__(self._sweep, name="sweep", source=_SOURCE, problems=problems, again_s=every_s)
        self._retention = retention
        self._clock = clock
        self._every_s = every_s
        self._files_at = time.monotonic()

    def _sweep(self) -> float:
        """Units until nothing is due, or for as long as two sweeps are apart."""
        began = at = time.monotonic()
        for _ in self._due():
            if self.rest(time.monotonic() - at):
                break
            at = time.monotonic()
            if at - began > self._every_s:
                return 0.0
        return self._every_s

    def _due(self) -> Iterator[None]:
        now = self._clock()
        yield from self._retention.units(now)
        if time.monotonic() >= self._files_at:
            yield from self._retention.files(now)
            self._files_at = time.monotonic() + FILES_EVERY_S
