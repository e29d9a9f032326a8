"""What the scheduler says of the present to those who ask why something waits."""

from dataclasses import replace

from tidemill.engine.fake import Fault, Play
from tidemill.model.ids import NodeId, OwnerKind
from tidemill.model.outlook import Outlook, Waiter
from tidemill.testing.sim import NODE, Given, Sim


def outlook(sim: Sim) -> Outlook:
    return sim.ticker.outlook


def trouble(sim: Sim) -> str:
    (node,) = outlook(sim).nodes
    return node.trouble


def test_before_the_first_pass_nothing_is_known(sim: Sim) -> None:
    assert outlook(sim).looked_at is None
    assert outlook(sim).silent(sim.clock.now)


def test_after_a_pass_the_nodes_are_known_and_when_it_was(sim: Sim) -> None:
    sim.tick()
    found = outlook(sim)
    assert (found.looked_at, [node.info for node in found.nodes]) == (sim.clock.now, [NODE])
    assert trouble(sim) == found.engine == ""
    sim.move(60)
    assert not found.silent(sim.clock.now)
    sim.move(0.1)
    assert found.silent(sim.clock.now)


def test_an_engine_that_names_no_nodes_says_why(sim: Sim) -> None:
    sim.tick()
    sim.move(2)
    sim.engine.fail("nodes", Fault.LOST)
    sim.tick()
    assert outlook(sim).nodes == ()
    assert outlook(sim).engine
    sim.move(2)
    sim.tick()
    assert outlook(sim).engine == ""
    assert [node.id for node in outlook(sim).nodes] == [NODE.id]


def test_a_node_that_does_not_answer_is_in_trouble_until_it_does(sim: Sim) -> None:
    sim.tick()
    sim.engine.mute(NODE.id)
    sim.submit(Given())
    sim.tick()
    assert "does not answer" in trouble(sim)
    sim.engine.mend(NODE.id)
    sim.move(2)
    sim.tick()
    assert trouble(sim) == ""


def test_a_node_that_takes_nothing_new_is_seen_to_drain(sim: Sim) -> None:
    closed = replace(NODE, memory_mb=0, slots=0)
    sim.nodes(closed)
    sim.tick()
    assert [node.drains for node in outlook(sim).nodes] == [True]


def test_a_node_that_is_cleared_for_something_says_for_what(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=100)
    sim.submit(Given(job="small", memory_mb=3_000, tasks=2))
    sim.tick()
    big = sim.submit(Given(job="big", memory_mb=7_000))
    for _ in range(4):
        sim.submit(Given(job="small", memory_mb=100, tasks=1))
        sim.tick()
        sim.move(4)
    sim.tick()
    (node,) = outlook(sim).nodes
    assert node.cleared_for == Waiter(kind=OwnerKind.TASK, owner=big)
    assert node.id == NodeId("n1")
