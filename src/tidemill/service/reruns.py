"""Reruns: what failed is run again in an execution of its own, over the same inputs."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from tidemill.model.errors import Conflict, Invalid
from tidemill.model.execution import Execution
from tidemill.model.ids import ExecutionKey, new_execution_id, new_key
from tidemill.model.job import MAX_TIMEOUT_S
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.model.rerun import RerunRequest, Selection
from tidemill.secrets import KeyRingError
from tidemill.service import executions as service
from tidemill.service.parts import Parts
from tidemill.store import executions, ranges, reruns
from tidemill.store.executions import Created, NewExecution
from tidemill.store.ranges import Range
from tidemill.store.reruns import NewRerun

# about 200 KiB with their indices, far below the 4 MiB of a unit
UNIT_RANGES: Final = 4_000


def create(
    parts: Parts, principal: Principal, job: str, execution: str, request: RerunRequest, *, now: datetime
) -> Created:
    """Run selected tasks of an execution again, or find the rerun that the same request made; durable on return.

    Reads the origin in pages of 20,000 tasks, outside of any unit, for it has ended. More than 4,000 ranges go before
    the last unit in units of their own. Raises NotFound, NotRunnable, Invalid, OverQuota, Conflict.
    """
    service.check_names(request.id, request.request_id, request.idempotency_key)
    service.check_env(request.env)
    if request.timeout_s is not None and not 1 <= request.timeout_s <= MAX_TIMEOUT_S:
        raise Invalid(f"timeout is {quoted(request.timeout_s)}; it must be 1 to {MAX_TIMEOUT_S} (seconds)")
    origin = service.find(parts, principal, job, execution)
    key = ExecutionKey(new_key(int(now.timestamp() * 1000)))
    new = _new(parts, principal, origin, key, request)
    again = parts.database.read(lambda connection: executions.repeated(connection, new))
    if again is not None:
        return again
    reruns.check_ended(origin)
    parts.database.read(
        lambda connection: reruns.runnable(connection, principal.workspace, origin.job, request.revision)
    )
    _check_indices(parts, origin, request.select)
    total, last = _store_ranges(parts, key, ranges.number(_selected(parts, origin, request.select)))
    if not total:
        raise Invalid(f"select names no task of execution {origin.id}, which has {_counts(origin)}")
    rerun = NewRerun(new=new, origin=origin.key, revision=request.revision, timeout_s=request.timeout_s, total=total)
    return parts.database.write(lambda connection: reruns.create(connection, rerun, last, now=now))


def _selected(parts: Parts, origin: Execution, selection: Selection) -> Iterator[tuple[int, int]]:
    """(first index, count) in order, read in pages: no reader is held between two of them."""
    for read in (reruns.selected_rows, reruns.selected_rowless):
        first, end = (0, origin.next_index) if read is reruns.selected_rows else (origin.next_index, origin.stats.total)
        for low in range(first, end, reruns.PAGE_TASKS):
            page = partial(read, origin=origin, selection=selection, low=low, high=min(low + reruns.PAGE_TASKS, end))
            yield from parts.database.read(page)


def _store_ranges(parts: Parts, key: ExecutionKey, found: Iterable[Range]) -> tuple[int, Sequence[Range]]:
    """How many tasks there are, and the ranges left for the unit that makes the execution: all, or none."""
    total, held, written = 0, list[Range](), False
    for one in found:
        if len(held) == UNIT_RANGES:
            _write(parts, key, held)
            held, written = [], True
        held.append(one)
        total += one.count
    if written:
        _write(parts, key, held)
        return total, ()
    return total, held


def _write(parts: Parts, key: ExecutionKey, group: Sequence[Range]) -> None:
    parts.database.write(partial(ranges.add, execution=key, ranges=group), wakes=False)


def _new(
    parts: Parts, principal: Principal, origin: Execution, key: ExecutionKey, request: RerunRequest
) -> NewExecution:
    execution_id = request.id or new_execution_id()
    request_id = request.request_id or str(uuid.uuid4())
    env = {**_env(parts, origin), **request.env}
    service.check_env(env)
    return NewExecution(
        key=key,
        id=execution_id,
        workspace=principal.workspace,
        job=origin.job,
        request_id=request_id,
        aliases=service.aliases(execution_id, request_id, request.idempotency_key),
        digest=_digest(parts, origin, request),
        env_names=tuple(sorted(env)),
        env_sealed=parts.keyring.seal(json.dumps(env), f"execution/{key}") if env else "",
        memory_mb=request.memory_mb,
        allow_queue=request.allow_queue,
        caller=principal.id,
        extra=request.extra,
    )


def _env(parts: Parts, origin: Execution) -> dict[str, str]:
    """The origin's own variables. Raises Conflict when the key ring no longer opens them."""
    sealed = parts.database.read(lambda connection: reruns.sealed_env(connection, origin.key))
    if not sealed:
        return {}
    try:
        found: dict[str, str] = json.loads(parts.keyring.open(sealed, f"execution/{origin.key}"))
    except KeyRingError:
        raise Conflict(f"the env of execution {origin.id} cannot be opened with this server's key ring") from None
    return found


def _digest(parts: Parts, origin: Execution, request: RerunRequest) -> str:
    """Of the request's content, keyed as that of a new execution is; never equal to one of those."""
    select = request.select
    content = {
        "rerun": origin.key,
        "states": sorted(select.states),
        "exitCodes": sorted(select.exit_codes),
        "reasons": sorted(select.reasons),
        "indices": select.indices,
        "revision": request.revision,
        "env": dict(request.env),
        "memory": request.memory_mb,
        "timeout": request.timeout_s,
        "allowQueue": request.allow_queue,
        "extra": dict(request.extra),
    }
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    return parts.keyring.mac("request", found.digest()).hex()


def _check_indices(parts: Parts, origin: Execution, selection: Selection) -> None:
    if not selection.indices:
        return
    total = service.count_inputs(parts, origin)
    last = selection.indices[-1][1]
    if last >= total:
        raise Invalid(f"select.indices has {last}; the tasks of execution {origin.id} are of 0 to {total - 1}")


def _counts(origin: Execution) -> str:
    stats = origin.stats
    counted = ((stats.succeeded, "succeeded"), (stats.failed, "failed"), (stats.cancelled, "cancelled"))
    return ", ".join(f"{count} {word}" for count, word in counted) + " tasks"
