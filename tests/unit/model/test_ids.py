from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from tidemill.model.ids import EXECUTION_ID, JOB_NAME, AttemptId, OwnerKind, key_run, new_execution_id, new_key


def test_an_attempt_id_survives_its_text_form() -> None:
    attempt = AttemptId(OwnerKind.TASK, 1234567890123, 41, 3)
    assert str(attempt) == "t/1234567890123/41/3"
    assert AttemptId.parse(str(attempt)) == attempt


@pytest.mark.parametrize("text", ["", "t/1/2", "x/1/2/3", "t/a/2/3", "t/1/2/3/4"])
def test_a_text_that_is_no_attempt_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        AttemptId.parse(text)


def test_no_two_keys_of_a_process_are_the_same_whatever_its_clock_shows() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = [*threads.map(lambda _: new_key(1_800_000_000_000), range(50_000))]
    run = [*islice(key_run(1_800_000_000_000), 10_000)]
    assert len({*made, *run}) == 60_000


def test_keys_grow_with_time_and_fit_63_bits() -> None:
    early, late = new_key(1_800_000_000_000), new_key(1_800_000_000_001)
    assert early < late < 2**63
    assert new_key(3_900_000_000_000) < 2**63  # the year 2093


@pytest.mark.parametrize("name", ["a", "a-b", "0", "x" * 49])
def test_names_of_the_contract_are_names(name: str) -> None:
    assert JOB_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "x" * 50, "a\n"])
def test_other_names_are_not(name: str) -> None:
    assert not JOB_NAME.fullmatch(name)


def test_our_execution_ids_are_legal_and_differ_in_their_first_eight_characters() -> None:
    ids = [new_execution_id() for _ in range(100)]
    assert all(EXECUTION_ID.fullmatch(each) for each in ids)
    assert len({each[:8] for each in ids}) == 100
