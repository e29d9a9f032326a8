from collections.abc import Callable
from unittest import SkipTest

import pytest

from tidemill.engine.fake import FakeEngine, Fault, Play
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import BlobRef, Lease, NodeInfo, OutcomeKind, Position, Refusal, TaskLease
from tidemill.testing.engine_leases import a_lease_that_nobody_renews_expires
from tidemill.testing.engine_suite import CASES, EXIT_CODE, PRINTED, RESULT, Case, Does, an_attempt, name_of

NODE = NodeId("n1")
PLAYS = {
    Does.SUCCEED: Play(seconds=0.5),
    Does.FAIL: Play(seconds=0.5, kind=OutcomeKind.EXIT_CODE, exit_code=EXIT_CODE),
    Does.SLEEP: Play(seconds=600),
    Does.STUBBORN: Play(seconds=600, dies_after=600),
    Does.TIME_OUT: Play(seconds=600),
    Does.PRINT: Play(output=PRINTED),
    Does.RESULT: Play(result=RESULT),
}


class FakeHarness:
    """A fake engine, and a clock that moves while somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0
        info = NodeInfo(id=NODE, region="local", memory_mb=1_000, slots=2, incarnation="n1-1")
        self.engine = FakeEngine([info], self._play, clock=lambda: self.now)
        self.node = NODE
        self.ttl_s: float | None = 3.0
        self._does: dict[AttemptId, Does] = {}

    def lease(self, attempt: AttemptId, does: Does, ttl_s: float | None = None) -> Lease:
        self._does[attempt] = does
        return TaskLease(
            attempt=attempt,
            log_key=1,
            image=BlobRef(name="images/x.tar.gz", digest="x"),
            arguments="{}",
            environment={},
            memory_mb=100,
            timeout_s=1.0 if does is Does.TIME_OUT else 900.0,
            ttl_s=ttl_s,
        )

    def is_alive(self, attempt: AttemptId) -> bool:
        return attempt in self.engine.running(NODE)

    def crash(self) -> None:
        self.engine.crash(NODE)

    def until(self, ready: Callable[[], bool]) -> None:
        for _ in range(100):
            if ready():
                return
            self.now += 0.1
        raise AssertionError("10 seconds of the fake clock were not enough")

    def _play(self, lease: Lease) -> Play:
        return PLAYS[self._does[lease.attempt]]


@pytest.fixture
def harness() -> FakeHarness:
    return FakeHarness()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_fake_keeps_the_contract_of_engines(case: Case, harness: FakeHarness) -> None:
    case(harness)


def test_a_case_that_an_engine_has_no_ability_for_says_so(harness: FakeHarness) -> None:
    harness.ttl_s = None
    with pytest.raises(SkipTest, match="no time to live"):
        a_lease_that_nobody_renews_expires(harness)


def test_a_lost_call_has_no_effect_and_a_lost_answer_has_one(harness: FakeHarness) -> None:
    attempt = an_attempt(1)
    lease = harness.lease(attempt, Does.SLEEP)
    harness.engine.fail("launch", Fault.LOST)
    with pytest.raises(EngineUnavailable):
        harness.engine.launch(NODE, [lease], 1)
    assert harness.engine.inventory(NODE).attempts == frozenset()
    harness.engine.fail("launch", Fault.ANSWER_LOST)
    with pytest.raises(EngineUnavailable):
        harness.engine.launch(NODE, [lease], 1)
    assert harness.engine.running(NODE) == {attempt}


def test_a_late_launch_arrives_when_it_is_delivered(harness: FakeHarness) -> None:
    attempt = an_attempt(1)
    harness.engine.fail("launch", Fault.LATE)
    with pytest.raises(EngineUnavailable):
        harness.engine.launch(NODE, [harness.lease(attempt, Does.SLEEP)], 1)
    assert harness.engine.running(NODE) == frozenset()
    harness.engine.deliver()
    assert harness.engine.running(NODE) == {attempt}


def test_a_batch_can_come_twice_though_it_was_acknowledged(harness: FakeHarness) -> None:
    harness.engine.launch(NODE, [harness.lease(an_attempt(1), Does.SUCCEED)], 1)
    harness.now += 1
    batch = harness.engine.events(NODE, Position(), 0)
    harness.engine.repeat(NODE)
    seen = Position(incarnation=batch.incarnation, number=batch.events[-1].number)
    assert harness.engine.events(NODE, seen, 0) == batch
    assert harness.engine.events(NODE, seen, 0).events == ()


def test_a_node_that_is_cut_off_goes_on(harness: FakeHarness) -> None:
    attempt = an_attempt(1)
    harness.engine.launch(NODE, [harness.lease(attempt, Does.SUCCEED)], 1)
    harness.engine.cut(NODE)
    assert harness.engine.nodes() == []
    with pytest.raises(EngineUnavailable):
        harness.engine.events(NODE, Position(), 0)
    harness.now += 1
    harness.engine.mend(NODE)
    assert [event.kind for event in harness.engine.events(NODE, Position(), 0).events] == ["started", "ended"]


def test_a_closing_node_refuses(harness: FakeHarness) -> None:
    harness.engine.refuse(NODE, closing=True)
    answers = harness.engine.launch(NODE, [harness.lease(an_attempt(1), Does.SLEEP)], 1)
    assert [answer.refused for answer in answers] == [Refusal.CLOSING]
    assert harness.engine.inventory(NODE).attempts == frozenset()


def test_an_ordered_stop_makes_planned_losses(harness: FakeHarness) -> None:
    harness.engine.launch(NODE, [harness.lease(an_attempt(1), Does.SLEEP)], 1)
    harness.engine.close(stop_tasks=True)
    (event,) = harness.engine.events(NODE, Position(), 0).events
    assert event.outcome is not None
    assert (event.outcome.kind, event.outcome.planned) == (OutcomeKind.LOST, True)


def test_waiting_for_events_is_what_the_harness_says() -> None:
    waited: list[float] = []
    info = NodeInfo(id=NODE, region="local", memory_mb=1_000, slots=2, incarnation="n1-1")
    engine = FakeEngine([info], lambda _: Play(), clock=lambda: 0.0, pause=waited.append)
    engine.events(NODE, Position(), 3.0)
    assert waited == [3.0]
