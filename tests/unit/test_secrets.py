import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.secrets import KeyRing, KeyRingError, load_key_ring, write_private

RING = KeyRing.generate()


@given(st.text(), st.text(min_size=1))
def test_what_is_sealed_opens_again_for_its_row_only(text: str, about: str) -> None:
    sealed = RING.seal(text, about)
    assert RING.open(sealed, about) == text
    with pytest.raises(KeyRingError):
        RING.open(sealed, about + "x")


def test_the_same_text_never_looks_the_same() -> None:
    assert RING.seal("canary", "a") != RING.seal("canary", "a")
    assert "canary" not in RING.seal("canary", "a")


@pytest.mark.parametrize("place", [0, 3, -1, -10, 20])
def test_a_changed_envelope_does_not_open(place: int) -> None:
    sealed = list(RING.seal("canary", "row"))
    sealed[place] = "A" if sealed[place] != "A" else "B"
    with pytest.raises(KeyRingError) as raised:
        RING.open("".join(sealed), "row")
    assert "canary" not in str(raised.value)


def test_another_ring_says_which_key_it_misses() -> None:
    sealed = RING.seal("canary", "row")
    with pytest.raises(KeyRingError, match=RING.active):
        KeyRing.generate().open(sealed, "row")


def test_an_old_key_opens_and_the_new_one_seals() -> None:
    other = KeyRing.generate()
    rotated = KeyRing(active=other.active, keys={**RING.keys, **other.keys}, pepper=RING.pepper)
    assert rotated.open(RING.seal("old", "row"), "row") == "old"
    assert rotated.seal("new", "row").split(".")[1] == other.active
    assert rotated.api_key_digest("k") == RING.api_key_digest("k")


def test_a_ring_survives_its_text_and_does_not_show_its_keys() -> None:
    assert KeyRing.parse(RING.text()) == RING
    shown = repr(RING)
    assert all(key.hex() not in shown and repr(key) not in shown for key in (*RING.keys.values(), RING.pepper))


SHORT = '{"active":"a","keys":{"a":"AAAA"},"pepper":"AAAA"}'


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"active":"a","keys":{},"pepper":"x"}', SHORT])
def test_what_is_no_key_ring_is_said_without_its_content(text: str) -> None:
    with pytest.raises(KeyRingError):
        KeyRing.parse(text)


def test_hashes_for_different_purposes_never_meet() -> None:
    assert RING.mac("a", b"bc") != RING.mac("ab", b"c")
    assert RING.mac("a", b"x") == RING.mac("a", b"x")
    assert RING.mac("a", b"x") != KeyRing.generate().mac("a", b"x")


def test_the_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    made = load_key_ring(path, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key_ring(path, None) == made
    assert os.listdir(tmp_path) == ["keyring.json"]  # noqa: PTH208 - hidden files too


def test_a_ring_from_the_environment_leaves_no_file(tmp_path: Path) -> None:
    assert load_key_ring(tmp_path / "keyring.json", RING.text()) == RING
    assert not (tmp_path / "keyring.json").exists()


def test_a_private_file_is_private_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "admin.env"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


ATTEMPT = AttemptId(OwnerKind.TASK, 42, 7, 1)


def test_a_tasks_credential_says_which_attempt_it_is_of() -> None:
    assert RING.attempt_of(RING.task_credential(ATTEMPT)) == ATTEMPT


def test_a_key_that_seals_no_more_still_answers_for_attempts_that_began_under_it() -> None:
    credential = RING.task_credential(ATTEMPT)
    fresh = KeyRing.generate()
    rotated = KeyRing(active=fresh.active, keys={**RING.keys, **fresh.keys}, pepper=RING.pepper)
    assert rotated.attempt_of(credential) == ATTEMPT
    assert rotated.task_credential(ATTEMPT) != credential


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(".7.", ".8."),
        lambda text: text.replace(".42.", ".43."),
        lambda text: text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1],
        lambda text: text.rpartition(".")[0],
        lambda text: text.rpartition(".")[0] + ".",
        lambda text: text[:4],
        lambda text: text[:4] + "....",
        lambda text: text.replace("tmt_", "tmt_0"),
        lambda text: text + "é",
    ],
)
def test_a_changed_credential_is_of_no_attempt(change: Callable[[str], str]) -> None:
    assert RING.attempt_of(change(RING.task_credential(ATTEMPT))) is None


def test_another_rings_credential_is_of_no_attempt() -> None:
    assert RING.attempt_of(KeyRing.generate().task_credential(ATTEMPT)) is None
