"""Executions, their tasks and results on the wire (docs/wire.md, Execution)."""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from pydantic import Field

from tidemill.api.wire import Body, Json, Text, json_fault, parse_json, present, render, timestamp, validated
from tidemill.api.wire_protections import had_view
from tidemill.model.errors import Invalid, NotFound
from tidemill.model.execution import Attempt, Execution, Task
from tidemill.model.states import TaskState
from tidemill.service.executions import ONE_TASK, ExecutionRequest, TaskShown
from tidemill.store.executions import Created
from tidemill.store.results import Ended
from tidemill.store.shown import Shown
from tidemill.store.task_names import NAME_PREFIX

_MAX_REST_BYTES: Final = 4 << 20
_TEXT_CHUNK: Final = 1 << 20
# a million tasks have indices of six; far more would not fit the column
_MAX_INDEX_DIGITS: Final = 9
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TASKS: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
_NOT_A_REQUEST: Final = "the body must be a JSON object, and its tasks a list of objects"
_SHOWN_SPEC: Final = frozenset({"parallelism", "timeout", "memoryOverride", "envOverride", "tasks"})
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


class ExecutionBody(Body):
    """All members but ``tasks``, which are never parsed."""

    env: dict[str, str] | None = None
    memory: Annotated[int | None, Field(ge=0, description="a whole number of MB from 0 on; 0 is no wish")] = None
    execution_id: Text = None
    id: Text = None
    allow_queue: bool | None = None
    # informational: the path says which job and workspace are meant
    job_id: Json = None
    workspace_id: Json = None


def execution_request(body: bytes, *, idempotency_key: str, strict: bool) -> ExecutionRequest:
    """What the body asks for; an empty one: one task without arguments. Raises Invalid.

    Splits a million tasks into their bytes without parsing any.
    """
    if not body.strip():
        return ExecutionRequest(idempotency_key=idempotency_key)
    members = _members(body)
    try:
        tasks = _TASKS.decode(members.pop("tasks")) if "tasks" in members else None
    except msgspec.ValidationError:
        raise Invalid(_NOT_A_REQUEST) from None
    rest = b"{" + b",".join(render(name) + b":" + bytes(value) for name, value in members.items()) + b"}"
    if len(rest) > _MAX_REST_BYTES:
        raise Invalid(f"the members beside tasks have {len(rest)} bytes; they may have up to {_MAX_REST_BYTES}")
    parsed = validated(ExecutionBody, parse_json(rest), strict=strict)
    return ExecutionRequest(
        tasks=ONE_TASK if tasks is None else tasks,
        env=parsed.env or {},
        memory_mb=parsed.memory or None,
        id=parsed.execution_id or "",
        request_id=parsed.id or "",
        idempotency_key=idempotency_key,
        allow_queue=parsed.allow_queue is not False,
        extra=parsed.model_extra or {},
    )


def call_request(body: bytes, *, idempotency_key: str, strict: bool) -> ExecutionRequest | None:
    """What the body of a call of a trigger asks for; None for an empty one: the trigger's own arguments.

    With ``tasks`` it is an execution request, else one task's arguments. Raises Invalid.
    """
    if not body.strip():
        return None
    members = _members(body)
    if "tasks" in members:
        return execution_request(body, idempotency_key=idempotency_key, strict=strict)
    return ExecutionRequest(tasks=(msgspec.Raw(body.strip()),), idempotency_key=idempotency_key)


def created_view(created: Created) -> dict[str, Json]:
    """The answer to a new execution. It never repeats tasks: the Python SDK fails on one that is empty."""
    return {
        "executionId": created.id,
        "id": created.request_id,
        "jobId": created.job,
        "workspaceId": created.workspace,
    }


def execution_view(shown: Shown) -> dict[str, Json]:
    """A JobExecution object with some of its tasks."""
    view = execution_frame(shown.execution)
    limits = task_limits(shown.execution)
    view["spec"]["tasks"] = [brief_view(task, limits) for task in shown.tasks]
    return {**view, "tasks": [task_view(task, limits) for task in shown.tasks]}


def brief_view(task: Task, limits: Mapping[str, Json]) -> dict[str, Json]:
    """A task as an execution's spec names it."""
    return {"metadata": {"name": f"{NAME_PREFIX}{task.index}"}, "spec": limits, "status": task.state.value}


def execution_frame(execution: Execution, reruns: Sequence[str] = ()) -> dict[str, Json]:
    """A JobExecution object without its tasks, which are ``spec.tasks`` and ``tasks``, each the last of its object."""
    metadata = {
        "id": execution.id,
        "job": execution.job,
        "workspace": execution.workspace,
        "createdAt": timestamp(execution.created_at),
        "startedAt": timestamp(execution.started_at),
        "completedAt": timestamp(execution.completed_at),
        "updatedAt": timestamp(execution.updated_at),
        "rerunOf": execution.rerun_of or None,  # ours, as the next
        "reruns": list(reruns) or None,
        "trigger": execution.trigger or None,
        "dueAt": timestamp(execution.due_at),
        "deadlineAt": timestamp(execution.deadline_at),
    }
    spec = {name: value for name, value in execution.extra.items() if name not in _SHOWN_SPEC}
    spec |= {
        "parallelism": execution.parallelism,
        "timeout": execution.timeout_s,
        "memoryOverride": execution.memory_override_mb,
        "envOverride": dict.fromkeys(execution.env_names, "***") or None,
    }
    stats = execution.stats
    return {
        "metadata": present(metadata),
        "spec": present(spec),
        "stats": {
            "total": stats.total,
            "running": stats.running,
            "success": stats.succeeded,
            "failure": stats.failed,
            "retried": stats.retried,
            "cancelled": stats.cancelled,
        },
        "status": execution.state.value,
    }


