"""The attempts of a node: which wait, which run, which have ended and are not forgotten yet."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final

from tidemill.model.ids import AttemptId
from tidemill.model.lease import Acknowledgement, BlobRef, BuildLease, Lease, Outcome, OutcomeKind, Refusal
from tidemill.node.arguments import ArgumentsServer
from tidemill.node.build.archive import ImageManifest
from tidemill.node.build.delivery import give_credentials, give_source, take_image
from tidemill.node.build.source import DOCKERFILE, SourceLimits, names_file
from tidemill.node.environment import (
    RESULT_FILE,
    TASK_FILE,
    Invocation,
    TaskPlaces,
    build_invocation,
    dockerfile_invocation,
    file_path,
    task_invocation,
)
from tidemill.node.images import Images, check_digest
from tidemill.node.interpreters import Interpreters
from tidemill.node.isolation.protocol import Refused
from tidemill.node.isolation.users import Seat
from tidemill.node.loop import Timer
from tidemill.node.run import Reason, Run, Tools
from tidemill.node.workdir import WorkRoots
from tidemill.node.worker import Worker

# how many processes one turn of the loop may start: what runs is heard in between
STARTS_A_TURN: Final = 8
# while the disk is full nothing starts
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


class Phase(Enum):
    """Where an attempt is on this node."""

    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Held:
    """An attempt that has not ended. ``run`` is set while RUNNING, ``arguments_path`` when its arguments are served.

    ``dockerfile``: its source holds one, and this node builds those.
    """

    lease: Lease
    phase: Phase
    run: Run | None = None
    arguments_path: str = ""
    dockerfile: bool = False
    expiry: Timer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    memory_mb: int
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where attempts run, and the environment that builds get.

    ``no_roots`` is why no image with a root file system of its own runs here, "" when such images do.
    """

    roots: WorkRoots
    cache: Path
    images: Images
    interpreters: Interpreters
    arguments: ArgumentsServer
    worker: Worker
    variables: Mapping[str, str] = field(repr=False)
    no_roots: str = ""


