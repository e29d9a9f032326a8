import uuid

import pytest

from tidemill.model.canary import Rollout, is_chosen, share_of

SUBJECTS = [str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for number in range(2_000)]


@pytest.mark.parametrize("percent", [0, 1, 10, 33, 50, 90, 99, 100])
def test_of_2000_subjects_the_share_is_within_two_points(percent: int) -> None:
    chosen = sum(is_chosen(subject, percent) for subject in SUBJECTS)
    assert abs(chosen / len(SUBJECTS) * 100 - percent) <= 2
    if percent in {0, 100}:
        assert chosen == len(SUBJECTS) * percent // 100


def test_the_choice_is_the_same_in_every_process_and_release() -> None:
    # another hash would move callers and executions between revisions when a server is upgraded
    names = ("exec-abc1", "exec-abc2", "exec-abc3", "exec-abc4")
    assert [is_chosen(name, 50) for name in names] == [True, True, False, True]


def test_raising_the_percentage_takes_nobody_back() -> None:
    before = {subject for subject in SUBJECTS if is_chosen(subject, 10)}
    assert before <= {subject for subject in SUBJECTS if is_chosen(subject, 11)}


def test_shares_tell_how_new_executions_are_given() -> None:
    rollout = Rollout(canary="b", canary_percent=10)
    assert [share_of(name, "a", rollout) for name in "abc"] == [90, 10, 0]
    assert share_of("a", "a", Rollout(canary_percent=10)) == 100
    paused = Rollout(canary="b", canary_percent=10, traffic=0)
    assert [share_of(name, "a", paused) for name in "abc"] == [0, 0, 0]
