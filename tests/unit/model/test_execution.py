from datetime import timedelta

import pytest

from tidemill.model.execution import backoff


def test_backoff_doubles_from_one_second_and_stops_at_a_minute() -> None:
    assert [backoff(n).total_seconds() for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10_000) == timedelta(seconds=60)


def test_backoff_before_the_first_attempt_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="attempt is 0"):
        backoff(0)