class Supervisor:
    """Runs what fits, in the order given; the rest waits, as does what has no image yet."""

    def __init__(self, tools: Tools, place: Workplace, capacity: Capacity) -> None:
        self._tools = tools
        self._place = place
        self._capacity = capacity
        self._held: dict[AttemptId, Held] = {}
        self._unacknowledged: set[AttemptId] = set()
        self._queue: deque[Held] = deque()
        self._running: set[Run] = set()
        self._memory_mb = 0
        self._owners: dict[tuple[str, int], int] = {}
        self._closing = False
        self._pause: Timer | None = None
        tools.loop.at_turn_end(self._start_what_fits)
        tools.loop.at_turn_end(tools.spawner.reap)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def busy(self) -> int:
        """How many attempts run or are going to."""
        return len(self._held)

    @property
    def closing(self) -> bool:
        return self._closing

    def know_ended(self, attempts: Sequence[AttemptId]) -> None:
        """Attempts of the node's predecessor whose ends are not acknowledged yet."""
        self._unacknowledged.update(attempts)

    def launch(self, leases: Sequence[Lease]) -> list[Acknowledgement]:
        return [self._take(lease) for lease in leases]

    def cancel(self, attempts: Sequence[AttemptId], grace_s: float) -> None:
        for attempt in attempts:
            held = self._held.get(attempt)
            if held is None:
                continue
            if held.run is not None:
                held.run.stop(Reason.CANCELLED, grace_s)
            else:
                self._end_unstarted(held, OutcomeKind.CANCELLED, "cancelled before it started")

    def withdraw(self, attempts: Sequence[AttemptId]) -> list[AttemptId]:
        """Forget those that have not started, and say which they were."""
        waiting = [a for a in attempts if a in self._held and self._held[a].phase is not Phase.RUNNING]
        for attempt in waiting:
            self._drop(attempt)
        return waiting

    def renew(self, attempts: Sequence[AttemptId], ttl_s: float) -> None:
        for attempt in attempts:
            held = self._held.get(attempt)
            if held is not None and held.expiry is not None:
                self._expire_after(held, ttl_s)

    def inventory(self) -> frozenset[AttemptId]:
        return frozenset(self._held) | self._unacknowledged

    def forget(self, attempts: Sequence[AttemptId]) -> None:
        """A server has committed how these ended."""
        self._unacknowledged.difference_update(attempts)

    def drain(self) -> None:
        """Take nothing new and forget what has not started; what runs goes on."""
        self._closing = True
        self.withdraw([*self._held])

    def stop_all(self, *, at_once: bool) -> None:
        """Drain, and end what runs as a planned loss: SIGTERM, its grace, SIGKILL."""
        self.drain()
        for run in list(self._running):
            run.stop(Reason.PLANNED, 0.0 if at_once else run.lease.grace_s)

    def _take(self, lease: Lease) -> Acknowledgement:
        held = self._held.get(lease.attempt)
        if lease.attempt in self._unacknowledged:
            return Acknowledgement(attempt=lease.attempt)
        if held is None and self._closing:
            return Acknowledgement(attempt=lease.attempt, refused=Refusal.CLOSING)
        if held is None:
            held = Held(lease, Phase.PREPARING)
            self._held[lease.attempt] = held
            self._owners[_owner(lease)] = self._owners.get(_owner(lease), 0) + 1
            self._prepare(held)
        if lease.ttl_s is not None:
            self._expire_after(held, lease.ttl_s)
        return Acknowledgement(attempt=lease.attempt)

    def _prepare(self, held: Held) -> None:
        """Queue an attempt as soon as what it needs is here."""
        lease = held.lease

        def ready(answer: ImageManifest | str) -> None:
            if held.phase is not Phase.PREPARING:
                return
            if isinstance(answer, str):
                self._end_unstarted(held, OutcomeKind.LOST, answer)
            else:
                self._enqueue(held)

        def checked(answer: bool | Exception) -> None:  # what a worker hands on
            if held.phase is not Phase.PREPARING:
                return
            if isinstance(answer, Exception):
                self._end_unstarted(held, OutcomeKind.LOST, f"the source could not be fetched: {answer}")
            else:
                held.dockerfile = answer and self._tools.isolation.users.numbers is not None
                self._enqueue(held)

        if isinstance(lease, BuildLease):
            source = lease.source
            if source is None:
                self._enqueue(held)
                return
            self._place.worker.submit(lambda: _holds_dockerfile(lease, source), checked)
        elif self._place.images.find(lease.image.digest) is not None:
            self._enqueue(held)
        else:
            self._place.images.prepare(lease.image, ready)

    def _enqueue(self, held: Held) -> None:
        held.phase = Phase.QUEUED
        self._queue.append(held)

    def _start_what_fits(self) -> None:
        if self._pause is not None:
            return
        batch: list[Held] = []
        while self._queue and len(batch) < STARTS_A_TURN:
            held = self._queue[0]
            if held.phase is Phase.QUEUED:
                if not self._fits(held.lease) or not self._reserve(held):
                    break
                batch.append(held)
            self._queue.popleft()
        if not batch:
            return
        try:
            self._tools.events.starting([held.lease.attempt for held in batch])
        except OSError as error:
            log.error("nothing starts while the journal cannot be written: %s", error)  # noqa: TRY400
            self._put_back(batch)
            return
        for held in batch:
            self._start(held)
        if self._queue:
            # the next turn comes at once, but not before what is ready has been heard
            self._tools.loop.call_later(0, _nothing)

    def _fits(self, lease: Lease) -> bool:
        """What is too big for the whole node runs alone: its server knows of no bigger one."""
        if not self._running:
            return True
        memory_mb = self._memory_mb + lease.memory_mb
        return len(self._running) < self._capacity.slots and memory_mb <= self._capacity.memory_mb

    def _reserve(self, held: Held) -> bool:
        """False when nobody is left for it to run as: directories of attempts that have ended are still removed."""
        try:
            seat = self._tools.isolation.users.seat(
                build=isinstance(held.lease, BuildLease), dockerfile=held.dockerfile
            )
        except OSError:
            self._pause = self._tools.loop.call_later(RETRY_S, self._go_on)
            return False
        held.phase = Phase.RUNNING
        root = self._place.roots.builds if isinstance(held.lease, BuildLease) else self._place.roots.tasks
        work = root / str(held.lease.attempt).replace("/", "-")
        held.run = Run(self._tools, held.lease, seat, work, self._ended)
        self._running.add(held.run)
        self._memory_mb += held.lease.memory_mb
        return True

    def _release(self, run: Run) -> None:
        self._running.discard(run)
        self._memory_mb -= run.lease.memory_mb

    def _put_back(self, batch: Sequence[Held]) -> None:
        for held in reversed(batch):
            if held.run is not None:
                self._release(held.run)
                self._tools.isolation.users.leave(held.run.seat, empty=True)
            held.run, held.phase = None, Phase.QUEUED
            self._queue.appendleft(held)
        self._pause = self._tools.loop.call_later(RETRY_S, self._go_on)

    def _go_on(self) -> None:
        self._pause = None

    def _start(self, held: Held) -> None:
        assert held.run is not None
        try:
            held.run.make_room()
            invocation = self._invocation(held, held.run.seat, held.run.work)
        except Refused as refused:
            self._ended_unstarted(held.run, OutcomeKind.LAUNCH_ERROR, str(refused))
            return
        except (OSError, ValueError) as error:
            self._ended_unstarted(held.run, OutcomeKind.LOST, f"the node could not prepare it: {error}")
            return
        held.run.start(invocation)

    def _ended_unstarted(self, run: Run, kind: OutcomeKind, message: str) -> None:
        self._ended(run, Outcome(kind=kind, message=message, ended_at=self._tools.loop.now))

    def _invocation(self, held: Held, seat: Seat, work: Path) -> Invocation:
        lease = held.lease
        if isinstance(lease, BuildLease):
            if lease.source is not None:
                give_source(file_path(lease.source.url), work)
            if lease.pull is not None and lease.pull.credentials:
                self._tools.isolation.users.hand_over(seat, give_credentials(lease.pull.credentials, work))
            self._tools.isolation.users.hand_over(seat, work)
            if held.dockerfile:
                return dockerfile_invocation(lease, work, self._place.variables)
            return build_invocation(lease, work, self._place.cache, self._place.variables)
        manifest = self._place.images.find(lease.image.digest)
        assert manifest is not None
        if manifest.root is not None and self._place.no_roots:
            raise ValueError(f"its image is one of a registry, which needs containers: {self._place.no_roots}")
        interpreter = self._place.interpreters.read(manifest.python_prefix)
        (work / TASK_FILE).write_bytes(lease.arguments.encode("utf-8", "surrogatepass"))
        for path in (work / TASK_FILE, work):
            self._tools.isolation.users.hand_over(seat, path)
        held.arguments_path = self._place.arguments.offer(lease.arguments)
        url = self._place.arguments.url(held.arguments_path)
        places = TaskPlaces(
            image=self._place.images.path(lease.image.digest),
            work=work,
            room=self._tools.rooms.around(work),
            temporary=self._tools.isolation.temporary(work),
            interpreter=interpreter,
        )
        return task_invocation(lease, manifest, places, url)

    def _ended(self, run: Run, outcome: Outcome) -> None:
        held = self._held[run.lease.attempt]
        self._place.arguments.withdraw(held.arguments_path)
        if isinstance(run.lease, BuildLease) and outcome.kind is OutcomeKind.SUCCEEDED:
            outcome = _delivered(run.lease, run.work, outcome)
        self._release(run)
        self._clean(run)
        self._finish(held, outcome)

    def _clean(self, run: Run) -> None:
        def cleaned(gone: bool) -> None:
            if not gone:
                log.error("what attempt %s has left in %s cannot be removed", run.lease.attempt, run.work)
            # who it ran as is nobody else before nothing of it is left
            self._tools.isolation.users.leave(run.seat, empty=run.left_nothing and gone)

        self._tools.rooms.remove(run.work, (TASK_FILE, RESULT_FILE), cleaned, left_nothing=run.left_nothing)

    def _end_unstarted(self, held: Held, kind: OutcomeKind, message: str) -> None:
        self._finish(held, Outcome(kind=kind, message=message, ended_at=self._tools.loop.now))

    def _finish(self, held: Held, outcome: Outcome) -> None:
        self._drop(held.lease.attempt)
        self._unacknowledged.add(held.lease.attempt)
        self._tools.events.ended(held.lease.attempt, outcome)

    def _drop(self, attempt: AttemptId) -> None:
        held = self._held.pop(attempt)
        held.phase, held.run = Phase.GONE, None
        if held.expiry is not None:
            held.expiry.cancel()
        self._leave_owner(held.lease)

    def _leave_owner(self, lease: Lease) -> None:
        owner = _owner(lease)
        self._owners[owner] -= 1
        if self._owners[owner] == 0:
            del self._owners[owner]
            self._tools.blocks.idle(*owner)

    def _expire_after(self, held: Held, ttl_s: float) -> None:
        if held.expiry is not None:
            held.expiry.cancel()
        due = self._tools.loop.monotonic + ttl_s
        held.expiry = self._tools.loop.call_later(ttl_s, lambda: self._expired(held, due))

    def _expired(self, held: Held, due: float) -> None:
        if held.run is not None:
            # its grace began when it expired: by the end of it another node may have the work
            late_s = self._tools.loop.monotonic - due
            held.run.stop(Reason.EXPIRED, held.lease.grace_s - late_s)
        else:
            self._drop(held.lease.attempt)


def _delivered(lease: BuildLease, work: Path, outcome: Outcome) -> Outcome:
    """Its end once its image lies where it was to; a loss when that cannot be done."""
    try:
        target = file_path(lease.upload_url)
        target.parent.mkdir(parents=True, exist_ok=True)
        take_image(work, target)
    except (OSError, ValueError) as error:
        return replace(outcome, kind=OutcomeKind.LOST, message=f"the image could not be kept: {error}", result=None)
    return outcome


def _holds_dockerfile(lease: BuildLease, source: BlobRef) -> bool:
    """Whether the source of a build, which is checked, is to be built by a Dockerfile. Raises ValueError, OSError."""
    archive = file_path(source.url)
    check_digest(archive, source.digest)
    limits = SourceLimits(max_bytes=lease.max_unpacked_bytes, max_entries=lease.max_entries)
    return names_file(archive, DOCKERFILE, limits)


def _owner(lease: Lease) -> tuple[str, int]:
    return lease.attempt.kind.value, lease.attempt.owner


def _nothing() -> None:
    pass
