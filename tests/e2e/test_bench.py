"""The bench in short: what it measures runs, whatever the numbers are."""

from collections.abc import Iterator

import pytest

from bench import ground, small, starts, tasks
from bench.ground import BenchError, Ground, Watch


@pytest.fixture(scope="module")
def there() -> Iterator[Ground]:
    with ground.running() as found:
        yield found


def test_a_server_and_both_c_programs_run_the_same_tasks_in_turn(there: Ground) -> None:
    (found,) = tasks.rounds(there, tasks=10, count=1)
    names = {f"{who}_{what}" for who in ("tidemill", "equal", "bare") for what in ("a_second", "cpu_ms")}
    assert {name for name, value in found.items() if value > 0} == names


def test_starts_and_small_executions_are_measured(there: Ground) -> None:
    (times,) = starts.rounds(there, starts=3, count=1)
    assert 0 < times["p50_ms"] <= times["p99_ms"]
    (rates,) = small.rounds(there, executions=8, count=1)
    assert 0 < rates["executions_a_second"] <= rates["answers_a_second"]


def test_an_execution_that_does_not_end_in_time_is_an_error(there: Ground) -> None:
    watch = Watch(there.http, ground.JOB)
    with pytest.raises(BenchError, match="has not ended within 0 s"):
        watch.wait("nothing", seconds=0)
