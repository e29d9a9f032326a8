"""Searches for a sequence of events that breaks the ledger: safety after each step, liveness at the end."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tidemill.engine.fake import Fault, Play
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import ExecutionKey, NodeId
from tidemill.model.lease import EventBatch, Lease, OutcomeKind
from tidemill.model.states import EXECUTION_FINAL, TASK_FINAL, ExecutionState
from tidemill.store.ledger_claim import Claim
from tidemill.testing.sim import NODE, Given, Sim, TaskRow

NODES = (NODE, replace(NODE, id=NodeId("n2"), incarnation="n2-1"))
ENDS = [
    OutcomeKind.SUCCEEDED,
    OutcomeKind.EXIT_CODE,
    OutcomeKind.SIGNAL,
    OutcomeKind.OUT_OF_MEMORY,
    OutcomeKind.LAUNCH_ERROR,
]


class Ledger(RuleBasedStateMachine):
    """A server that crashes, nodes that die, calls that get lost, users that change their minds."""

    sim: ClassVar[Sim]

    @initialize(seed=st.integers(0, 1 << 16), quota=st.integers(1, 3), tasks=st.sampled_from([None, 2, 5]))
    def begin(self, seed: int, quota: int, tasks: int | None) -> None:
        dice = random.Random(seed)
        self.healthy = False

        def script(_: Lease) -> Play:
            if self.healthy:
                return Play(seconds=0.5)
            kind = dice.choice(ENDS)
            result = "1" if kind is OutcomeKind.SUCCEEDED else None
            output = ("line",) if dice.random() < 0.3 else ()
            return Play(seconds=dice.random() * 4, kind=kind, result=result, output=output, dies_after=dice.random())

        self.sim.reset(script)
        self.sim.workspace(executions_at_once=quota, tasks=tasks)
        self.keys: list[ExecutionKey] = []
        self.stale: list[Claim] = []
        self.late: list[tuple[NodeId, EventBatch]] = []
        self.ends: dict[ExecutionKey, ExecutionState] = {}
        self.task_ends: dict[tuple[ExecutionKey, int], TaskRow] = {}

    @rule(
        tasks=st.integers(1, 6),
        parallelism=st.integers(1, 4),
        retries=st.integers(0, 2),
        job=st.sampled_from("abc"),
        memory_mb=st.sampled_from([100, 3_000, 8_000]),
    )
    def submit(self, tasks: int, parallelism: int, retries: int, job: str, memory_mb: int) -> None:
        given = Given(job=job, tasks=tasks, parallelism=parallelism, max_retries=retries, memory_mb=memory_mb)
        self.keys.append(self.sim.submit(given))

    @rule(which=st.integers(0, 100), force=st.booleans())
    def cancel(self, which: int, force: bool) -> None:
        if self.keys:
            self.sim.cancel(self.keys[which % len(self.keys)], force=force)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.move(seconds)

    @rule()
    def tick(self) -> None:
        self.sim.tick()

    @rule()
    def only_decide(self) -> None:
        self.sim.ticker.tick(self.sim.clock.now)

    @rule()
    def look_now(self) -> None:
        self.stale = self.sim.planned()

    @rule()
    def act_on_an_old_look(self) -> None:
        """Claims of then are made now and never launched: as if the server had died in between."""
        node_full = self.sim.planned()
        if node_full and self.stale:
            fits = [claim for claim in self.stale if claim in node_full]
            self.sim.claim(fits)
            self.sim.restart()

    @rule()
    def keep_a_batch(self) -> None:
        for info in self.sim.infos:
            try:
                self.late.append((info.id, self.sim.engine.events(info.id, self.sim.position(info.id), 0)))
            except EngineUnavailable:
                continue

    @rule()
    def a_batch_comes_late(self) -> None:
        """Without its position: it is of another time."""
        if self.late:
            node, batch = self.late.pop(0)
            self.sim.report(node, batch.events)

    @rule(which=st.integers(0, 1))
    def node_dies(self, which: int) -> None:
        self.sim.engine.crash(self.sim.infos[which % len(self.sim.infos)].id)

    @rule()
    def server_dies(self) -> None:
        self.sim.restart()

    @rule(
        method=st.sampled_from(["launch", "events", "cancel", "withdraw", "inventory", "logs", "nodes"]),
        fault=st.sampled_from([Fault.LOST, Fault.ANSWER_LOST]),
    )
    def a_call_gets_lost(self, method: str, fault: Fault) -> None:
        if not (method in {"nodes", "inventory"} and fault is Fault.ANSWER_LOST):
            self.sim.engine.fail(method, fault)

    @rule()
    def a_launch_comes_late(self) -> None:
        self.sim.engine.fail("launch", Fault.LATE)

    @rule()
    def late_launches_arrive(self) -> None:
        self.sim.engine.deliver()

    @rule(which=st.integers(0, 1))
    def a_batch_comes_twice(self, which: int) -> None:
        self.sim.engine.repeat(self.sim.infos[which % len(self.sim.infos)].id)

    @rule(cut=st.booleans())
    def node_is_out_of_reach(self, cut: bool) -> None:
        if cut:
            self.sim.engine.cut(NODE.id)
        else:
            self.sim.engine.mend(NODE.id)

    @invariant()
    def nothing_bad_ever_happens(self) -> None:
        if not hasattr(self, "keys"):
            return
        assert self.sim.violations() == []
        for key in self.keys:
            state = self.sim.state(key)
            if state in EXECUTION_FINAL:
                assert self.ends.setdefault(key, state) is state, "an end has changed"
            stats = self.sim.stats(key)
            parts = (stats.pending, stats.running, stats.succeeded, stats.failed, stats.cancelled)
            assert sum(parts) == stats.total
            assert min(parts) >= 0
            for index in range(stats.total):
                row = self.sim.task(key, index)
                if row is not None and row.state in TASK_FINAL:
                    assert self.task_ends.setdefault((key, index), row) == row, "a task's end has changed"

    def teardown(self) -> None:
        """Everything is well again, and time passes: everything ends, and no process is left."""
        if not hasattr(self, "keys"):
            return
        self.healthy = True
        for info in self.sim.infos:
            self.sim.engine.mend(info.id)
        self.sim.engine.mend_calls()
        self.sim.engine.deliver()
        self.sim.run(passes=500)
        self.nothing_bad_ever_happens()
        self.sim.move(31.0)
        for _ in range(3):
            self.sim.tick()
            self.sim.move(1.0)
        assert all(self.sim.engine.running(info.id) == frozenset() for info in self.sim.infos)
        assert self.sim.violations(at_rest=True) == []


@pytest.fixture(scope="module")
def machine() -> Iterator[type[Ledger]]:
    with TemporaryDirectory() as folder:
        Ledger.sim = Sim(Path(folder), infos=NODES)
        yield Ledger
        Ledger.sim.close()


def test_no_sequence_of_events_breaks_the_ledger(machine: type[Ledger]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
