"""The words that explanations are put together from. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tidemill.model.execution import LOST_ALONE_AFTER, Execution, Failure, Task
from tidemill.model.ids import OwnerKind
from tidemill.model.obstacle import Obstacle, Occupant, Why

HOLDERS_SHOWN: Final = 10
_NAMED: Final = 3
_SHOWN_MESSAGE: Final = 200


def because(found: Obstacle, execution: Execution, looked_at: datetime | None) -> str:
    """Why a task cannot be claimed, to be put behind "because"."""
    if found.why in _PLATFORM:
        return _platform(found, looked_at)
    limit, used = found.limit or 0, found.used or 0
    match found.why:
        case Why.TOO_BIG:
            return f"it needs {used} MB and the biggest node, {found.node}, has {limit}: it can never run like that"
        case Why.EXECUTION_TASKS:
            runs = count(used - found.kept, "task of the execution runs", "tasks of the execution run")
            return f"{runs} and maxConcurrentTasks is {limit}{_kept(found)}"
        case Why.WORKSPACE_TASKS:
            runs = count(used - found.kept, "task", "tasks")
            return f"workspace {execution.workspace!r} runs {runs} and may run {limit} at once{_kept(found)}"
        case _:
            return _node(found, execution)


def _node(found: Obstacle, execution: Execution) -> str:
    """What keeps the task from the likeliest node."""
    limit, used, node = found.limit or 0, found.used or 0, found.node
    match found.why:
        case Why.NODE_SLOTS:
            return f"all {limit} slots of node {node} are taken"
        case Why.NODE_MEMORY:
            return f"it needs {execution.memory_mb} MB and node {node} has {limit - used} of {limit} MB left"
        case Why.NODE_CLEARED:
            return f"node {node} is kept clear for {favoured(found, execution)}, which others have overtaken for long"
        case Why.NODE_TAKEN_ALONE:
            return f"a task that was lost before runs alone on node {node}"
        case _:
            lost = f"it was lost {LOST_ALONE_AFTER} times in a row or more and runs alone now"
            return f"{lost}, while node {node} still runs {used} other{'s' * (used != 1)}"


_PLATFORM: Final = frozenset(
    {
        *(Why.CLAIMS_STOPPED, Why.SCHEDULER_SILENT),
        *(Why.NO_NODE, Why.NO_NODE_IN_REGION, Why.NODE_DRAINS, Why.NODE_UNAVAILABLE),
    }
)


def _platform(found: Obstacle, looked_at: datetime | None) -> str:
    """What is no cap and nobody's work: the platform itself."""
    match found.why:
        case Why.CLAIMS_STOPPED:
            return f"nothing is started now: {found.message}"
        case Why.SCHEDULER_SILENT:
            return "the scheduler does not run" + (f": it last looked at {time(looked_at)}" if looked_at else " yet")
        case Why.NO_NODE:
            return "there is no node" + (f": {found.message}" if found.message else " yet")
        case Why.NO_NODE_IN_REGION:
            return found.message
        case Why.NODE_DRAINS:
            return f"node {found.node} drains: it takes nothing new and is replaced when what it runs has ended"
        case _:
            return f"node {found.node} is given nothing now: {found.message}"


def _kept(found: Obstacle) -> str:
    return f", {count(found.kept, 'place', 'places')} of that kept for what others have overtaken" if found.kept else ""


def favoured(found: Obstacle, execution: Execution) -> str:
    """The id of whoever the node is cleared for; never one of another workspace."""
    one = found.favoured
    if one is None or one.workspace != execution.workspace:
        return "something of another workspace" if one is not None else "something else"
    if one.waiter.kind is OwnerKind.BUILD:
        return f"build/{one.of}"
    return one.of if one.waiter.index is None else f"{one.of}/{one.waiter.index}"


def holders(found: Sequence[Occupant], execution: Execution) -> tuple[str, ...]:
    """Whose attempts hold something, biggest first: ids of executions and ``build/JOB``, of the same workspace only."""
    memory: dict[str, int] = {}
    for one in found:
        if one.workspace == execution.workspace:
            name = one.of if one.attempt.kind is OwnerKind.TASK else f"build/{one.of}"
            memory[name] = memory.get(name, 0) + one.memory_mb
    return tuple(sorted(memory, key=lambda name: (-memory[name], name)))[:HOLDERS_SHOWN]


def own_tasks(execution: Execution, own: Sequence[Occupant]) -> tuple[str, ...]:
    """The execution's own running tasks, ``ID/INDEX``, by index."""
    indices = sorted(one.attempt.index for one in own)
    return tuple(f"{execution.id}/{index}" for index in indices[:HOLDERS_SHOWN])


def held(names: Sequence[str], *, others: bool) -> str:
    """Who holds it, to be put behind the cap; ``others``: things of other workspaces too, which are never named."""
    shown = [*names[:_NAMED], *([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])]
    shown += ["tasks of other workspaces"] if others else []
    return f", held by {listed(shown)}" if shown else ""


def failure(one: Failure) -> str:
    """So many, for what reason, and what the first of them said."""
    said = f" ({brief(one.message)})" if one.message else ""
    number = f"more than {one.count}" if one.more else str(one.count)
    return f"{number} with {one.reason}, first task {one.first_index}{said}"


def end(task: Task) -> str:
    """The condition of a task that failed, with what its process left."""
    reason = task.reason.value if task.reason is not None else "no reason on record"
    left = "" if task.exit_code is None else f" {task.exit_code}"
    left = f" {task.signal}" if task.signal is not None else left
    return f"{reason}{left}" + (f", {brief(task.message)}" if task.message else "")


def brief(message: str) -> str:
    """A message on one line, cut where it would drown the sentence."""
    line = " ".join(message.split())
    return line if len(line) <= _SHOWN_MESSAGE else f"{line[: _SHOWN_MESSAGE - 1]}…"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def count(number: int, one: str, many: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {one if number == 1 else many}"


def time(at: datetime | None) -> str:
    """A moment as people read it, in UTC and to the second."""
    return "an unknown time" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
