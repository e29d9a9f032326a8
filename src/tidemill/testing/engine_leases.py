"""Cases of the engine suite: what nodes do with leases, from the launch to a cancel, a withdrawal or an expiry."""

from collections.abc import Callable
from unittest import SkipTest

from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import EventKind, OutcomeKind, Position
from tidemill.testing.engine_harness import GRACE_S, Does, Harness, Reader, an_attempt


def a_process_over_its_time_is_ended(harness: Harness) -> None:
    attempt = an_attempt(3)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.TIME_OUT)], 1)
    assert Reader(harness).outcome_of(attempt).kind is OutcomeKind.TIMED_OUT
    assert not harness.is_alive(attempt)


def launching_twice_starts_once(harness: Harness) -> None:
    attempt = an_attempt(5)
    lease = harness.lease(attempt, Does.SUCCEED)
    first = harness.engine.launch(harness.node, [lease], 1)
    second = harness.engine.launch(harness.node, [lease, lease], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    third = harness.engine.launch(harness.node, [lease], 1)
    answers = [(one.attempt, one.refused) for answer in (first, second, third) for one in answer]
    assert answers == [(attempt, None)] * 4
    reader.read()
    assert reader.kinds_of(attempt) == [EventKind.STARTED, EventKind.ENDED]


def what_does_not_fit_waits_in_the_order_given(harness: Harness) -> None:
    attempts = [an_attempt(21, index) for index in (3, 1, 2, 0)]
    _sleeping(harness, *attempts[:2], waiting=attempts[2:])
    reader = Reader(harness)
    harness.engine.cancel(harness.node, [attempts[0]], GRACE_S, 1)
    reader.wait_for_start(attempts[2])
    assert reader.kinds_of(attempts[3]) == []
    _end(harness, *attempts)


def an_older_term_is_refused(harness: Harness) -> None:
    first, second = an_attempt(9), an_attempt(9, 1)
    harness.engine.launch(harness.node, [harness.lease(first, Does.SLEEP)], 7)
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(second, Does.SUCCEED)], 6))
    _refused(lambda: harness.engine.cancel(harness.node, [first], GRACE_S, 6))
    _refused(lambda: harness.engine.withdraw(harness.node, [first], 6))
    _refused(lambda: harness.engine.renew(harness.node, [first], 60.0, 6))
    attempts = harness.engine.inventory(harness.node).attempts
    assert first in attempts
    assert second not in attempts
    harness.engine.cancel(harness.node, [first], GRACE_S, 8)
    assert Reader(harness).outcome_of(first).kind is OutcomeKind.CANCELLED
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(second, Does.SUCCEED)], 7))


def any_call_with_a_term_raises_it_and_a_crash_does_not_lower_it(harness: Harness) -> None:
    attempt = an_attempt(22)
    harness.engine.withdraw(harness.node, [attempt], 3)
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 2))
    harness.engine.cancel(harness.node, [attempt], GRACE_S, 4)
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 3))
    harness.engine.renew(harness.node, [attempt], 60.0, 5)
    harness.crash()
    _refused(lambda: harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 4))
    assert Reader(harness).read().events == ()


def cancel_ends_a_process_and_only_that_one(harness: Harness) -> None:
    victim, other, unknown = an_attempt(10), an_attempt(10, 1), an_attempt(10, 99)
    _sleeping(harness, victim, other)
    reader = Reader(harness)
    harness.engine.cancel(harness.node, [victim, unknown], GRACE_S, 1)
    assert reader.outcome_of(victim).kind is OutcomeKind.CANCELLED
    assert not harness.is_alive(victim)
    assert reader.end_of(other) is None
    assert reader.kinds_of(unknown) == []
    _end(harness, other)


def cancel_by_force_ends_what_does_not_want_to_end(harness: Harness) -> None:
    attempt = an_attempt(23)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.STUBBORN)], 1)
    reader = Reader(harness)
    reader.wait_for_start(attempt)
    harness.until(lambda: harness.is_alive(attempt))
    harness.engine.cancel(harness.node, [attempt], 600.0, 1)
    assert reader.read() is not None
    assert reader.end_of(attempt) is None, "it has not had its grace"
    harness.engine.cancel(harness.node, [attempt], 0.0, 1)
    assert reader.outcome_of(attempt).kind is OutcomeKind.CANCELLED
    assert not harness.is_alive(attempt)


