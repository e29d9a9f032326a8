"""The scheduler as it is, on a store as it is, over a fake engine and a clock that only moves when told."""

import itertools
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Connection, insert, select

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.fake import FakeEngine, Play, Script
from tidemill.model.errors import EngineUnavailable
from tidemill.model.execution import Stats
from tidemill.model.ids import AttemptId, BuildKey, ExecutionKey, InputSetKey, JobKey, NodeId, OwnerKind
from tidemill.model.job import JobSpec, Runtime
from tidemill.model.lease import Event, Lease, NodeInfo, Position
from tidemill.model.region import Regions
from tidemill.model.rerun import FAILED, SAME, Selection
from tidemill.model.retry import RetryPolicy
from tidemill.model.states import BuildState, ExecutionState, JobState, TaskState
from tidemill.scheduler.collect import collect
from tidemill.scheduler.parts import Parts
from tidemill.scheduler.plan import Cancel, Overtaken, Promote, Snapshot, TimeOut, plan
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.scheduler.retain import Retention
from tidemill.scheduler.tick import Ticker
from tidemill.secrets import KeyRing
from tidemill.store import check, executions, inputs, ledger, nodes, ranges, reruns, schema, specs
from tidemill.store.database import Database
from tidemill.store.executions import NewExecution
from tidemill.store.inputs import NewInputs
from tidemill.store.ledger import Counters, stats_of
from tidemill.store.ledger_claim import Claim, Claimed, claim
from tidemill.store.ledger_settle import Report, Settled, settle
from tidemill.store.reruns import NewRerun
from tidemill.store.snapshot import look

WORKSPACE: Final = "main"
REVISION: Final = "rev-1"
DIGEST: Final = "d" * 64
BEGINNING: Final = datetime(2026, 6, 1, tzinfo=UTC)
NODE: Final = NodeInfo(id=NodeId("n1"), region="local", memory_mb=8_000, slots=4, incarnation="n1-1")


@dataclass(slots=True)
class Clock:
    """A time that moves when told. ``now`` is what the wall clock shows, ``behind_s`` how far it was set back."""

    now: datetime = BEGINNING
    behind_s: float = 0.0

    def seconds(self) -> float:
        """The steady clock: nobody sets it."""
        return self.steadily(self.now)

    def steadily(self, wall: datetime) -> float:
        """What the steady clock shows when the wall clock shows this, if nobody sets it until then."""
        return wall.timestamp() + self.behind_s

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back; no time passes."""
        self.now -= timedelta(seconds=seconds)
        self.behind_s += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A job and the executions wanted of it. ``memory_mb`` is a task's, an empty ``region`` is any node's.

    ``deadline_s`` is how long an execution may take in all, None for as long as it likes.
    """

    workspace: str = WORKSPACE
    job: str = "etl"
    tasks: int = 1
    parallelism: int = 10
    max_retries: int = 0
    retry: RetryPolicy | None = None
    memory_mb: int = 100
    timeout_s: int = 900
    region: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task's row as a test sees it."""

    state: TaskState
    attempt: int
    charged: int
    lost_in_row: int
    reason: str | None
    not_before: datetime | None


class Scripts:
    """What attempts do: a default, and exceptions by (task index, attempt number)."""

    def __init__(self, default: Play | None = None) -> None:
        self.default = default or Play(seconds=1.0)
        self.plays: dict[tuple[int, int], Play] = {}

    def __call__(self, lease: Lease) -> Play:
        return self.plays.get((lease.attempt.index, lease.attempt.number), self.default)


