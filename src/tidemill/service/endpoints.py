"""Triggers that are called: found by the path of a request, and called with its arguments."""

from dataclasses import replace
from datetime import datetime

from tidemill.model.errors import Forbidden, NotFound, NotRunnable
from tidemill.model.execution import Execution
from tidemill.model.principal import Principal, PrincipalKind, Role
from tidemill.model.quoted import quoted
from tidemill.model.trigger import DEFAULT_DEADLINE_S, TriggerType, normal_path
from tidemill.service import executions, triggers
from tidemill.service.executions import ExecutionRequest
from tidemill.service.parts import Parts
from tidemill.store import endpoints
from tidemill.store import executions as store
from tidemill.store.endpoints import Endpoint
from tidemill.store.executions import Created


def find(parts: Parts, workspace: str, job: str, path: str, kind: TriggerType) -> Endpoint:
    """The trigger of ``kind`` at ``path`` (decoded) of a job. One statement. Raises NotFound."""
    wanted = normal_path(path, encoded=False)
    found = parts.database.read(lambda connection: endpoints.find(connection, workspace, job, wanted))
    one = next((each for each in found if each.type is kind), None)
    if one is None:
        hint = ""
        if found:
            flag = "without async" if kind is TriggerType.HTTP_ASYNC else "with ?async=true"
            hint = f"; there is one of type {found[0].type.value}: send the request {flag}"
        raise NotFound(f"no {kind.value} trigger at {quoted(wanted)} of a job {quoted(job)} in {workspace!r}{hint}")
    return one


def stranger(workspace: str, endpoint: Endpoint) -> Principal:
    """Whoever calls a public trigger: nobody that is known, and nothing else may be done as them."""
    return Principal(
        id=f"trigger/{endpoint.trigger}"[:64],
        workspace=workspace,
        role=Role.MEMBER,
        kind=PrincipalKind.PUBLIC,
        scopes=frozenset(),
    )


def call(
    parts: Parts, principal: Principal, job: str, endpoint: Endpoint, request: ExecutionRequest, *, now: datetime
) -> Created:
    """Start an execution of what the caller sent, or find the one that the same request made before.

    Durable on return. Costs what ``executions.create`` does. Raises Forbidden for what a stranger may not choose,
    NotRunnable for a trigger that is disabled, and what ``executions.create`` raises.
    """
    _check_enabled(job, endpoint)
    if principal.kind is PrincipalKind.PUBLIC:
        _check_arguments_alone(request)
    request = replace(request, trigger=endpoint.trigger, deadline_s=_deadline_s(endpoint))
    return executions.create(parts, principal, job, request, now=now)


def call_bare(
    parts: Parts, principal: Principal, job: str, endpoint: Endpoint, idempotency_key: str, *, now: datetime
) -> Created:
    """The same for a caller who sent no body: with the trigger's own arguments. Costs what ``triggers.fire`` does."""
    _check_enabled(job, endpoint)
    request = ExecutionRequest(idempotency_key=idempotency_key, deadline_s=_deadline_s(endpoint))
    return triggers.fire(parts, principal, job, endpoint.trigger, request, now=now)


def _check_enabled(job: str, endpoint: Endpoint) -> None:
    if not endpoint.enabled:
        raise NotRunnable(f"trigger {quoted(endpoint.trigger)} of job {quoted(job)} is disabled: enable it first")


def _check_arguments_alone(request: ExecutionRequest) -> None:
    """Raises Forbidden naming what a stranger wishes besides ``tasks``."""
    wishes = {
        "env": request.env,
        "memory": request.memory_mb is not None,
        "executionId": request.id,
        "id": request.request_id,
        "allowQueue": not request.allow_queue,
        **dict.fromkeys(request.extra, True),
    }
    wish = next((name for name, wished in wishes.items() if wished), None)
    if wish is not None:
        raise Forbidden(
            f"a public trigger takes tasks alone; {quoted(wish)} needs a credential, and a trigger that asks for one"
        )


def _deadline_s(endpoint: Endpoint) -> int | None:
    return (endpoint.timeout_s or DEFAULT_DEADLINE_S) if endpoint.type is TriggerType.HTTP_ASYNC else None


def look(parts: Parts, created: Created) -> Execution:
    """How the execution is now, whatever became of its job. One statement. Raises NotFound for one kept no longer."""
    return parts.database.read(lambda connection: store.find_by_key(connection, created.key))
