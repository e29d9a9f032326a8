"""Tasks go to nodes of their region, and regions do not wait for each other."""

from dataclasses import replace

from tests.scheduler.test_caps import cleared
from tidemill.engine.fake import Play
from tidemill.model.ids import ExecutionKey, NodeId, OwnerKind
from tidemill.model.states import ExecutionState
from tidemill.store.snapshot import live_attempts
from tidemill.testing.sim import NODE, Given, Sim

NEAR = replace(NODE, region="near")
FAR = replace(NODE, id=NodeId("n2"), region="far", incarnation="n2-1")


def nodes_of(sim: Sim, key: ExecutionKey) -> set[NodeId]:
    """Where tasks of the execution run now."""
    live = sim.database.read(live_attempts)
    return {one.node for one in live if one.attempt.kind is OwnerKind.TASK and one.attempt.owner == key}


def finish(sim: Sim, key: ExecutionKey) -> set[NodeId]:
    """Let the scheduler work until the execution has ended; every node that it ever ran on."""
    seen: set[NodeId] = set()
    for _ in range(200):
        sim.tick()
        seen |= nodes_of(sim, key)
        if sim.state(key) in {ExecutionState.SUCCEEDED, ExecutionState.FAILED}:
            return seen
        sim.move(1.0)
    raise AssertionError(sim.stats(key))


def test_tasks_run_in_their_region_only(sim: Sim) -> None:
    sim.nodes(NEAR, FAR)
    near = sim.submit(Given(tasks=12, region="near", job="near"))
    assert finish(sim, near) == {NEAR.id}
    far = sim.submit(Given(tasks=12, region="far", job="far"))
    assert finish(sim, far) == {FAR.id}


def test_without_a_region_tasks_run_anywhere(sim: Sim) -> None:
    sim.nodes(NEAR, FAR)
    assert finish(sim, sim.submit(Given(tasks=8))) == {NEAR.id, FAR.id}


def test_a_retry_stays_in_its_region(sim: Sim) -> None:
    sim.nodes(NEAR, FAR)
    sim.scripts.default = Play(seconds=500.0)
    key = sim.submit(Given(region="far", max_retries=1))
    sim.tick()
    sim.engine.crash(FAR.id)
    sim.scripts.default = Play()
    assert finish(sim, key) == {FAR.id}
    row = sim.task(key, 0)
    assert row is not None
    assert row.attempt == 2


def test_a_full_region_holds_up_no_other(sim: Sim) -> None:
    sim.nodes(NEAR, FAR)
    sim.scripts.default = Play(seconds=500.0)
    sim.submit(Given(tasks=40, parallelism=40, region="near", job="hog"))
    sim.tick()
    sim.scripts.default = Play()
    waits = sim.submit(Given(region="near", job="waits"))
    # overtaken for long, it gets a node cleared for it: one of its own region
    for _ in range(8):
        assert finish(sim, sim.submit(Given(tasks=8, region="far", job="other"))) == {FAR.id}
    assert sim.state(waits) is ExecutionState.PENDING
    assert {waiter.owner for waiter in cleared(sim)} <= {waits}


def test_a_region_without_a_node_waits_until_there_is_one(sim: Sim) -> None:
    sim.nodes(NEAR)
    key = sim.submit(Given(region="far"))
    other = sim.submit(Given(region="near", job="other"))
    assert finish(sim, other) == {NEAR.id}
    assert sim.state(key) is ExecutionState.PENDING
    sim.nodes(NEAR, FAR)
    assert finish(sim, key) == {FAR.id}