def what_is_cancelled_before_it_starts_never_does(harness: Harness) -> None:
    running = [an_attempt(24, index) for index in range(2)]
    waiting = an_attempt(24, 2)
    _sleeping(harness, *running, waiting=[waiting])
    harness.engine.cancel(harness.node, [waiting], GRACE_S, 1)
    reader = Reader(harness)
    assert reader.outcome_of(waiting).kind is OutcomeKind.CANCELLED
    assert reader.kinds_of(waiting) == [EventKind.ENDED]
    _end(harness, *running)
    assert reader.read() is not None
    assert reader.kinds_of(waiting) == [EventKind.ENDED]


def what_has_ended_is_not_cancelled(harness: Harness) -> None:
    attempt = an_attempt(25)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SUCCEED)], 1)
    reader = Reader(harness)
    reader.wait_for(attempt)
    harness.engine.cancel(harness.node, [attempt], 0.0, 1)
    assert list(harness.engine.withdraw(harness.node, [attempt], 1)) == []
    assert reader.outcome_of(attempt).kind is OutcomeKind.SUCCEEDED
    assert reader.kinds_of(attempt) == [EventKind.STARTED, EventKind.ENDED]


def only_what_has_not_started_is_withdrawn(harness: Harness) -> None:
    running = [an_attempt(11, index) for index in range(2)]
    waiting, unknown = an_attempt(11, 2), an_attempt(11, 99)
    _sleeping(harness, *running, waiting=[waiting])
    assert list(harness.engine.withdraw(harness.node, [*running, waiting, unknown], 1)) == [waiting]
    assert harness.engine.inventory(harness.node).attempts == set(running)
    _end(harness, *running)
    reader = Reader(harness)
    reader.read()
    assert reader.kinds_of(waiting) == []


def what_was_withdrawn_can_be_launched_again(harness: Harness) -> None:
    running = [an_attempt(26, index) for index in range(2)]
    waiting = an_attempt(26, 2)
    _sleeping(harness, *running, waiting=[waiting])
    harness.engine.withdraw(harness.node, [waiting], 1)
    assert list(harness.engine.withdraw(harness.node, [waiting], 1)) == []
    _end(harness, *running)
    harness.engine.launch(harness.node, [harness.lease(waiting, Does.SUCCEED)], 1)
    reader = Reader(harness)
    assert reader.outcome_of(waiting).kind is OutcomeKind.SUCCEEDED
    assert reader.kinds_of(waiting) == [EventKind.STARTED, EventKind.ENDED]


def inventory_knows_what_waits_runs_and_has_ended(harness: Harness) -> None:
    ended, running = an_attempt(12), [an_attempt(12, index) for index in (1, 2)]
    waiting = an_attempt(12, 3)
    harness.engine.launch(harness.node, [harness.lease(ended, Does.SUCCEED)], 1)
    Reader(harness).wait_for(ended)
    _sleeping(harness, *running, waiting=[waiting])
    assert harness.engine.inventory(harness.node).attempts == {ended, *running, waiting}
    _end(harness, *running, waiting)


def a_crash_leaves_nothing_that_was_never_started_behind(harness: Harness) -> None:
    """Its lease is launched again under the same id, and starts."""
    running = [an_attempt(16, index) for index in range(2)]
    waiting = an_attempt(16, 2)
    _sleeping(harness, *running, waiting=[waiting])
    harness.crash()
    assert waiting not in harness.engine.inventory(harness.node).attempts
    harness.engine.launch(harness.node, [harness.lease(waiting, Does.SUCCEED)], 2)
    reader = Reader(harness)
    assert reader.outcome_of(waiting).kind is OutcomeKind.SUCCEEDED
    assert reader.kinds_of(waiting) == [EventKind.STARTED, EventKind.ENDED]


def a_lease_that_nobody_renews_expires(harness: Harness) -> None:
    attempt = an_attempt(27)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SLEEP, _ttl_s(harness))], 1)
    reader = Reader(harness)
    reader.wait_for_start(attempt)
    outcome = reader.outcome_of(attempt)
    assert outcome.kind is OutcomeKind.LOST
    assert not outcome.planned
    assert not harness.is_alive(attempt)


