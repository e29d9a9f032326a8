from datetime import timedelta

import pytest

from tidemill.model.execution import Reason
from tidemill.model.retry import MAX_FACTOR, MAX_WAIT_S, RetryPolicy, backoff


def test_backoff_doubles_from_one_second_and_stops_at_a_minute() -> None:
    assert [backoff(n).total_seconds() for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10_000) == timedelta(seconds=60)


def test_backoff_before_the_first_attempt_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="attempt is 0"):
        backoff(0)


def test_a_policy_says_where_backoff_begins_how_it_grows_and_where_it_stops() -> None:
    policy = RetryPolicy(initial_s=0.5, factor=3, max_s=10)
    assert [backoff(n, policy).total_seconds() for n in range(1, 6)] == [0.5, 1.5, 4.5, 10, 10]
    assert [backoff(n, RetryPolicy(factor=1, initial_s=7)).total_seconds() for n in (1, 2, 101)] == [7, 7, 7]
    assert backoff(5, RetryPolicy(initial_s=0, max_s=0)) == timedelta(0)


def test_the_largest_policy_does_not_overflow() -> None:
    policy = RetryPolicy(initial_s=MAX_WAIT_S, factor=MAX_FACTOR, max_s=MAX_WAIT_S)
    assert backoff(10_000, policy) == timedelta(days=1)


def test_never_on_names_an_exit_code_or_a_reason() -> None:
    policy = RetryPolicy(never_on=(2, Reason.OUT_OF_MEMORY))
    assert policy.never(Reason.EXIT_CODE, 2) == "2"
    assert policy.never(Reason.OUT_OF_MEMORY, None) == "OutOfMemory"
    assert policy.never(Reason.EXIT_CODE, 3) is None
    # a process that is killed may leave a number beside its signal: it is no exit code
    assert policy.never(Reason.TIMEOUT, 2) is None
