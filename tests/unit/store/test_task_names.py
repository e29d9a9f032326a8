"""Searching names by arithmetic finds what reading each of them would."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.store.task_names import runs

HIGHEST = 12_000


def read(text: str, low: int, high: int) -> list[int]:
    return [index for index in range(low, high) if text in f"task-{index}"]


@pytest.mark.parametrize(
    "text",
    ["0", "7", "9", "00", "10", "99", "101", "999", "0123", "-0", "-00", "-1", "k-12", "task-", "as", "task-119"],
)
@pytest.mark.parametrize("descending", [False, True])
def test_every_name_that_contains_the_text_is_found_once_in_order(text: str, descending: bool) -> None:
    found = list(runs(text, 0, HIGHEST, descending=descending))
    ascending = found[::-1] if descending else found
    assert list(itertools.chain(*ascending)) == read(text, 0, HIGHEST)


@pytest.mark.parametrize("text", ["nothing", "task-1-2", "t-1", "--1", "1-", "-1-", "task-a", "²", "٣", "task1", "1a"])
def test_what_no_name_contains_is_not_found(text: str) -> None:
    assert list(runs(text, 0, HIGHEST)) == []


@settings(max_examples=300)
@given(
    digits=st.from_regex(r"(task-|-|k-)?[0-9]{1,4}", fullmatch=True),
    low=st.integers(0, 3_000),
    count=st.integers(0, 3_000),
    descending=st.booleans(),
)
def test_any_part_of_the_indices_may_be_searched(digits: str, low: int, count: int, descending: bool) -> None:
    found = list(runs(digits, low, low + count, descending=descending))
    assert all(found)
    ascending = found[::-1] if descending else found
    assert list(itertools.chain(*ascending)) == read(digits, low, low + count)


def test_the_only_one_among_a_million_is_one_step_away() -> None:
    assert list(runs("999999", 0, 1_000_000)) == [range(999_999, 1_000_000)]
    assert next(runs("99", 0, 10**18, descending=True)) == range(99 * 10**16, 10**18)
