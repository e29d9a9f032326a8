import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import openid_browser, openid_provider
from tests.api.asking import Api, opened
from tests.api.openid_provider import Rogue
from tidemill.store.database import Database


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with its tables: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "tidemill.db"
    Database(path).close()
    return path


@pytest.fixture
def api(tmp_path: Path, migrated: Path) -> Iterator[Api]:
    yield from served(tmp_path, migrated)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Api]:
    """One server with the job sweep for a module's tests, all of which leave it as it was."""
    for api in served(tmp_path_factory.mktemp("kept"), migrated):
        api.deployed()
        yield api


@pytest.fixture(scope="session")
def _provider() -> Iterator[Rogue]:
    with openid_provider.running() as rogue:
        yield rogue


@pytest.fixture
def rogue(_provider: Rogue, api: Api) -> Rogue:
    """An OpenID provider that behaves, at which Ada is signed in; the server knows it."""
    _provider.reset()
    _provider.now = lambda: api.now[0]
    openid_browser.configure(api, _provider)
    return _provider


def served(folder: Path, migrated: Path) -> Iterator[Api]:
    shutil.copy(migrated, folder / "tidemill.db")
    api = opened(folder)
    yield api
    api.close()
