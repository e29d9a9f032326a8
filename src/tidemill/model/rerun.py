"""What a rerun selects of its origin's tasks, and with what they run again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tidemill.model.execution import Reason
from tidemill.model.states import TaskState

SAME: Final = "same"
LATEST: Final = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Tasks that satisfy all members; an empty member is no wish. ``indices`` are (first, last), both included."""

    states: frozenset[TaskState] = frozenset()
    exit_codes: frozenset[int] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    indices: tuple[tuple[int, int], ...] = ()


FAILED: Final = Selection(states=frozenset({TaskState.FAILED}))
NOT_SUCCEEDED: Final = Selection(states=frozenset({TaskState.FAILED, TaskState.CANCELLED}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunRequest:
    """What a request for a rerun asks. ``revision`` is ``same`` (the origin's), ``latest``, or the id of a kept one.

    Empty ``id``, ``request_id`` and ``idempotency_key`` are no wish.
    """

    select: Selection = FAILED
    revision: str = SAME
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory_mb: int | None = None
    timeout_s: int | None = None
    id: str = ""
    request_id: str = ""
    idempotency_key: str = ""
    allow_queue: bool = True
    extra: Mapping[str, object] = field(default_factory=dict)


def merged(indices: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(first, last) in order, without overlap: those that touch become one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(indices):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)
