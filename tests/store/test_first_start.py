"""The first workspace and its admin (service/first_start.py), on a real database."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.model.principal import Role
from tidemill.secrets import KeyRing
from tidemill.service import first_start
from tidemill.service.first_start import Admin
from tidemill.store import api_keys
from tidemill.store.database import Database

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RING = KeyRing.generate()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "tidemill.db")
    yield opened
    opened.close()


def start(database: Database, data_dir: Path, *, given: str = "", origin: str = "http://127.0.0.1:8700") -> Admin:
    admin = first_start.ensure_admin(database, RING, data_dir, workspace="default", given_key=given, now=NOW)
    first_start.write_file(data_dir, admin, origin)
    return admin


def role(database: Database, api_key: str) -> Role | None:
    digest = RING.api_key_digest(api_key)
    found = database.read(lambda connection: api_keys.holder(connection, digest, "default"))
    return None if found is None else found.reaches.get("default")


def test_the_first_start_makes_a_key_that_later_ones_keep(database: Database, tmp_path: Path) -> None:
    first = start(database, tmp_path)
    assert first.generated
    assert role(database, first.api_key) is Role.ADMIN
    again = start(database, tmp_path, origin="http://127.0.0.1:9")
    assert (again.api_key, again.generated) == (first.api_key, False)
    assert first_start.read_file(tmp_path) == {
        "BL_API_URL": "http://127.0.0.1:9/v0",
        "BL_RUN_URL": "http://127.0.0.1:9",
        "BL_WORKSPACE": "default",
        "BL_API_KEY": first.api_key,
    }
    assert stat.S_IMODE((tmp_path / "admin.env").stat().st_mode) == 0o600


def test_a_given_key_is_used_and_never_called_generated(database: Database, tmp_path: Path) -> None:
    assert not start(database, tmp_path, given="chosen-key").generated
    assert role(database, "chosen-key") is Role.ADMIN
    assert start(database, tmp_path).api_key == "chosen-key"


def test_a_lost_file_is_made_again_with_another_key(database: Database, tmp_path: Path) -> None:
    first = start(database, tmp_path)
    (tmp_path / "admin.env").unlink()
    second = start(database, tmp_path)
    assert second.generated
    assert second.api_key != first.api_key
    assert role(database, second.api_key) is Role.ADMIN


def test_keys_are_kept_as_keyed_hashes_only(database: Database, tmp_path: Path) -> None:
    admin = start(database, tmp_path)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("tidemill.db*"))
    assert RING.api_key_digest(admin.api_key).encode() in held
    assert admin.api_key.encode() not in held
