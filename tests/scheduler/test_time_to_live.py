"""Leases that end unless they are renewed: where another node could get the work."""

from dataclasses import replace

from tidemill.engine.fake import Play
from tidemill.model.ids import NodeId
from tidemill.model.states import ExecutionState
from tidemill.testing.sim import NODE, Given, Sim

TWO = (
    replace(NODE, lease_ttl_s=20.0),
    replace(NODE, id=NodeId("n2"), incarnation="n2-1", lease_ttl_s=20.0),
)


def running(sim: Sim) -> list[NodeId]:
    """The nodes that a process runs on."""
    return [node.id for node in TWO if sim.engine.running(node.id)]


def test_a_lease_is_renewed_for_as_long_as_its_task_runs(sim: Sim) -> None:
    sim.nodes(*TWO)
    sim.scripts.default = Play(seconds=100.0)
    key = sim.submit(Given())
    sim.run()
    assert sim.state(key) is ExecutionState.SUCCEEDED
    assert list(sim.engine.starts().values()) == [1]


def test_a_partition_longer_than_a_lease_moves_the_task_and_never_runs_it_twice_at_once(sim: Sim) -> None:
    sim.nodes(*TWO)
    sim.scripts.default = Play(seconds=60.0)
    key = sim.submit(Given())
    sim.tick()
    (first,), (node,) = sim.live(), running(sim)
    sim.engine.cut(node)
    for _ in range(50):
        sim.move(1.0)
        sim.tick()
        assert len(running(sim)) <= 1
    assert sim.live() == [replace(first, number=2)]
    assert running(sim) == [other.id for other in TWO if other.id != node]
    sim.engine.mend(node)
    sim.run()
    assert sim.state(key) is ExecutionState.SUCCEEDED
    assert set(sim.engine.starts().values()) == {1}


def test_a_partition_shorter_than_a_lease_changes_nothing(sim: Sim) -> None:
    sim.nodes(*TWO)
    sim.scripts.default = Play(seconds=60.0)
    sim.submit(Given())
    sim.tick()
    (node,) = running(sim)
    sim.engine.cut(node)
    for _ in range(15):
        sim.move(1.0)
        sim.tick()
    sim.engine.mend(node)
    sim.run()
    assert list(sim.engine.starts().values()) == [1]
