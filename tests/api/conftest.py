import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.asking import Api, opened
from tidemill.store.database import Database


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with its tables: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "tidemill.db"
    Database(path).close()
    return path


@pytest.fixture
def api(tmp_path: Path, migrated: Path) -> Iterator[Api]:
    shutil.copy(migrated, tmp_path / "tidemill.db")
    api = opened(tmp_path)
    yield api
    api.close()
