"""Leases with a time to live: whatever gets lost, an attempt's work never runs at two places at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tidemill.engine.fake import Fault, Play
from tidemill.engine.protocol import LATE_CALL_S
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import ExecutionKey, NodeId
from tidemill.model.lease import NodeInfo
from tidemill.model.states import ExecutionState
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.testing.sim import NODE, Given, Sim

TTL_S = 20.0
GRACE_S = 10.0
MARGIN_S = 10.0
SILENCE_S = TTL_S + GRACE_S + MARGIN_S
FIRST = replace(NODE, slots=1, lease_ttl_s=TTL_S)
SECOND = replace(FIRST, id=NodeId("n2"), incarnation="n2-1")
# it uses its grace to the last moment
LONG = Play(seconds=100.0, dies_after=GRACE_S)

Break = Callable[[Sim], None]


@pytest.fixture
def far(sim: Sim) -> Sim:
    """Two nodes of one slot each, whose leases live for 20 s; the scheduler looks each second."""
    sim.scripts.default = LONG
    sim.nodes(FIRST, SECOND)
    return sim


def begin(sim: Sim, tasks: int = 1) -> ExecutionKey:
    """Start tasks of 100 s; the key of their execution."""
    key = sim.submit(Given(tasks=tasks, timeout_s=900))
    sim.tick()
    assert len(sim.live()) == tasks
    return key


def live(sim: Sim, seconds: float, step: float = 1.0) -> None:
    """Let time pass a second at a time; no task ever has two processes."""
    for _ in range(round(seconds / step)):
        sim.move(step)
        sim.tick()
        nobody_runs_twice(sim)


def nobody_runs_twice(sim: Sim) -> None:
    running = [(one.owner, one.index) for node in sim.engine.members() for one in sim.engine.running(node)]
    assert len(running) == len(set(running)), "a task has two processes"


def given_up_after(sim: Sim, limit_s: float = 400.0) -> float:
    """Seconds until the store calls the first attempt of task 0 ended."""
    first = sim.live()[0]
    for second in range(1, round(limit_s) + 1):
        live(sim, 1.0)
        if first not in sim.live():
            return second
    raise AssertionError(f"not given up in {limit_s:g} s")


def where(sim: Sim) -> NodeId:
    (node,) = [node for node in sim.engine.members() if sim.engine.running(node)]
    return node


def ended_well(sim: Sim, key: ExecutionKey, lost: int) -> None:
    """All is well again: it succeeds, and what was lost costs the user nothing."""
    sim.engine.mend_calls()
    for node in sim.engine.members():
        sim.engine.mend(node)
    sim.engine.deliver()
    rarely(sim, 1.0)
    sim.run()
    assert sim.stats(key).succeeded == sim.stats(key).total
    row = sim.task(key)
    assert row is not None
    assert (row.charged, row.attempt) == (0, lost + 1)
    assert all(sim.engine.running(node) == frozenset() for node in sim.engine.members())
    assert sim.violations(at_rest=True) == []


def test_the_margin_is_longer_than_a_call_can_be_late() -> None:
    assert SchedulerPolicy(task_url="", run_url="").lease_margin_s > LATE_CALL_S


def test_a_lease_lives_as_long_as_its_node_is_heard(far: Sim) -> None:
    key = begin(far, tasks=2)
    live(far, 101.0)
    assert far.stats(key).succeeded == 2
    assert set(far.engine.starts().values()) == {1}


def test_a_partition_shorter_than_a_lease_costs_nothing(far: Sim) -> None:
    key = begin(far)
    far.engine.cut(where(far))
    live(far, TTL_S - 2)
    for node in far.engine.members():
        far.engine.mend(node)
    live(far, 5.0)
    assert len(far.live()) == 1
    ended_well(far, key, lost=0)


@pytest.mark.parametrize("silence", ["cut", "mute", "freeze", "replace"])
def test_what_a_silent_node_holds_is_given_up_when_it_cannot_run_any_more_and_not_before(
    far: Sim, silence: str
) -> None:
    key = begin(far)
    node = where(far)
    lose(far, node, silence)
    # a listed node is sent one more renewal before it is known not to answer
    assert given_up_after(far) == SILENCE_S + (1 if silence in {"mute", "freeze"} else 0)
    row = far.task(key)
    assert row is not None
    assert (row.charged, row.lost_in_row, row.reason) == (0, 1, "NodeLost")
    if silence != "freeze":
        live(far, 5.0)
        assert where(far) != node
    ended_well(far, key, lost=1)


def lose(sim: Sim, node: NodeId, silence: str) -> None:
    match silence:
        case "cut":
            sim.engine.cut(node)
        case "mute":
            sim.engine.mute(node)
        case "freeze":
            sim.engine.freeze(node)
        case _:
            sim.engine.replace(node)


def test_a_node_that_wakes_ends_what_was_given_up_before_it_does_anything_else(far: Sim) -> None:
    """Frozen with all its processes for longer than a lease: what another runs by now is killed at once."""
    key = begin(far)
    node = where(far)
    far.engine.freeze(node)
    far.move(1.0)
    for _ in range(round(SILENCE_S) + 5):
        far.tick()
        far.move(1.0)
    assert len(far.live()) == 1
    assert far.live()[0].number == 2
    far.engine.mend(node)
    nobody_runs_twice(far)
    ended_well(far, key, lost=1)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST, Fault.LATE, Fault.DOUBLED])
def test_a_renewal_counts_from_when_it_was_sent_whatever_became_of_it(far: Sim, fault: Fault) -> None:
    """The node may have it, and keep its processes for as long: only what was never sent cannot have arrived."""
    rarely(far, 15.0)
    key = begin(far)
    node = where(far)
    live(far, 14.0)
    far.engine.fail("renew", fault)
    live(far, 1.0)
    far.engine.cut(node)
    live(far, LATE_CALL_S)
    deliver_through(far, node)
    assert given_up_after(far) >= SILENCE_S - LATE_CALL_S
    ended_well(far, key, lost=1)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.LATE])
def test_a_launch_counts_like_a_renewal(far: Sim, fault: Fault) -> None:
    rarely(far, 15.0)
    far.tick()
    far.move(29.0)
    key = far.submit(Given(timeout_s=900))
    far.engine.fail("launch", fault)
    far.tick()
    for one in far.engine.members():
        far.engine.cut(one)
    far.move(LATE_CALL_S)
    for one in far.engine.members():
        deliver_through(far, one)
    (other,) = set(far.engine.members()) - {where(far)}
    far.engine.mend(other)
    given_up_after(far)
    live(far, 10.0)
    assert where(far) == other
    ended_well(far, key, lost=1)


def rarely(sim: Sim, seconds: float) -> None:
    """Look at the nodes so seldom that one renewal more or less makes a difference."""
    sim.policy = replace(sim.policy, look_every_s=seconds)
    sim.restart()


def deliver_through(sim: Sim, node: NodeId) -> None:
    """What is late arrives at a node that is out of reach, and goes on to be."""
    sim.engine.mend(node)
    sim.engine.deliver()
    sim.engine.cut(node)


def test_a_server_that_restarts_waits_as_long_as_if_it_had_just_sent_a_renewal(far: Sim) -> None:
    """What the one before sent last is not known: the node is not even listed any more."""
    key = begin(far)
    far.engine.cut(where(far))
    live(far, 15.0)
    far.restart()
    assert given_up_after(far) == SILENCE_S
    ended_well(far, key, lost=1)


def test_a_node_that_answers_again_is_renewed_again(far: Sim) -> None:
    key = begin(far, tasks=2)
    node = FIRST.id
    far.engine.mute(node)
    live(far, 10.0)
    far.engine.mend(node)
    live(far, 95.0)
    assert far.stats(key).succeeded == 2
    assert set(far.engine.starts().values()) == {1}


def test_a_renewal_that_gets_lost_now_and_then_is_made_again(far: Sim) -> None:
    key = begin(far, tasks=2)
    for fault in (Fault.LOST, Fault.ANSWER_LOST, Fault.LATE, Fault.DOUBLED) * 3:
        far.engine.fail("renew", fault)
        live(far, 7.0)
        far.engine.deliver()
    live(far, 20.0)
    assert far.stats(key).succeeded == 2
    assert set(far.engine.starts().values()) == {1}


def test_a_wall_clock_that_jumps_gives_nothing_up_and_keeps_nothing_alive(far: Sim) -> None:
    """Silence is measured by the steady clock; in this simulation both are one, so the policy's times decide alone."""
    key = begin(far)
    node = where(far)
    far.engine.skew(node, -3_600.0)
    live(far, 60.0)
    assert len(far.live()) == 1
    ended_well(far, key, lost=0)


def test_only_leases_with_a_time_to_live_are_given_up(far: Sim) -> None:
    there: NodeInfo = replace(FIRST, lease_ttl_s=None)
    far.nodes(there, SECOND)
    begin(far, tasks=2)
    (kept,) = far.engine.running(there.id)
    for info in (there, SECOND):
        far.engine.cut(info.id)
    live(far, 60.0)
    assert far.live() == [kept]
    with pytest.raises(EngineUnavailable):
        far.hear(there.id)


def test_what_is_given_up_under_a_cancel_ends_the_execution(far: Sim) -> None:
    key = begin(far)
    far.engine.cut(where(far))
    far.cancel(key)
    live(far, SILENCE_S - 1)
    assert far.state(key) is ExecutionState.CANCELLING
    live(far, 1.0)
    assert far.state(key) is ExecutionState.CANCELLED
    assert far.violations(at_rest=True) == []


def test_a_renewal_of_a_scheduler_that_is_over_changes_nothing(far: Sim) -> None:
    begin(far)
    node = where(far)
    far.engine.renew(node, [], TTL_S, far.ticker.term + 7)
    before = far.ticker.term
    live(far, 20.0)
    assert far.ticker.term >= before + 7
    assert where(far) == node