class Sim:
    """A server without threads. A test moves the clock and calls ``tick``; nothing else happens by itself."""

    def __init__(
        self, folder: Path, *, script: Script | None = None, infos: Sequence[NodeInfo] = (NODE,), seed: int = 1
    ) -> None:
        """Open, or make, a store in ``folder``."""
        self.folder = folder
        self.clock = Clock()
        self.scripts = Scripts()
        self.infos = self._first_infos = infos
        self.database = Database(folder / "tidemill.db", synchronous="OFF")
        self.engine = FakeEngine(infos, script or self.scripts, clock=self.clock.seconds)
        self.blobs = Blobs(folder / "blobs")
        self.logfiles = LogFiles(folder / "logs")
        self.policy = self._first_policy = SchedulerPolicy(task_url="http://sim/v0", run_url="http://sim")
        self.keyring = KeyRing.generate()
        self._random = random.Random(seed)  # noqa: S311 - a test's dice, thrown the same way each time
        self._keys = 1_000
        self.parts, self.ticker = self._begin()

    def close(self) -> None:
        self.database.close()

    def nodes(self, *infos: NodeInfo) -> None:
        """Other nodes, from now on; before anything runs."""
        self.infos = infos
        self.engine = FakeEngine(infos, self.scripts, clock=self.clock.seconds)
        self.restart()

    def reset(self, script: Script | None = None) -> None:
        """Everything from the beginning, in the same file: far quicker than another one."""
        self.database.write(_empty)
        for folder in ("blobs", "logs"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        self.blobs, self.logfiles = Blobs(self.folder / "blobs"), LogFiles(self.folder / "logs")
        self.clock.now, self.clock.behind_s = BEGINNING, 0.0
        self.infos, self.policy = self._first_infos, self._first_policy
        self.scripts = Scripts()
        self.engine = FakeEngine(self.infos, script or self.scripts, clock=self.clock.seconds)
        self.parts, self.ticker = self._begin()

    def restart(self) -> None:
        """The server dies and comes back: all that it knew was the store's."""
        self.parts, self.ticker = self._begin()

    # what users do

    def workspace(self, name: str = WORKSPACE, *, executions_at_once: int = 100, tasks: int | None = None) -> None:
        """Make the workspace."""
        self.database.write(
            lambda connection: connection.execute(
                insert(schema.workspace).values(
                    name=name,
                    display_name=name,
                    created_at=self.clock.now,
                    max_parallel_executions=executions_at_once,
                    max_concurrent_tasks=tasks,
                )
            )
        )

    def submit(self, given: Given) -> ExecutionKey:
        """Make an execution, and before it the job and the workspace if they are missing."""
        key, inputs_key = ExecutionKey(self._key()), InputSetKey(self._key())
        new = NewExecution(
            key=key,
            id=f"execution-{key}",
            workspace=given.workspace,
            job=given.job,
            request_id=f"request-{key}",
            aliases=(f"request-{key}",),
            digest="0" * 64,
            memory_mb=given.memory_mb,
            regions=Regions(names=(given.region,), default=given.region) if given.region else Regions(),
            deadline_at=None if given.deadline_s is None else self.clock.now + timedelta(seconds=given.deadline_s),
        )
        stored = NewInputs(key=inputs_key, workspace=given.workspace, total=given.tasks, size_bytes=0)
        chunks = list(inputs.encode(b'{"index":%d}' % index for index in range(given.tasks)))
        self._make(given)

        def create(connection: Connection) -> None:
            inputs.add(connection, stored, chunks, now=self.clock.now)
            executions.create(connection, new, stored, (), now=self.clock.now)

        self.database.write(create)
        return key

    def rerun(self, origin: ExecutionKey, selection: Selection = FAILED) -> ExecutionKey:
        """Run tasks of an execution that has ended again, as a POST of a rerun does."""
        key = ExecutionKey(self._key())
        found = self.database.read(lambda connection: executions.find_by_key(connection, origin))
        new = NewExecution(
            key=key,
            id=f"execution-{key}",
            workspace=found.workspace,
            job=found.job,
            request_id=f"request-{key}",
            aliases=(f"request-{key}",),
            digest="0" * 64,
        )

        def create(connection: Connection) -> None:
            total = found.stats.total
            runs = reruns.selected_rows(connection, found, selection, 0, total)
            runs += reruns.selected_rowless(connection, found, selection, 0, total)
            chosen = list(ranges.number(runs))
            count = sum(one.count for one in chosen)
            rerun = NewRerun(new=new, origin=origin, revision=SAME, timeout_s=None, total=count)
            reruns.create(connection, rerun, chosen, now=self.clock.now)

        self.database.write(create)
        return key

    def cancel(self, key: ExecutionKey, *, force: bool = False) -> ExecutionState:
        """As DELETE of an execution does."""
        return self.database.write(
            lambda connection: ledger.cancel_execution(connection, key, force=force, now=self.clock.now)
        )

    def upload(self, job: str = "built", memory_mb: int = 100) -> BuildKey:
        """A job that waits for a build, and the build."""
        key, build = self._key(), BuildKey(self._key())
        self.database.write(lambda connection: _insert_build(connection, key, job, build, memory_mb, self.clock.now))
        return build

    # what time does

    def move(self, seconds: float) -> None:
        """Let time pass; processes end meanwhile, the scheduler does not look."""
        self.clock.move(seconds)

    def hear(self, node: NodeId = NODE.id) -> None:
        """Read and commit what a node reports. Raises EngineUnavailable."""
        after = self.position(node)
        batch = self.engine.events(node, after, 0)
        self.ticker.settle(node, batch, self.clock.now)
        if batch.log_head:
            while collect(self.parts, node):
                pass

    def tick(self) -> datetime:
        """One pass of the scheduler over all nodes that answer."""
        for node in self.ticker.nodes:
            self._try(lambda node=node: self.hear(node))  # type: ignore[misc]  # bound to this turn
        return self.ticker.tick(self.clock.now)

    def run(self, *, passes: int = 1_000) -> None:
        """Tick, moving the clock to whatever comes next, until nothing is left to do."""
        for _ in range(passes):
            due = self.tick()
            if self.at_rest():
                return
            end = self.engine.next_end()
            ahead = [self.clock.steadily(due), *([] if end is None else [end])]
            self.clock.move(max(0.001, min(ahead) - self.clock.seconds()))
        raise AssertionError(f"not at rest after {passes} passes: {self.violations(at_rest=True)[:5]}")

    def sweep(self, units: int | None = None) -> int:
        """Forget what is due; with ``units`` the server dies after so many. How many there were."""
        done = 0
        due = itertools.chain(self.retention.units(self.clock.now), self.retention.files(self.clock.now))
        for _ in itertools.islice(due, units):
            done += 1
        if units is not None:
            self.restart()
        return done

    def planned(self) -> list[Claim]:
        """What a scheduler that looks now would claim; nothing is done."""
        view = self.database.read(lambda connection: look(connection, window=1_000))
        snapshot = Snapshot(now=self.clock.now, nodes=self.infos, view=view)
        return [one for one in plan(snapshot) if not isinstance(one, TimeOut | Promote | Cancel | Overtaken)]

    def claim(self, claims: Sequence[Claim]) -> list[Claimed]:
        """What comes of claims that were planned before; nothing is launched."""
        return self.database.write(
            lambda connection: claim(connection, claims, term=self.ticker.term, now=self.clock.now)
        )

    def report(self, node: NodeId, events: Sequence[Event]) -> Settled:
        """Events that reach the store by no known way: late, or twice."""
        report = Report(node=node, events=events)
        return self.database.write(
            lambda connection: settle(connection, report, now=self.clock.now, jitter=self._random.random)
        )

    # what a test looks at

    def position(self, node: NodeId = NODE.id) -> Position:
        return self.database.read(lambda connection: nodes.read_up_to(connection, node)).events

    def at_rest(self) -> bool:
        return not self.violations(at_rest=True)

    def violations(self, *, at_rest: bool = False) -> list[str]:
        """Broken invariants of the ledger; with ``at_rest`` what has not ended counts as one."""
        return self.database.read(lambda connection: check.violations(connection, at_rest=at_rest))

    def state(self, key: ExecutionKey) -> ExecutionState:
        column = schema.execution.c
        query = select(column.state).where(column.key == key)
        return ExecutionState(self.database.read(lambda connection: connection.execute(query).scalar_one()))

    def stats(self, key: ExecutionKey) -> Stats:
        column = schema.execution.c
        row = self.database.read(
            lambda connection: connection.execute(
                select(
                    column.state,
                    column.total,
                    column.running,
                    column.succeeded,
                    column.failed,
                    column.cancelled,
                    column.retried,
                ).where(column.key == key)
            ).one()
        )
        counts: Mapping[str, int] = {name: value for name, value in row._asdict().items() if name != "state"}
        return stats_of(ExecutionState(row.state), Counters(**counts))

    def task(self, key: ExecutionKey, index: int = 0) -> TaskRow | None:
        """The task's row, if it has one."""
        column = schema.task.c
        row = self.database.read(
            lambda connection: connection.execute(
                select(
                    column.state,
                    column.attempt,
                    column.charged,
                    column.lost_in_row,
                    column.reason,
                    column.not_before,
                ).where(column.execution == key, column.idx == index)
            ).one_or_none()
        )
        if row is None:
            return None
        return replace(TaskRow(**row._asdict()), state=TaskState(row.state))

    def kept_node(self, node: NodeId = NODE.id) -> tuple[int, int] | None:
        """Memory and slots of a node as the store knows them."""
        query = select(schema.node.c.memory_mb, schema.node.c.slots).where(schema.node.c.id == node)
        row = self.database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else (row.memory_mb, row.slots)

    def job_of(self, key: int) -> JobKey:
        query = select(schema.execution.c.job).where(schema.execution.c.key == key)
        return JobKey(self.database.read(lambda connection: connection.execute(query).scalar_one()))

    def live(self) -> list[AttemptId]:
        """Attempts that the store calls live, in order."""
        return self._attempts(schema.attempt.c.ended_at.is_(None))

    def superseded(self) -> list[AttemptId]:
        """Attempts that something else was said of after their end, in order."""
        return self._attempts(schema.attempt.c.superseded == 1)

    def _attempts(self, which: ColumnElement[bool]) -> list[AttemptId]:
        column = schema.attempt.c
        query = select(column.kind, column.owner, column.idx, column.number).where(which)
        rows = self.database.read(lambda connection: connection.execute(query).all())
        return sorted(AttemptId(OwnerKind(row.kind), row.owner, row.idx, row.number) for row in rows)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except EngineUnavailable:
            return

    def _begin(self) -> tuple[Parts, Ticker]:
        """A server's parts, with dice that fall the same way each time, and its scheduler."""
        parts = Parts(
            database=self.database,
            engine=self.engine,
            keyring=self.keyring,
            blobs=self.blobs,
            logfiles=self.logfiles,
            policy=self.policy,
            jitter=self._random.random,
            steady=self.clock.seconds,
        )
        self.retention = Retention(database=self.database, blobs=self.blobs, logfiles=self.logfiles, policy=self.policy)
        return parts, Ticker(parts, now=self.clock.now)

    def _key(self) -> int:
        self._keys += 1
        return self._keys

    def _make(self, given: Given) -> None:
        key = self._key()
        self.database.write(lambda connection: _insert_job(connection, key, given, self.clock.now))


def _empty(connection: Connection) -> None:
    for table in reversed(schema.metadata.sorted_tables):
        if table is not schema.event_line:  # its one row is of its making
            connection.execute(table.delete())
    connection.execute(schema.event_line.update().values(last=0, swept=0))


def _insert_workspace(connection: Connection, name: str, now: datetime) -> None:
    if connection.scalar(select(schema.workspace.c.name).where(schema.workspace.c.name == name)) is None:
        connection.execute(
            insert(schema.workspace).values(name=name, display_name=name, created_at=now, max_parallel_executions=100)
        )


def _insert_job(connection: Connection, key: int, given: Given, now: datetime) -> None:
    """The job as deployed, or the new settings of the one that is there."""
    _insert_workspace(connection, given.workspace, now)
    job = schema.job.c
    there = connection.scalar(select(job.key).where(job.workspace == given.workspace, job.name == given.job))
    runtime = Runtime(
        image=f"job/{given.job}:tag",
        memory_mb=given.memory_mb,
        timeout_s=given.timeout_s,
        max_retries=given.max_retries,
        retry=given.retry,
        max_concurrent_tasks=given.parallelism,
    )
    spec = specs.encode(JobSpec(runtime=runtime))
    if there is not None:
        revision = schema.revision
        connection.execute(revision.update().where(revision.c.job == there).values(spec=spec))
        return
    connection.execute(
        insert(schema.job).values(**_job_values(key, given.workspace, given.job, now), active_revision=REVISION)
    )
    connection.execute(insert(schema.revision).values(**_revision_values(key, spec, now), image_digest=DIGEST))


def _insert_build(connection: Connection, key: int, job: str, build: BuildKey, memory_mb: int, now: datetime) -> None:
    _insert_workspace(connection, WORKSPACE, now)
    values = {**_job_values(key, WORKSPACE, job, now), "state": JobState.BUILDING.value, "staged_revision": REVISION}
    connection.execute(insert(schema.job).values(**values))
    connection.execute(insert(schema.revision).values(**_revision_values(key, specs.encode(JobSpec()), now)))
    connection.execute(
        insert(schema.build).values(
            key=build,
            workspace=WORKSPACE,
            job=key,
            revision=REVISION,
            source_digest=DIGEST,
            state=BuildState.PENDING.value,
            memory_mb=memory_mb,
            timeout_s=600,
            created_at=now,
        )
    )


def _job_values(key: int, workspace: str, name: str, now: datetime) -> dict[str, object]:
    return {
        "key": JobKey(key),
        "workspace": workspace,
        "name": name,
        "state": JobState.DEPLOYED.value,
        "display_name": name,
        "external_id": "",
        "labels": {},
        "revisions_total": 1,
        "created_at": now,
        "created_by": "sim",
        "updated_at": now,
        "updated_by": "sim",
    }


def _revision_values(key: int, spec: Mapping[str, object], now: datetime) -> dict[str, object]:
    return {"job": key, "id": REVISION, "number": 1, "spec": spec, "created_at": now, "created_by": "sim"}