def tasks_view(execution: Execution, tasks: Iterable[Task]) -> list[dict[str, Json]]:
    """JobExecutionTask objects."""
    limits = task_limits(execution)
    return [task_view(task, limits) for task in tasks]


def task_view(task: Task, limits: Mapping[str, Json]) -> dict[str, Json]:
    """A JobExecutionTask object."""
    metadata = {"name": f"{NAME_PREFIX}{task.index}"}
    for name, at in (
        ("createdAt", task.created_at),
        ("startedAt", task.started_at),
        ("completedAt", task.completed_at),
        ("updatedAt", task.updated_at),
    ):
        if (text := timestamp(at)) is not None:
            metadata[name] = text
    return {
        "metadata": metadata,
        "spec": limits,
        "status": task.state.value,
        "attemptCount": task.attempts,  # ours
        "conditions": [] if task.reason is None else [_condition(task)],
    }


def task_detail_view(shown: TaskShown) -> dict[str, Json]:
    """A JobExecutionTask object with the newest of its attempts, oldest of them first (ours)."""
    view = task_view(shown.task, task_limits(shown.execution))
    return {**view, "attempts": [_attempt_view(attempt) for attempt in shown.attempts]}


def parse_task_index(text: str) -> int:
    """The index in ``7`` or ``task-7``. Raises NotFound: there is no task of another name."""
    digits = text.removeprefix(NAME_PREFIX)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_INDEX_DIGITS):
        raise NotFound(f"no task {text[:64]!r}; tasks are named by their index, like 7 or {NAME_PREFIX}7")
    return int(digits)


def result_line(ended: Ended) -> bytes:
    """One line of NDJSON about a task, ended but in a chain's results. Its result is repeated as the task wrote it."""
    task = ended.task
    head = render({"index": task.index, "status": task.state.value})[:-1]
    if ended.execution:
        head += b"," + render({"executionId": ended.execution})[1:-1]
    times = {"startedAt": timestamp(task.started_at), "completedAt": timestamp(task.completed_at)}
    tail: dict[str, Json] = {"attempts": task.attempts, **times}
    # a success has a reason when its result was dropped
    if task.state in {TaskState.FAILED, TaskState.CANCELLED} or task.reason is not None:
        tail["error"] = {"reason": task.reason.value if task.reason is not None else "", "message": task.message}
    return head + b',"result":' + _one_line(ended.result) + b"," + render(tail)[1:] + b"\n"


def parse_task_states(text: str) -> frozenset[TaskState]:
    """A comma list of task states in any case; empty for all. Raises Invalid for an unknown one."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    known = [state.value for state in TaskState]
    for word in words:
        if word not in known:
            raise Invalid(f"status has {word[:64]!r}; it must be of {', '.join(known)}")
    return frozenset(TaskState(word) for word in words)


def _attempt_view(attempt: Attempt) -> dict[str, Json]:
    view = {
        "number": attempt.number,
        "node": attempt.node,
        "outcome": None if attempt.outcome is None else attempt.outcome.value,  # absent while it is live
        "message": attempt.message or None,
        "exitCode": attempt.exit_code,
        "signal": attempt.signal,
        "charged": attempt.charged,
        "peakMemoryBytes": attempt.peak_memory_bytes,
        "cpuSeconds": attempt.cpu_s,
        "protections": had_view(attempt.protections),
        "createdAt": timestamp(attempt.claimed_at),
        "startedAt": timestamp(attempt.started_at),
        "completedAt": timestamp(attempt.ended_at),
    }
    return present(view)


def _condition(task: Task) -> dict[str, Json]:
    reason = task.reason.value if task.reason is not None else ""
    return {
        "type": reason,
        "state": "True",
        "reason": reason,
        "message": task.message,
        "severity": "error" if task.state is TaskState.FAILED else "info",
        "executionReason": "",
    }


def task_limits(execution: Execution) -> dict[str, Json]:
    """A task's spec: its timeout is a duration as text, while the execution's is a number (contract 4.11)."""
    return {"maxRetries": execution.max_retries, "timeout": _duration(execution.timeout_s)}


def _duration(seconds: int) -> str:
    for unit_s, letter in _UNITS:
        if seconds % unit_s == 0:
            return f"{seconds // unit_s}{letter}"
    return f"{seconds}s"


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    """Of a JSON object, as they were sent. Raises Invalid."""
    try:
        _check_text(body)
        return _MEMBERS.decode(body)
    except msgspec.ValidationError:
        raise Invalid(_NOT_A_REQUEST) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {json_fault(error)}") from None


def _one_line(result: bytes | None) -> bytes:
    """A result with its white space between tokens as it is, but on one line: JSON strings hold no bare line ends."""
    return b"null" if result is None else result.replace(b"\r", b" ").replace(b"\n", b" ")


def _check_text(body: bytes) -> None:
    """Raises UnicodeDecodeError unless the body is UTF-8: the parts that are not parsed are not looked at otherwise."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    for first in range(0, len(view), _TEXT_CHUNK):
        decoder.decode(view[first : first + _TEXT_CHUNK])
    decoder.decode(b"", final=True)
