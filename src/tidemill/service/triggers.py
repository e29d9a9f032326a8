"""Triggers: listed with their next and last runs, fired by hand."""

import hashlib
from datetime import datetime
from functools import partial

from tidemill.model.errors import Conflict, NotFound
from tidemill.model.ids import ExecutionKey, InputSetKey, new_execution_id, new_key
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.service import executions
from tidemill.service.executions import ExecutionRequest
from tidemill.service.parts import Parts
from tidemill.store import inputs, ticks, triggers, triggers_shown
from tidemill.store.executions import Created, NewExecution
from tidemill.store.triggers_shown import TriggerShown


def find_all(parts: Parts, principal: Principal, job: str) -> list[TriggerShown]:
    """The triggers of a job in the order of its spec. Two statements. Raises NotFound."""
    found = parts.database.read(lambda connection: triggers_shown.find_all(connection, principal.workspace, job))
    if found is None:
        raise NotFound(f"no job {quoted(job)} in workspace {principal.workspace!r}")
    return found


def fire(
    parts: Parts, principal: Principal, job: str, trigger: str, request: ExecutionRequest, *, now: datetime
) -> Created:
    """Start an execution with a trigger's arguments, now, or find the one that the same request made before.

    Of ``request`` its key and its deadline count. Whether the trigger is enabled, of a type that fires by itself, or
    has an execution that runs does not matter; the job must take executions. One unit of about twelve statements;
    another one before it for a trigger whose inputs are not stored yet. Raises NotFound, NotRunnable, Invalid,
    Conflict.
    """
    executions.check_names("", "", request.idempotency_key)
    ms = int(now.timestamp() * 1000)
    execution_id = new_execution_id()
    new = NewExecution(
        key=ExecutionKey(new_key(ms)),
        id=execution_id,
        workspace=principal.workspace,
        job=job,
        request_id=execution_id,
        aliases=executions.aliases(
            execution_id,
            execution_id,
            request.idempotency_key,
            public=executions.public_trigger(principal, trigger),
        ),
        digest=hashlib.sha256(f"fire/{trigger}".encode()).hexdigest(),
        caller=principal.id,
        regions=parts.regions,
        trigger=trigger,
        deadline_at=request.deadline_at(now),
    )
    work = partial(ticks.fire_by_hand, new=new, now=now)
    made = parts.database.write(work)
    if not isinstance(made, Created):
        given = triggers.Given.of(made, InputSetKey(new_key(ms)), inputs.tasks_of(made.tasks))
        parts.database.write(partial(triggers.give_inputs, given=[given], now=now), wakes=False)
        made = parts.database.write(work)
    if not isinstance(made, Created):
        raise Conflict(f"trigger {quoted(trigger)} of job {quoted(job)} was changed meanwhile: send the request again")
    return made
