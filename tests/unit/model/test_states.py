from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import pytest

from tidemill.model.states import (
    BUILD_MOVES,
    DELIVERY_MOVES,
    EXECUTION_CLAIMABLE,
    EXECUTION_FINAL,
    EXECUTION_LIVE,
    EXECUTION_MOVES,
    TASK_FINAL,
    TASK_MOVES,
    BuildState,
    DeliveryState,
    ExecutionState,
    TaskState,
    rowless_state,
)

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def reachable(start: State, moves: Mapping[Event, tuple[frozenset[State], State]]) -> set[State]:
    found = {start}
    while more := {to for sources, to in moves.values() if sources & found} - found:
        found |= more
    return found


def test_every_state_can_be_reached_from_the_first_one() -> None:
    assert reachable(TaskState.PENDING, TASK_MOVES) == set(TaskState)
    assert reachable(ExecutionState.QUEUED, EXECUTION_MOVES) == set(ExecutionState)
    assert reachable(BuildState.PENDING, BUILD_MOVES) == set(BuildState)
    assert reachable(DeliveryState.PENDING, DELIVERY_MOVES) == set(DeliveryState)


def test_no_move_leaves_a_final_state() -> None:
    assert all(not sources & TASK_FINAL for sources, _ in TASK_MOVES.values())
    assert all(not sources & EXECUTION_FINAL for sources, _ in EXECUTION_MOVES.values())


def test_an_execution_is_either_live_or_final() -> None:
    assert set(ExecutionState) == EXECUTION_LIVE | EXECUTION_FINAL
    assert not EXECUTION_LIVE & EXECUTION_FINAL
    assert EXECUTION_CLAIMABLE < EXECUTION_LIVE


@pytest.mark.parametrize("state", list(ExecutionState))
def test_a_task_without_a_row_reads_pending_while_it_may_still_be_claimed_and_cancelled_from_then_on(
    state: ExecutionState,
) -> None:
    open_states = {ExecutionState.QUEUED, ExecutionState.PENDING, ExecutionState.RUNNING}
    assert rowless_state(state) is (TaskState.PENDING if state in open_states else TaskState.CANCELLED)
