"""Executions, tasks and attempts as their users see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from tidemill.model.ids import ExecutionKey, InputSetKey, JobKey, NodeId
from tidemill.model.lease import OutcomeKind
from tidemill.model.protections import Had
from tidemill.model.states import ExecutionState, TaskState

LOST_ALONE_AFTER: Final = 2
LOST_LIMIT: Final = 5


class Reason(StrEnum):
    """Why a task is as it is: the conditions of the wire."""

    EXIT_CODE = "ExitCode"
    SIGNAL = "Signal"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMEOUT = "Timeout"
    CANCELLED = "Cancelled"
    LAUNCH_ERROR = "LaunchError"
    NODE_LOST = "NodeLost"
    RESULT_REJECTED = "ResultRejected"
    RETRYING = "Retrying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of an execution's tasks; ``retried`` counts charged retries started, the others partition ``total``."""

    total: int
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    retried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of one revision. ``env_names`` are the names of its own variables; their values are sealed.

    Tasks from position ``next_index`` on have no row yet. Of a rerun ``origin`` is the execution whose tasks it runs
    again, None else, and ``rerun_of`` that one's id, empty when it is kept no more; ``chain`` is the first of them all.
    ``region`` is the one whose nodes run its tasks, empty for any. ``extra`` keeps members of the request that we do
    not act on. ``trigger`` is the id of the trigger that started it, empty for a request, and ``due_at`` when that was
    due, None when it was fired by hand or called. At ``deadline_at`` it is ended, None for never; ``timed_out`` says
    that it was.
    """

    key: ExecutionKey
    id: str
    job: str
    job_key: JobKey
    workspace: str
    revision: str
    state: ExecutionState
    stats: Stats
    input_set: InputSetKey
    request_id: str
    parallelism: int
    memory_mb: int
    memory_override_mb: int | None
    region: str
    timeout_s: int
    max_retries: int
    env_names: tuple[str, ...]
    extra: Mapping[str, object]
    next_index: int
    origin: ExecutionKey | None
    chain: ExecutionKey
    rerun_of: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
    trigger: str = ""
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    timed_out: bool = False

    @property
    def cut_short(self) -> "CutShort":
        """Why those of its tasks that never ran, or were to be tried again, are cancelled once it has ended."""
        if not self.timed_out or self.deadline_at is None:
            return CutShort(Reason.CANCELLED, "the execution was cancelled")
        allowed_s = (self.deadline_at - self.created_at).total_seconds()
        return CutShort(Reason.TIMEOUT, f"the execution ran out of its {allowed_s:g} s")


class CutShort(NamedTuple):
    reason: Reason
    said: str


# not frozen: that would take three times as long to make, and an answer may show a thousand
@dataclass(slots=True, kw_only=True)
class Task:
    """One unit of an execution. ``attempts`` counts all tries so far, lost ones too; 0 for one that has no row yet."""

    index: int
    state: TaskState
    attempts: int
    reason: Reason | None
    message: str
    exit_code: int | None
    signal: int | None
    has_result: bool
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Tasks of an execution that failed for one reason: how many, and how the first of them, by index, ended.

    ``more``: there are too many to count, ``count`` and more.
    """

    reason: str
    count: int
    more: bool
    first_index: int
    message: str
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a task. ``outcome`` and ``ended_at`` are None while it is live, ``started_at`` until its process runs.

    ``charged`` says that it counts against maxRetries. What a node could not measure is None, and so is what it ran
    with, ``protections``, if it did not or nobody said.
    """

    number: int
    node: NodeId
    outcome: OutcomeKind | None
    message: str
    exit_code: int | None
    signal: int | None
    charged: bool
    peak_memory_bytes: int | None
    cpu_s: float | None
    protections: Had | None
    claimed_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
