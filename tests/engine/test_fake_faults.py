"""The fake engine breaks what the contract allows to break, and nothing else."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tidemill.engine.fake import METHODS, FakeEngine, Fault, Play
from tidemill.engine.protocol import LATE_CALL_S
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import BlobRef, EventKind, NodeInfo, Outcome, OutcomeKind, Position, TaskLease
from tidemill.testing.engine_suite import an_attempt

NODE = NodeId("n1")
ATTEMPT = an_attempt(1)
SECOND = an_attempt(1, 1)
TTL_S = 60.0
GRACE_S = 10.0
BEGINNING = Position()


class Rig:
    """A node whose leases live for a minute, one whose leases live for ever, two clocks, and what attempts do."""

    def __init__(self) -> None:
        self.steady = 1_000.0
        self.wall = 50_000.0
        self.play = Play(seconds=600)
        there = NodeInfo(id=NODE, region="local", memory_mb=1_000, slots=2, incarnation="n1-1", lease_ttl_s=TTL_S)
        here = replace(there, id=NodeId("local"), incarnation="local-1", lease_ttl_s=None)
        self.engine = FakeEngine(
            [there, here], lambda _: self.play, clock=lambda: self.wall, steady=lambda: self.steady
        )

    def move(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds

    def launch(self, *attempts: AttemptId, ttl_s: float | None = TTL_S, node: NodeId = NODE, term: int = 1) -> None:
        self.engine.launch(node, [a_lease(attempt, ttl_s) for attempt in attempts], term)

    def lost(self, call: Callable[[], object]) -> None:
        with pytest.raises(EngineUnavailable):
            call()

    def ends(self, node: NodeId = NODE) -> dict[AttemptId, Outcome | None]:
        events = self.engine.events(node, BEGINNING, 0).events
        return {event.attempt: event.outcome for event in events if event.kind is EventKind.ENDED}

    def kinds(self) -> dict[AttemptId, OutcomeKind | None]:
        return {attempt: outcome.kind if outcome else None for attempt, outcome in self.ends().items()}


def a_lease(attempt: AttemptId, ttl_s: float | None) -> TaskLease:
    return TaskLease(
        attempt=attempt,
        log_key=1,
        image=BlobRef(name="images/x.tar.gz", digest="x"),
        arguments="{}",
        environment={},
        memory_mb=100,
        timeout_s=900.0,
        grace_s=GRACE_S,
        ttl_s=ttl_s,
    )


@pytest.fixture
def rig() -> Rig:
    return Rig()


# calls


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST, Fault.LATE])
def test_any_call_can_go_without_an_answer_as_often_as_wanted(rig: Rig, method: str, fault: Fault) -> None:
    rig.engine.fail(method, fault, times=2)
    for _ in range(2):
        rig.lost(lambda: ask(rig, method))
    ask(rig, method)


@pytest.mark.parametrize("method", METHODS)
def test_any_call_can_arrive_twice(rig: Rig, method: str) -> None:
    rig.engine.fail(method, Fault.DOUBLED)
    ask(rig, method)
    assert rig.engine.late() == (0 if method == "nodes" else 1)
    rig.engine.deliver()
    assert rig.engine.late() == 0


def ask(rig: Rig, method: str) -> object:
    engine = rig.engine
    calls: dict[str, Callable[[], object]] = {
        "nodes": engine.nodes,
        "launch": lambda: engine.launch(NODE, [a_lease(ATTEMPT, TTL_S)], 1),
        "events": lambda: engine.events(NODE, BEGINNING, 0),
        "logs": lambda: engine.logs(NODE, BEGINNING, 1 << 20),
        "renew": lambda: engine.renew(NODE, [ATTEMPT], TTL_S, 1),
        "cancel": lambda: engine.cancel(NODE, [ATTEMPT], 0, 1),
        "withdraw": lambda: engine.withdraw(NODE, [ATTEMPT], 1),
        "inventory": lambda: engine.inventory(NODE),
    }
    return calls[method]()


def test_a_method_that_does_not_exist_cannot_go_wrong(rig: Rig) -> None:
    with pytest.raises(ValueError, match="lunch"):
        rig.engine.fail("lunch", Fault.LOST)


def test_a_launch_that_arrives_again_after_its_end_was_acknowledged_starts_again(rig: Rig) -> None:
    """The node has forgotten it, as it should: only the server still knows, and ends it as a stray."""
    rig.play = Play(seconds=1)
    rig.engine.fail("launch", Fault.DOUBLED)
    rig.launch(ATTEMPT)
    rig.engine.deliver()
    assert rig.engine.starts() == {ATTEMPT: 1}
    rig.engine.fail("launch", Fault.DOUBLED)
    rig.launch(ATTEMPT)
    rig.move(1)
    batch = rig.engine.events(NODE, BEGINNING, 0)
    rig.engine.events(NODE, Position(incarnation=batch.incarnation, number=batch.events[-1].number), 0)
    rig.engine.deliver()
    assert rig.engine.starts() == {ATTEMPT: 2}


def test_a_late_call_of_an_old_term_changes_nothing(rig: Rig) -> None:
    rig.engine.fail("launch", Fault.LATE)
    rig.lost(lambda: rig.launch(ATTEMPT, term=1))
    rig.launch(SECOND, term=2)
    rig.engine.deliver()
    assert rig.engine.running(NODE) == {SECOND}


def test_late_calls_can_change_places(rig: Rig) -> None:
    rig.engine.fail("launch", Fault.LATE)
    rig.engine.fail("cancel", Fault.LATE)
    rig.lost(lambda: rig.launch(ATTEMPT))
    rig.lost(lambda: rig.engine.cancel(NODE, [ATTEMPT], 0, 1))
    rig.engine.deliver(lambda calls: calls.reverse())
    assert rig.engine.running(NODE) == {ATTEMPT}


def test_late_calls_arrive_one_at_a_time_or_never(rig: Rig) -> None:
    rig.engine.fail("launch", Fault.LATE, times=3)
    for index in range(3):
        rig.lost(lambda index=index: rig.launch(an_attempt(1, index)))  # type: ignore[misc]  # bound to this turn
    rig.engine.deliver(random.Random(1).shuffle, at_most=1)
    assert (rig.engine.late(), len(rig.engine.running(NODE))) == (2, 1)
    rig.engine.drop_late()
    rig.engine.deliver()
    assert len(rig.engine.running(NODE)) == 1


def test_an_old_batch_of_logs_can_come_again(rig: Rig) -> None:
    rig.play = Play(output=("one",))
    rig.launch(ATTEMPT)
    batch = rig.engine.logs(NODE, BEGINNING, 1 << 20)
    after = Position(incarnation=batch.incarnation, number=1)
    rig.engine.fail("logs", Fault.REPEATED)
    assert rig.engine.logs(NODE, after, 1 << 20) == batch
    assert rig.engine.logs(NODE, after, 1 << 20).blocks == ()


# nodes


def test_a_mute_node_is_listed_and_answers_nobody(rig: Rig) -> None:
    rig.launch(ATTEMPT)
    rig.engine.mute(NODE)
    assert NODE in [info.id for info in rig.engine.nodes()]
    for method in METHODS[1:]:
        rig.lost(lambda method=method: ask(rig, method))  # type: ignore[misc]  # bound to this turn
    assert rig.engine.running(NODE) == {ATTEMPT}
    rig.engine.mend(NODE)
    assert rig.engine.inventory(NODE).attempts == {ATTEMPT}


def test_late_calls_wait_for_a_node_that_is_out_of_reach(rig: Rig) -> None:
    rig.engine.cut(NODE)
    rig.engine.fail("launch", Fault.LATE)
    rig.lost(lambda: rig.launch(ATTEMPT))
    rig.engine.deliver()
    assert rig.engine.running(NODE) == frozenset()
    rig.engine.mend(NODE)
    rig.engine.deliver()
    assert rig.engine.running(NODE) == {ATTEMPT}


def test_a_node_that_is_replaced_is_gone_with_all_it_had(rig: Rig) -> None:
    rig.launch(ATTEMPT)
    new = rig.engine.replace(NODE)
    assert new != NODE
    assert [info.id for info in rig.engine.nodes()] == list(rig.engine.members()) == [NodeId("local"), new]
    rig.lost(lambda: rig.engine.inventory(NODE))
    assert rig.engine.running(NODE) == frozenset()
    assert rig.engine.inventory(new).attempts == frozenset()
    assert rig.engine.events(new, BEGINNING, 0).events == ()
    assert rig.engine.starts() == {ATTEMPT: 1}
    assert rig.engine.replace(new) not in {NODE, new}


def test_what_is_late_for_a_node_that_has_gone_never_arrives(rig: Rig) -> None:
    rig.engine.fail("launch", Fault.LATE)
    rig.lost(lambda: rig.launch(ATTEMPT))
    rig.engine.replace(NODE)
    rig.engine.deliver()
    assert rig.engine.late() == 0
    assert rig.engine.starts() == {}


def test_a_wall_clock_that_jumps_or_is_wrong_changes_times_and_nothing_else(rig: Rig) -> None:
    rig.play = Play(seconds=10)
    rig.launch(ATTEMPT)
    rig.wall -= 3_600
    rig.engine.skew(NODE, 7)
    rig.move(9.9)
    assert rig.engine.running(NODE) == {ATTEMPT}
    assert rig.engine.next_end() == pytest.approx(rig.wall + 0.1)
    rig.move(0.1)
    outcome = rig.ends()[ATTEMPT]
    assert outcome is not None
    assert outcome.ended_at == pytest.approx(rig.wall + 7)


# leases


def test_a_lease_that_is_not_renewed_ends_on_its_node(rig: Rig) -> None:
    rig.launch(ATTEMPT, SECOND)
    rig.engine.cut(NODE)
    rig.move(TTL_S - 1)
    assert rig.engine.running(NODE) == {ATTEMPT, SECOND}
    rig.move(1)
    assert rig.engine.running(NODE) == frozenset()
    rig.engine.mend(NODE)
    assert rig.kinds() == {ATTEMPT: OutcomeKind.LOST, SECOND: OutcomeKind.LOST}


@pytest.mark.parametrize("prolong", ["renew", "launch"])
def test_a_lease_is_prolonged_by_a_renewal_and_by_another_launch(rig: Rig, prolong: str) -> None:
    rig.launch(ATTEMPT, SECOND)
    rig.move(TTL_S / 2)
    if prolong == "renew":
        rig.engine.renew(NODE, [ATTEMPT], TTL_S, 1)
    else:
        rig.launch(ATTEMPT)
    rig.move(TTL_S / 2)
    assert rig.engine.running(NODE) == {ATTEMPT}
    rig.move(TTL_S / 2)
    assert rig.engine.running(NODE) == frozenset()


def test_what_expires_uses_its_grace_and_no_more(rig: Rig) -> None:
    rig.play = Play(seconds=600, dies_after=300)
    rig.launch(ATTEMPT)
    rig.move(TTL_S + GRACE_S - 0.1)
    assert rig.engine.running(NODE) == {ATTEMPT}
    rig.move(0.1)
    assert rig.engine.running(NODE) == frozenset()


def test_what_expires_before_it_has_started_is_forgotten(rig: Rig) -> None:
    rig.play = Play(seconds=50)
    third = an_attempt(1, 2)
    rig.launch(ATTEMPT, SECOND, ttl_s=None)
    rig.launch(third, ttl_s=20)
    rig.move(20)
    assert rig.engine.inventory(NODE).attempts == {ATTEMPT, SECOND}
    rig.move(40)
    assert third not in rig.engine.starts()


def test_a_lease_without_a_time_to_live_never_expires(rig: Rig) -> None:
    rig.launch(ATTEMPT, ttl_s=None, node=NodeId("local"))
    rig.engine.cut(NodeId("local"))
    rig.move(599)
    assert rig.engine.running(NodeId("local")) == {ATTEMPT}


def test_what_has_expired_frees_its_place_for_what_waits(rig: Rig) -> None:
    rig.launch(ATTEMPT, SECOND)
    third = an_attempt(1, 2)
    rig.launch(third, ttl_s=200)
    rig.move(TTL_S)
    assert rig.engine.running(NODE) == {third}


def test_a_frozen_node_kills_what_has_expired_first_thing_when_it_wakes(rig: Rig) -> None:
    rig.play = Play(seconds=600, dies_after=300)
    rig.launch(ATTEMPT)
    rig.launch(SECOND, ttl_s=None)
    rig.engine.freeze(NODE)
    rig.move(TTL_S + GRACE_S)
    assert rig.engine.running(NODE) == {ATTEMPT, SECOND}
    rig.lost(lambda: rig.engine.events(NODE, BEGINNING, 0))
    rig.engine.mend(NODE)
    assert rig.engine.running(NODE) == {SECOND}
    assert rig.kinds() == {ATTEMPT: OutcomeKind.LOST}


def test_what_waits_on_a_frozen_node_expires_before_it_can_start(rig: Rig) -> None:
    rig.play = Play(seconds=30)
    third = an_attempt(1, 2)
    rig.launch(ATTEMPT, SECOND, third)
    rig.engine.freeze(NODE)
    rig.move(TTL_S)
    rig.engine.mend(NODE)
    assert rig.kinds() == {ATTEMPT: OutcomeKind.LOST, SECOND: OutcomeKind.LOST}
    assert third not in rig.engine.starts()
    assert third not in rig.engine.inventory(NODE).attempts


def test_processes_of_a_frozen_node_end_and_nothing_takes_their_place(rig: Rig) -> None:
    rig.play = Play(seconds=30)
    third = an_attempt(1, 2)
    rig.launch(ATTEMPT, SECOND, third)
    rig.engine.freeze(NODE)
    rig.move(31)
    assert rig.engine.running(NODE) == frozenset()
    assert third not in rig.engine.starts()
    rig.engine.mend(NODE)
    assert rig.engine.running(NODE) == {third}
    assert rig.kinds() == {ATTEMPT: OutcomeKind.SUCCEEDED, SECOND: OutcomeKind.SUCCEEDED}


def test_a_renewal_that_is_late_beyond_the_contract_is_refused(rig: Rig) -> None:
    rig.launch(ATTEMPT)
    rig.move(50)
    rig.engine.fail("renew", Fault.LATE, times=2)
    rig.lost(lambda: rig.engine.renew(NODE, [ATTEMPT], TTL_S, 1))
    rig.move(LATE_CALL_S)
    rig.engine.deliver()
    rig.move(TTL_S - 10)
    rig.lost(lambda: rig.engine.renew(NODE, [ATTEMPT], TTL_S, 1))
    rig.move(LATE_CALL_S + 0.1)
    rig.engine.deliver()
    assert rig.engine.running(NODE) == {ATTEMPT}
    rig.move(10 - LATE_CALL_S)
    assert rig.engine.running(NODE) == frozenset()


def test_a_launch_that_is_late_beyond_the_contract_starts_only_where_leases_live_for_ever(rig: Rig) -> None:
    rig.engine.fail("launch", Fault.LATE, times=2)
    rig.lost(lambda: rig.launch(ATTEMPT))
    rig.lost(lambda: rig.launch(SECOND, node=NodeId("local"), ttl_s=None))
    rig.move(LATE_CALL_S + 0.1)
    rig.engine.deliver()
    assert rig.engine.starts() == {SECOND: 1}


def test_the_shortest_grace_counts(rig: Rig) -> None:
    rig.play = Play(seconds=600, dies_after=300)
    rig.launch(ATTEMPT)
    rig.engine.cancel(NODE, [ATTEMPT], 100, 1)
    rig.engine.cancel(NODE, [ATTEMPT], 5, 1)
    rig.engine.cancel(NODE, [ATTEMPT], 50, 1)
    rig.move(5)
    assert rig.kinds() == {ATTEMPT: OutcomeKind.CANCELLED}
