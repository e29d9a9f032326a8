"""A server knows its key ring again, and does nothing with another one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tidemill.secrets import KeyRing, KeyRingError
from tidemill.service import key_check
from tidemill.store.database import Database

RING: Final = KeyRing.generate()
OTHER: Final = KeyRing.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a server that ran once with RING in its file."""
    (tmp_path / "keyring.json").write_text(RING.text())
    database = Database(tmp_path / "tidemill.db")
    key_check.keep(database, RING)
    database.close()
    return tmp_path


def load(folder: Path, text: str | None = None) -> KeyRing:
    return key_check.load(folder / "tidemill.db", folder / "keyring.json", text)


def test_the_right_ring_is_taken_from_file_and_variable(folder: Path) -> None:
    assert load(folder) == RING
    (folder / "keyring.json").unlink()
    assert load(folder, RING.text()) == RING


def test_one_with_more_keys_and_another_active_one_is_the_same(folder: Path) -> None:
    more = replace(RING, active=OTHER.active, keys={**RING.keys, **OTHER.keys})
    assert load(folder, more.text()) == more


@pytest.mark.parametrize(
    "ring",
    [
        OTHER,
        replace(RING, pepper=OTHER.pepper),
        replace(RING, active=OTHER.active, keys=OTHER.keys),
        replace(RING, keys={RING.active: OTHER.keys[OTHER.active]}),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_another_ring_is_refused_and_nothing_is_written(folder: Path, ring: KeyRing, in_file: bool) -> None:
    if in_file:
        (folder / "keyring.json").write_text(ring.text())
    before = (folder / "tidemill.db").read_bytes()
    with pytest.raises(KeyRingError, match="is not the one that the database was written with") as caught:
        load(folder, None if in_file else ring.text())
    assert ("keyring.json" if in_file else "TIDEMILL_KEY_RING") in str(caught.value)
    assert (folder / "tidemill.db").read_bytes() == before


def test_a_file_that_is_gone_is_not_made_anew_beside_a_database(folder: Path) -> None:
    (folder / "keyring.json").unlink()
    with pytest.raises(KeyRingError, match="put it back from a backup"):
        load(folder)
    assert not (folder / "keyring.json").exists()


def test_an_empty_database_gets_a_ring(tmp_path: Path) -> None:
    (tmp_path / "tidemill.db").touch()
    assert load(tmp_path) == load(tmp_path)


def test_a_database_from_before_the_check_takes_the_ring_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "keyring.json").write_text(RING.text())
    Database(tmp_path / "tidemill.db").close()
    assert load(tmp_path) == RING


def test_the_first_ring_stays_the_one(folder: Path) -> None:
    database = Database(folder / "tidemill.db")
    key_check.keep(database, OTHER)
    database.close()
    assert load(folder) == RING


def test_the_server_ends_with_the_reason(folder: Path) -> None:
    (folder / "keyring.json").write_text(OTHER.text())
    before = (folder / "tidemill.db").read_bytes()
    words = [sys.executable, "-m", "tidemill.main", "server", "--port", "0", "--data-dir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "is not the one that the database was written with" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "tidemill.db").read_bytes() == before
