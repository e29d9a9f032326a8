"""The scheduler with its threads, over a fake engine in real time."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from tests.scheduler.triggering import Clockwork, cron
from tests.store.test_audit import ENTRY
from tidemill.engine.fake import FakeEngine, Play
from tidemill.model.region import Regions
from tidemill.model.states import ExecutionState
from tidemill.scheduler.loop import Scheduler
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.store import audit, log_blocks
from tidemill.store.audit import AuditPage
from tidemill.store.log_blocks import BlockQuery
from tidemill.store.schema import audit_head
from tidemill.testing.sim import NODE, Given, Sim

POLICY = SchedulerPolicy(task_url="http://sim/v0", run_url="http://sim", poll_s=0.05, look_every_s=0.05)


def until(ready: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it took too long"
        threading.Event().wait(0.005)


def rest(seconds: float) -> None:
    """What a node does while nobody has news: shorter than a real one, so that news are found soon."""
    threading.Event().wait(seconds / 10)


class Running:
    """A scheduler with threads on the simulation's store, and its engine in real time."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.ahead = timedelta()
        self.engine = FakeEngine([NODE], sim.scripts, clock=time.time, pause=rest)
        self.scheduler = self.new()

    def new(self, policy: SchedulerPolicy = POLICY) -> Scheduler:
        return Scheduler(
            database=self.sim.database,
            engine=self.engine,
            keyring=self.sim.keyring,
            blobs=self.sim.blobs,
            logfiles=self.sim.logfiles,
            policy=policy,
            regions=Regions(),
            clock=lambda: datetime.now(UTC) + self.ahead,
        )


@pytest.fixture
def running(sim: Sim) -> Iterator[Running]:
    sim.scripts.default = Play(seconds=0.01)
    made = Running(sim)
    made.scheduler.start()
    yield made
    made.scheduler.stop()
    left = {thread.name for thread in threading.enumerate() if thread.name.startswith("tidemill-")}
    assert left - {"tidemill-checkpoint"} == {"tidemill-writer"}, "those of the database, which is still open"


def test_work_is_done_from_commit_to_end_without_being_asked(running: Running) -> None:
    sim = running.sim
    sim.scripts.default = Play(seconds=0.01, output=("hello",))
    key = sim.submit(Given(tasks=20, parallelism=4))
    until(lambda: sim.state(key) is ExecutionState.SUCCEEDED)
    query = BlockQuery(job=sim.job_of(key))
    until(lambda: len(sim.database.read(lambda connection: log_blocks.find(connection, query))) == 20)
    # the node may forget what is committed, and is told so
    until(lambda: running.engine.inventory(NODE.id).attempts == frozenset())
    assert sim.violations(at_rest=True) == []
    assert running.scheduler.problem() is None


def test_another_server_takes_over_where_the_first_stopped(running: Running) -> None:
    sim = running.sim
    sim.scripts.default = Play(seconds=0.3)
    key = sim.submit(Given(tasks=8, parallelism=4))
    until(lambda: len(running.engine.running(NODE.id)) == 4)
    running.scheduler.stop()
    until(lambda: running.engine.running(NODE.id) == frozenset())  # the node goes on
    assert sim.stats(key).running == 4
    running.scheduler = running.new()
    running.scheduler.start()
    until(lambda: sim.state(key) is ExecutionState.SUCCEEDED)
    assert set(running.engine.starts().values()) == {1}


def test_a_trigger_fires_when_the_minute_comes(running: Running) -> None:
    sim = running.sim
    sim.clock.now = datetime.now(UTC)
    work = Clockwork(sim)
    work.deploy(cron(tasks=[{"a": 1}, {"a": 2}]))
    # the minute comes in half a second
    running.ahead = timedelta(seconds=59.5 - sim.clock.now.second)
    until(lambda: [one.state for one in work.executions()][:1] == ["succeeded"])
    first = work.executions()[0]
    assert (first.trigger_id, first.total, first.due_at.second) == ("t1", 2, 0)
    assert sim.violations() == []


def test_a_problem_is_told_logged_once_and_goes_away(running: Running) -> None:
    until(lambda: running.sim.position(NODE.id) is not None and running.scheduler.problem() is None)
    with structlog.testing.capture_logs() as lines:
        running.engine.cut(NODE.id)
        until(lambda: "n1" in (running.scheduler.problem() or ""))
        until(lambda: any(line["event"] == "problem" for line in lines))
        running.engine.mend(NODE.id)
        until(lambda: running.scheduler.problem() is None)
    sources = [line["source"] for line in lines if line["event"] == "problem"]
    assert len(sources) == len(set(sources))


def test_it_survives_a_pass_that_fails(running: Running) -> None:
    sim = running.sim
    real = running.engine.nodes

    def broken() -> list[object]:
        raise RuntimeError("a bug")

    running.engine.nodes = broken  # type: ignore[method-assign, assignment]  # a bug of an engine, nothing less
    with structlog.testing.capture_logs():
        until(lambda: "RuntimeError: a bug" in (running.scheduler.problem() or ""))
        assert "RuntimeError: a bug" in running.scheduler.outlook().stopped
    running.engine.nodes = real  # type: ignore[method-assign]
    key = sim.submit(Given())
    until(lambda: sim.state(key) is ExecutionState.SUCCEEDED)
    until(lambda: running.scheduler.problem() is None)
    assert running.scheduler.outlook().stopped == ""
    assert [node.id for node in running.scheduler.outlook().nodes] == [NODE.id]


def test_stopping_one_that_never_started_is_nothing(sim: Sim) -> None:
    Running(sim).scheduler.stop()


def test_node_facts_are_kept_for_others(running: Running) -> None:
    until(lambda: running.sim.kept_node() == (NODE.memory_mb, NODE.slots))


def test_the_old_end_of_the_audit_goes_where_that_is_wished(running: Running) -> None:
    database, mac = running.sim.database, running.sim.keyring.audit_mac
    old = replace(ENTRY, at=datetime(2020, 1, 1, tzinfo=UTC))
    # the simulation empties all tables: here a chain begins, as in a file that is new
    database.write(lambda connection: connection.execute(audit_head.insert().values(id=1, number=0, mac="", seal="")))
    database.write(lambda connection: audit.append(connection, old, mac))

    def actions() -> list[str]:
        page = AuditPage(workspace="main", limit=10)
        return [row.entry.action for row in database.read(lambda connection: audit.find_page(connection, page))]

    running.scheduler.stop()
    running.scheduler = running.new(replace(POLICY, retain_every_s=0.05))
    running.scheduler.start()
    work = running.sim.submit(Given(tasks=1))
    until(lambda: running.sim.state(work) is ExecutionState.SUCCEEDED)
    running.scheduler.stop()
    assert actions() == ["jobs.create"]
    running.scheduler = running.new(replace(POLICY, retain_every_s=0.05, audit_retention_days=30.0, home="main"))
    running.scheduler.start()
    until(lambda: actions() == ["audit.cut"])
    assert database.read(lambda connection: audit.check(connection, mac)).violations == []
