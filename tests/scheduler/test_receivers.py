"""Whose turn it is among receivers: never more than two to one, never all threads to one workspace."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from tidemill.scheduler.receivers import A_WORKSPACE, THREADS, next_due, picks
from tidemill.store.outbox import Pick, Place

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def place(workspace: str, receiver: str, seconds: float = 0) -> Place:
    return Place(workspace=workspace, receiver=receiver, due_at=NOW + timedelta(seconds=seconds))


def test_two_at_a_time_go_to_a_receiver_whichever_workspace_sends_there() -> None:
    places = [place("a", "one"), place("b", "one"), place("b", "two")]
    assert picks(places, Counter(), now=NOW) == [
        Pick(workspace="a", receiver="one", count=2),
        Pick(workspace="b", receiver="two", count=2),
    ]
    busy = Counter({("b", "one"): 1, ("c", "two"): 2})
    assert picks(places, busy, now=NOW) == [Pick(workspace="a", receiver="one", count=1)]


def test_half_of_the_threads_are_not_for_one_workspace() -> None:
    many = [place("a", f"slow-{number}") for number in range(100)]
    wanted = picks(many, Counter(), now=NOW)
    assert sum(pick.count for pick in wanted) == A_WORKSPACE == THREADS // 2
    busy = Counter({("a", pick.receiver): pick.count for pick in wanted})
    assert picks(many, busy, now=NOW) == []
    assert picks([*many, place("b", "quick")], busy, now=NOW) == [Pick(workspace="b", receiver="quick", count=2)]


def test_no_more_is_claimed_than_threads_are_free() -> None:
    many = [place(f"w{number}", f"r{number}") for number in range(100)]
    assert sum(pick.count for pick in picks(many, Counter(), now=NOW)) == THREADS
    busy = Counter({("x", f"x{number}"): 1 for number in range(THREADS - 1)})
    assert [pick.count for pick in picks(many, busy, now=NOW)] == [1]
    busy["x", "last"] = 1
    assert picks(many, busy, now=NOW) == []


def test_workspaces_take_turns_and_each_its_longest_waiting_first() -> None:
    places = [place("a", "a1", -1), place("a", "a2", -9), place("b", "b1", -2), place("c", "c1", -3)]
    assert [pick.receiver for pick in picks(places, Counter(), now=NOW)] == ["a2", "b1", "c1", "a1"]
    assert [pick.receiver for pick in picks(places, Counter(), now=NOW, start=4)] == ["b1", "c1", "a2", "a1"]


def test_what_is_not_due_is_waited_for_and_what_is_due_is_not() -> None:
    places = [place("a", "one", 5), place("a", "two", 3), place("b", "three")]
    assert [pick.receiver for pick in picks(places, Counter(), now=NOW)] == ["three"]
    assert next_due(places, NOW) == NOW + timedelta(seconds=3)
    assert next_due(places[2:], NOW) is None
    assert picks([], Counter(), now=NOW) == []
