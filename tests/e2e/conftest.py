"""Servers for the end-to-end tests, and folders to deploy on them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.drive import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ours wait most of the time, so they come first: the many short tests of other folders fill what is left."""
    for item in items:
        if _is_ours(item):
            item.add_marker(pytest.mark.e2e)
    items.sort(key=lambda item: not _is_ours(item))


def _is_ours(item: pytest.Item) -> bool:
    return Path(__file__).parent in item.path.parents


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server of its own for one test that stops or kills it."""
    server = Server(tmp_path / "data")
    yield from running(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a module's tests."""
    yield from running(Server(tmp_path_factory.mktemp("tidemill") / "data", {"TIDEMILL_KILL_GRACE_S": "1"}))


def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
        left = server.ours()
        assert not left, f"processes were left behind: {left}"


@pytest.fixture(scope="session")
def job_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with a job whose main.sh is ``script``."""

    def make(name: str, script: str, **runtime: int) -> Path:
        folder = tmp_path_factory.mktemp(name)
        lines = [f"{key} = {value}" for key, value in runtime.items()]
        (folder / "blaxel.toml").write_text(
            "\n".join(['type = "job"', f'name = "{name}"', "[entrypoint]", 'prod = "sh main.sh"', "[runtime]", *lines])
        )
        (folder / "main.sh").write_text(script)
        return folder

    return make
