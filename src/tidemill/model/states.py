"""States, events and moves of tasks, executions, builds, deliveries and jobs, written once.

docs/states.md and the CHECK constraints of the schema are compared with these tables by a test.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """Of a task that has a row. A task without a row reads by ``rowless_state``."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskEvent(StrEnum):
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    LOSE = "lose"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"


_P, _R = TaskState.PENDING, TaskState.RUNNING

TASK_MOVES: Final[Mapping[TaskEvent, tuple[frozenset[TaskState], TaskState]]] = {
    TaskEvent.CLAIM: (frozenset({_P}), _R),
    TaskEvent.SUCCEED: (frozenset({_R}), TaskState.SUCCEEDED),
    TaskEvent.FAIL: (frozenset({_R}), TaskState.FAILED),
    TaskEvent.RETRY: (frozenset({_R}), _P),
    TaskEvent.LOSE: (frozenset({_R}), _P),
    TaskEvent.WITHDRAW: (frozenset({_R}), _P),
    TaskEvent.CANCEL: (frozenset({_P, _R}), TaskState.CANCELLED),
}
TASK_FINAL: Final = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})


class ExecutionState(StrEnum):
    QUEUED = "queued"
    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ExecutionEvent(StrEnum):
    PROMOTE = "promote"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    CANCELLED = "cancelled"
    TIME_OUT = "time_out"
    TIMED_OUT = "timed_out"


_X = ExecutionState
_OPEN: Final = frozenset({_X.QUEUED, _X.PENDING, _X.RUNNING})

EXECUTION_MOVES: Final[Mapping[ExecutionEvent, tuple[frozenset[ExecutionState], ExecutionState]]] = {
    ExecutionEvent.PROMOTE: (frozenset({_X.QUEUED}), _X.PENDING),
    ExecutionEvent.START: (frozenset({_X.PENDING}), _X.RUNNING),
    ExecutionEvent.SUCCEED: (frozenset({_X.RUNNING}), _X.SUCCEEDED),
    ExecutionEvent.FAIL: (frozenset({_X.RUNNING}), _X.FAILED),
    ExecutionEvent.CANCEL: (_OPEN, _X.CANCELLING),
    ExecutionEvent.CANCELLED: (frozenset({_X.CANCELLING}), _X.CANCELLED),
    # its deadline has come: ended as by a cancel with force, but the caller had asked for more
    ExecutionEvent.TIME_OUT: (_OPEN, _X.CANCELLING),
    ExecutionEvent.TIMED_OUT: (frozenset({_X.CANCELLING}), _X.FAILED),
}
EXECUTION_FINAL: Final = frozenset({_X.SUCCEEDED, _X.FAILED, _X.CANCELLED})
EXECUTION_CLAIMABLE: Final = frozenset({_X.PENDING, _X.RUNNING})
EXECUTION_LIVE: Final = _OPEN | {_X.CANCELLING}


class BuildState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class BuildEvent(StrEnum):
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    LOSE = "lose"
    WITHDRAW = "withdraw"
    DROP = "drop"


_B = BuildState

BUILD_MOVES: Final[Mapping[BuildEvent, tuple[frozenset[BuildState], BuildState]]] = {
    BuildEvent.CLAIM: (frozenset({_B.PENDING}), _B.RUNNING),
    BuildEvent.SUCCEED: (frozenset({_B.RUNNING}), _B.SUCCEEDED),
    BuildEvent.FAIL: (frozenset({_B.RUNNING}), _B.FAILED),
    BuildEvent.LOSE: (frozenset({_B.RUNNING}), _B.PENDING),
    BuildEvent.WITHDRAW: (frozenset({_B.RUNNING}), _B.PENDING),
    BuildEvent.DROP: (frozenset({_B.PENDING, _B.RUNNING}), _B.FAILED),  # a newer upload took its place
}


class DeliveryState(StrEnum):
    """Of a callback that is to be delivered, or was."""

    PENDING = "pending"
    DELIVERED = "delivered"
    PARKED = "parked"


class DeliveryEvent(StrEnum):
    RETRY = "retry"
    DELIVER = "deliver"
    PARK = "park"
    REPLAY = "replay"


_D = DeliveryState

DELIVERY_MOVES: Final[Mapping[DeliveryEvent, tuple[frozenset[DeliveryState], DeliveryState]]] = {
    DeliveryEvent.RETRY: (frozenset({_D.PENDING}), _D.PENDING),
    DeliveryEvent.DELIVER: (frozenset({_D.PENDING}), _D.DELIVERED),
    DeliveryEvent.PARK: (frozenset({_D.PENDING}), _D.PARKED),  # all tries are spent: a person must look
    DeliveryEvent.REPLAY: (frozenset({_D.PENDING, _D.DELIVERED, _D.PARKED}), _D.PENDING),
}


class JobState(StrEnum):
    """Values are those of the wire (docs/wire.md, Job)."""

    UPLOADING = "UPLOADING"
    BUILDING = "BUILDING"
    DEPLOYING = "DEPLOYING"
    DEPLOYED = "DEPLOYED"
    FAILED = "FAILED"
    DEACTIVATING = "DEACTIVATING"
    DEACTIVATED = "DEACTIVATED"
    DELETING = "DELETING"
    TERMINATED = "TERMINATED"


def rowless_state(execution: ExecutionState) -> TaskState:
    """What a task without a row, or with a pending one, reads as: pending while its execution may still claim it."""
    return TaskState.PENDING if execution in _OPEN else TaskState.CANCELLED
