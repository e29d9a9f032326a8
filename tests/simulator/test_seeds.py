"""Whatever goes wrong, in whatever order: no promise is broken. `make simulate SEEDS=n` plays more of it."""

from collections import Counter

import pytest

from tidemill.testing.simulator.faults import ANYWHERE, WITH_LEASES
from tidemill.testing.simulator.points import catalogue
from tidemill.testing.simulator.run import Simulator

BLOCK = 15
BLOCKS = 4
TRIGGER_BLOCKS = 2
TRIES = 40


pytestmark = pytest.mark.timeout(600)  # a busy machine plays seeds slowly


@pytest.mark.parametrize("first", range(1, BLOCKS * BLOCK + 1, BLOCK))
def test_no_seed_breaks_a_promise(simulator: Simulator, first: int) -> None:
    passed: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        report = simulator.run(seed)
        assert not report.broken, str(report)
        passed += report.passed
        struck += report.faults
    assert set(passed) <= set(catalogue()), "a point without a name in the catalogue"
    assert set(struck) >= ANYWHERE, "every kind of fault has happened"
    assert set(struck) <= ANYWHERE | WITH_LEASES
    assert set(struck) & WITH_LEASES


@pytest.mark.parametrize("first", range(1, TRIGGER_BLOCKS * BLOCK + 1, BLOCK))
def test_no_seed_with_triggers_breaks_a_promise(simulator: Simulator, first: int) -> None:
    passed: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        report = simulator.run(seed, triggers=True)
        assert not report.broken, str(report)
        passed += report.passed
    assert set(passed) <= set(catalogue()), "a point without a name in the catalogue"
    assert passed["after commit of ticks.fire"] > BLOCK


@pytest.mark.parametrize("point", catalogue())
def test_a_server_that_dies_there_breaks_no_promise(simulator: Simulator, point: str) -> None:
    for seed in range(1, TRIES):
        report = simulator.run(seed, die_at=point)
        assert not report.broken, str(report)
        assert set(report.deaths) <= {point}
        if report.deaths:
            return
    raise AssertionError(f"no server came to {point}")
