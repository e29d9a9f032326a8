"""Whatever goes wrong, in whatever order: no promise is broken. `make simulate SEEDS=n` plays more of it."""

from collections import Counter

import pytest

from tidemill.testing.simulator.faults import ANYWHERE, WITH_LEASES
from tidemill.testing.simulator.points import NOWHERE, OF_TRIGGERS, catalogue
from tidemill.testing.simulator.run import Simulator

BLOCK = 15
BLOCKS = 4
TRIGGER_BLOCKS = 2
TRIES = 40


class Deathless:
    """Seeds in which no server dies, each played once: they tell where one might have died."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._exposed: dict[tuple[int, bool], frozenset[str]] = {}

    def exposed(self, seed: int, *, triggers: bool) -> frozenset[str]:
        """The points at which a server dies in this seed, if it shall."""
        if (seed, triggers) not in self._exposed:
            report = self._simulator.run(seed, die_at=NOWHERE, triggers=triggers)
            assert not report.broken, str(report)
            assert not report.deaths
            self._exposed[seed, triggers] = report.exposed
        return self._exposed[seed, triggers]


@pytest.fixture(scope="module")
def deathless(simulator: Simulator) -> Deathless:
    return Deathless(simulator)


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
def test_a_server_that_dies_there_breaks_no_promise(simulator: Simulator, deathless: Deathless, point: str) -> None:
    triggers = point.rpartition(" ")[2] in OF_TRIGGERS
    seed = next((seed for seed in range(1, TRIES) if point in deathless.exposed(seed, triggers=triggers)), None)
    assert seed is not None, f"no server came to {point}"
    report = simulator.run(seed, die_at=point, triggers=triggers)
    assert not report.broken, str(report)
    assert set(report.deaths) == {point}
