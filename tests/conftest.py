"""The simulator's world, which tests of store and scheduler share, and which process runs which test."""

from collections.abc import Iterator

import pytest
import structlog
from xdist.remote import Producer

from tests.sharing import Sharing
from tidemill.testing.sim import Sim


def pytest_configure() -> None:
    """Tracebacks as a server writes them: the local variables of each call, in colour, take up to 20 s for one."""
    person = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.dev.set_exc_info, person])


@pytest.hookimpl(optionalhook=True)  # of xdist: a run in one process needs none
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)


@pytest.fixture(scope="session")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    made = Sim(tmp_path_factory.mktemp("sim"))
    yield made
    made.close()


@pytest.fixture
def sim(_store: Sim) -> Sim:
    """One node of 4 slots and 8,000 MB; tasks take a second and succeed. One file for all tests, emptied for each."""
    _store.reset()
    return _store
