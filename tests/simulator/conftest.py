from collections.abc import Iterator

import pytest
import structlog

from tidemill.testing.simulator.run import Simulator


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One for all tests of this process: each seed begins with an empty store."""
    made = Simulator(tmp_path_factory.mktemp("simulator"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Worlds full of trouble are full of warnings."""
    with structlog.testing.capture_logs():
        yield