def a_lease_lives_on_while_it_is_renewed(harness: Harness) -> None:
    _outlives_the_other(harness, 28, lambda kept: harness.engine.renew(harness.node, [kept], _ttl_s(harness), 1))


def a_lease_lives_on_while_it_is_launched_again(harness: Harness) -> None:
    ttl_s = _ttl_s(harness)
    _outlives_the_other(
        harness, 29, lambda kept: harness.engine.launch(harness.node, [harness.lease(kept, Does.SLEEP, ttl_s)], 1)
    )


def a_renewal_gives_no_time_to_live_to_a_lease_that_has_none(harness: Harness) -> None:
    mortal, immortal = an_attempt(30), an_attempt(30, 1)
    ttl_s = _ttl_s(harness)
    leases = [harness.lease(mortal, Does.SLEEP, ttl_s), harness.lease(immortal, Does.SLEEP)]
    harness.engine.launch(harness.node, leases, 1)
    reader = Reader(harness)
    reader.wait_for_start(mortal, immortal)
    harness.engine.renew(harness.node, [immortal, an_attempt(30, 99)], ttl_s / 2, 1)
    reader.wait_for(mortal)
    assert reader.end_of(immortal) is None
    _end(harness, immortal)


def what_expires_before_it_starts_is_forgotten(harness: Harness) -> None:
    running = [an_attempt(31, index) for index in range(2)]
    waiting = an_attempt(31, 2)
    _sleeping(harness, *running)
    harness.engine.launch(harness.node, [harness.lease(waiting, Does.SLEEP, _ttl_s(harness))], 1)
    harness.until(lambda: waiting not in harness.engine.inventory(harness.node).attempts)
    _end(harness, *running)
    reader = Reader(harness)
    reader.read()
    assert reader.kinds_of(waiting) == []


def an_unknown_node_is_unavailable(harness: Harness) -> None:
    engine, attempt, node = harness.engine, an_attempt(32), NodeId("nobody")
    calls: list[Callable[[], object]] = [
        lambda: engine.launch(node, [harness.lease(attempt, Does.SUCCEED)], 1),
        lambda: engine.events(node, Position(), 0),
        lambda: engine.logs(node, Position(), 1),
        lambda: engine.renew(node, [attempt], 60.0, 1),
        lambda: engine.cancel(node, [attempt], 0.0, 1),
        lambda: engine.withdraw(node, [attempt], 1),
        lambda: engine.inventory(node),
    ]
    for call in calls:
        _raises(EngineUnavailable, call)


def _ttl_s(harness: Harness) -> float:
    if harness.ttl_s is None:
        raise SkipTest("the leases of this engine have no time to live: nobody else could get its nodes' work")
    return harness.ttl_s


def _sleeping(harness: Harness, *attempts: AttemptId, waiting: list[AttemptId] | None = None) -> None:
    """Launch attempts that sleep, and after them some that wait; returns when the first have started."""
    leases = [harness.lease(attempt, Does.SLEEP) for attempt in (*attempts, *(waiting or []))]
    harness.engine.launch(harness.node, leases, 1)
    Reader(harness).wait_for_start(*attempts)


def _end(harness: Harness, *attempts: AttemptId) -> None:
    harness.engine.cancel(harness.node, attempts, 0.0, 1)
    for attempt in attempts:
        Reader(harness).wait_for(attempt)


def _outlives_the_other(harness: Harness, owner: int, prolong: Callable[[AttemptId], object]) -> None:
    """Of two leases, the one that is prolonged lives on when the other has expired, and expires when it is no more."""
    kept, other = an_attempt(owner), an_attempt(owner, 1)
    ttl_s = _ttl_s(harness)
    harness.engine.launch(harness.node, [harness.lease(attempt, Does.SLEEP, ttl_s) for attempt in (kept, other)], 1)
    reader = Reader(harness)

    def other_has_expired() -> bool:
        prolong(kept)
        return reader.read() is not None and reader.end_of(other) is not None

    harness.until(other_has_expired)
    assert reader.end_of(kept) is None
    assert reader.outcome_of(kept).kind is OutcomeKind.LOST


def _refused(call: Callable[[], object]) -> None:
    _raises(StaleTerm, call)


def _raises(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was to be raised")
