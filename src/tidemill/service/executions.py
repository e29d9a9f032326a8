"""Executions: made, found, listed, cancelled; their tasks and results."""

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from tidemill.model.errors import Invalid, TooLarge
from tidemill.model.execution import Attempt, Execution, Task
from tidemill.model.ids import (
    EXECUTION_ID,
    ExecutionKey,
    InputSetKey,
    new_execution_id,
    new_key,
)
from tidemill.model.principal import Principal, PrincipalKind
from tidemill.model.quoted import quoted
from tidemill.service.parts import Limits, Parts
from tidemill.service.specs import check_size, check_variable
from tidemill.store import attempts, executions, inputs, ledger, reruns, results, shown, tasks, ticks
from tidemill.store.executions import Created, ExecutionPage, History, NewExecution
from tidemill.store.inputs import Chunk, NewInputs
from tidemill.store.results import ResultPage
from tidemill.store.shown import Extent, Opened, Shown, nothing_known
from tidemill.store.task_pages import TaskPage

TASKS_SHOWN: Final = 1_000
TASKS_SHOWN_IN_LISTS: Final = 100
RERUNS_SHOWN: Final = 20
ATTEMPTS_SHOWN: Final = 200
ONE_TASK: Final = (msgspec.Raw(b"{}"),)

# a unit of work writes at most 4 MiB; a chunk has at most 2 of them
_UNIT_BYTES: Final = 2 << 20
# compressed in less time than a look at the job would take
_SMALL_BYTES: Final = 64 << 10
_BRACE: Final = ord("{")
MAX_ENV: Final = 1_000
MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """What a request asks for. ``tasks`` are JSON values as sent; ``extra`` are members that we do not know.

    Empty ``id``, ``request_id`` and ``idempotency_key`` are no wish. ``trigger`` is the job's that asks, if one does;
    ``deadline_s`` is how long the execution may take in all, None for as long as it likes.
    """

    tasks: Sequence[msgspec.Raw] = field(default=ONE_TASK, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory_mb: int | None = None
    id: str = ""
    request_id: str = ""
    idempotency_key: str = ""
    allow_queue: bool = True
    trigger: str = ""
    deadline_s: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def deadline_at(self, now: datetime) -> datetime | None:
        return None if self.deadline_s is None else now + timedelta(seconds=self.deadline_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShown:
    """A task, its execution, and the newest of its attempts in order."""

    execution: Execution
    task: Task
    attempts: Sequence[Attempt]


def create(parts: Parts, principal: Principal, job: str, request: ExecutionRequest, *, now: datetime) -> Created:
    """Make an execution, or find the one that the same request made before; durable on return.

    One unit of eight statements, eleven where a trigger asks. Arguments of more than 64 KiB are looked up first, in two
    statements; of these, what has over 2 MiB compressed goes before it in units of its own. Raises NotFound,
    NotRunnable, Invalid, TooLarge, OverQuota, Conflict.
    """
    size_bytes = _checked(request, parts.limits)
    key = ExecutionKey(new_key(_ms(now)))
    new = _new(parts, principal, job, key, request, now)
    if size_bytes > _SMALL_BYTES:
        # what most refused or repeated requests need is read first: their inputs are not compressed in vain
        again = parts.database.read(lambda connection: executions.look_ahead(connection, new))
        if again is not None:
            return again
    stored = NewInputs(
        key=InputSetKey(new_key(_ms(now))),
        workspace=principal.workspace,
        total=len(request.tasks),
        size_bytes=size_bytes,
    )
    last = _store_inputs(parts, stored, inputs.encode(request.tasks), now)
    create = ticks.call if request.trigger else executions.create
    return parts.database.write(lambda connection: create(connection, new, stored, last, now=now))


def find(parts: Parts, principal: Principal, job: str | None, execution: str) -> Execution:
    """An execution by its id or a unique prefix, of the named job or of any. Four statements at most.

    Raises NotFound, Invalid for several.
    """
    return parts.database.read(lambda connection: executions.find(connection, principal.workspace, execution, job))


def get(
    parts: Parts,
    principal: Principal,
    job: str | None,
    execution: str,
    known: Callable[[ExecutionKey], int] = nothing_known,
) -> Opened:
    """An execution with its first 1,000 tasks, but those ``known``, and 20 reruns. See ``store.shown.find``."""
    extent = Extent(tasks=TASKS_SHOWN, reruns=RERUNS_SHOWN, known=known)
    return parts.database.read(lambda connection: shown.find(connection, principal.workspace, execution, job, extent))


def find_page(parts: Parts, page: ExecutionPage) -> list[Shown]:
    """Executions of a job with their first 100 tasks each. See ``store.shown.find_page``."""
    return parts.database.read(lambda connection: shown.find_page(connection, page, tasks_shown=TASKS_SHOWN_IN_LISTS))


def history(parts: Parts, principal: Principal, job: str) -> History:
    """Whose executions a path means, and how many there are. Two statements at most. Raises NotFound."""
    return parts.database.read(lambda connection: executions.history(connection, principal.workspace, job))


def find_tasks(parts: Parts, principal: Principal, job: str, execution: str, page: TaskPage) -> Shown:
    """An execution with a page of its tasks. See ``store.shown.find_tasks``."""
    return parts.database.read(
        lambda connection: shown.find_tasks(connection, principal.workspace, execution, job, page)
    )


def get_task(parts: Parts, principal: Principal, job: str | None, execution: str, index: int) -> TaskShown:
    """A task with the newest 200 of its attempts. Eight statements at most.

    Raises NotFound, Invalid for several executions.
    """

    found = find(parts, principal, job, execution)
    task, tried = parts.database.read(
        lambda connection: (
            tasks.find(connection, found, index),
            attempts.find_newest(connection, found.key, index, ATTEMPTS_SHOWN),
        )
    )
    return TaskShown(execution=found, task=task, attempts=tried)


def read_results(parts: Parts, execution: ExecutionKey, first: int, *, stop_at_open: bool) -> ResultPage:
    """A page of results of an execution as it is now. See ``store.results.read_page``."""
    return parts.database.read(
        lambda connection: results.read_page(connection, execution, first, stop_at_open=stop_at_open)
    )


def read_chain(parts: Parts, chain: ExecutionKey, first: int) -> ResultPage:
    """A page of results over a chain of reruns as it is now. See ``store.results.read_chain``."""
    return parts.database.read(lambda connection: results.read_chain(connection, chain, first))


def count_inputs(parts: Parts, execution: Execution) -> int:
    """How many tasks the first execution of a chain has. One statement."""
    return parts.database.read(lambda connection: reruns.input_total(connection, execution.input_set))


def cancel(parts: Parts, principal: Principal, job: str, execution: str, *, force: bool, now: datetime) -> Opened:
    """No new task starts; with ``force`` running ones are ended. One that has ended is left alone.

    One unit of six statements at most, and seven reads. Raises NotFound, Invalid for several.
    """
    found = find(parts, principal, job, execution)
    parts.database.write(lambda connection: ledger.cancel_execution(connection, found.key, force=force, now=now))
    return get(parts, principal, job, found.id)


def _checked(request: ExecutionRequest, limits: Limits) -> int:
    """The size of all arguments in bytes. Raises Invalid, TooLarge naming the member, its value and the limit."""
    total = len(request.tasks)
    if not 1 <= total <= limits.tasks:
        raise Invalid(f"tasks has {total} elements; one execution takes 1 to {limits.tasks}")
    size_bytes = 0
    for index, task in enumerate(request.tasks):
        view = memoryview(task)
        if view[0] != _BRACE:
            raise Invalid(f"tasks[{index}] is not a JSON object; each task is an object of arguments")
        if view.nbytes > limits.task_bytes:
            raise TooLarge(f"tasks[{index}] has {view.nbytes} bytes; one task takes up to {limits.task_bytes}")
        size_bytes += view.nbytes
    check_names(request.id, request.request_id, request.idempotency_key)
    check_env(request.env)
    return size_bytes


def check_names(execution_id: str, request_id: str, idempotency_key: str) -> None:
    """What a request calls itself; empty for no wish. Raises Invalid."""
    if execution_id and EXECUTION_ID.fullmatch(execution_id) is None:
        raise Invalid(f"executionId is {quoted(execution_id)}; it must have 8 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
    for name, value in (("id", request_id), ("Idempotency-Key", idempotency_key)):
        if len(value) > MAX_NAME:
            raise Invalid(f"{name} is {quoted(value)}, of {len(value)} characters; it may have up to {MAX_NAME}")
        if "\0" in value:
            # SQLite's JSON, in which names are looked up, ends a text there: a name would not be found again
            raise Invalid(f"{name} is {quoted(value)}; it may have no NUL character")


def check_env(env: Mapping[str, str]) -> None:
    """An execution's own variables. Raises Invalid."""
    check_size("env", env.items())
    if len(env) > MAX_ENV:
        raise Invalid(f"env has {len(env)} variables; it may have up to {MAX_ENV}")
    for name, value in env.items():
        check_variable("a name in env", f"env.{name[:64]}", name, value)


def aliases(execution_id: str, request_id: str, idempotency_key: str, *, public: str = "") -> tuple[str, ...]:
    """The names under which a request may come again, of four kinds: an id of one never stands for another's.

    ``public`` is the trigger that a stranger calls: their keys are apart from each other trigger's and from everybody
    else's.
    """
    key = (f"key:{idempotency_key}",) if idempotency_key else ()
    if key and public:
        # as long whatever was sent: the column holds 256 characters
        key = (f"public:{public}:{hashlib.sha256(idempotency_key.encode()).hexdigest()}",)
    return (f"execution:{execution_id}", f"request:{request_id}", *key)


def public_trigger(principal: Principal, trigger: str) -> str:
    """The trigger when it is a stranger who calls it, empty else: what ``aliases`` wants to know."""
    return trigger if principal.kind is PrincipalKind.PUBLIC else ""


def _new(
    parts: Parts, principal: Principal, job: str, key: ExecutionKey, request: ExecutionRequest, now: datetime
) -> NewExecution:
    execution_id = request.id or new_execution_id()
    request_id = request.request_id or str(uuid.uuid4())
    sealed = ""
    if request.env:
        sealed = parts.keyring.seal(json.dumps(dict(request.env)), f"execution/{key}")
    return NewExecution(
        key=key,
        id=execution_id,
        workspace=principal.workspace,
        job=job,
        request_id=request_id,
        aliases=aliases(
            execution_id,
            request_id,
            request.idempotency_key,
            public=public_trigger(principal, request.trigger),
        ),
        digest=_digest(request, parts),
        env_names=tuple(sorted(request.env)),
        env_sealed=sealed,
        memory_mb=request.memory_mb,
        allow_queue=request.allow_queue,
        caller=principal.id,
        trigger=request.trigger,
        deadline_at=request.deadline_at(now),
        regions=parts.regions,
        extra=request.extra,
    )


def _digest(request: ExecutionRequest, parts: Parts) -> str:
    """Of the request's content: equal for the same members and the same bytes of each task.

    Keyed, since it covers the values of ``env``, which nobody may guess at from the database.
    """
    content = {
        "env": dict(request.env),
        "memory": request.memory_mb,
        "allowQueue": request.allow_queue,
        "extra": dict(request.extra),
        # absent where no trigger asks: what was sent before there were any is known by the same digest
        **({"trigger": request.trigger} if request.trigger else {}),
    }
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for first in range(0, len(request.tasks), inputs.CHUNK_TASKS):
        # objects between commas read one way only
        found.update(b"," + b",".join(request.tasks[first : first + inputs.CHUNK_TASKS]))
    return parts.keyring.mac("request", found.digest()).hex()


def _store_inputs(parts: Parts, stored: NewInputs, chunks: Iterable[Chunk], now: datetime) -> Sequence[Chunk]:
    """Write what does not fit into the unit that makes the execution. What is left for that unit: all, or nothing."""
    groups = _groups(chunks)
    first = next(groups)
    second = next(groups, None)
    if second is None:
        return first
    parts.database.write(lambda connection: inputs.add(connection, stored, first, now=now), wakes=False)
    for group in itertools.chain([second], groups):
        parts.database.write(partial(inputs.add_chunks, key=stored.key, chunks=group), wakes=False)
    return ()


def _groups(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    group, size = list[Chunk](), 0
    for chunk in chunks:
        if group and size + len(chunk.data) > _UNIT_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += len(chunk.data)
    yield group


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
