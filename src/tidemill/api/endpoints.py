"""Where triggers of type http and http-async are called: paths below the URL of their job (docs/triggers.md)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Depends, Request
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response, StreamingResponse

from tidemill.api import auth, limits
from tidemill.api.audited import begin
from tidemill.api.calls import Call, context_of, flag, from_big_body, json_answer, read_body
from tidemill.api.streams import STRANGERS, signalled
from tidemill.api.wire import render
from tidemill.api.wire_executions import call_request, result_line
from tidemill.model.errors import NotFound
from tidemill.model.execution import Execution
from tidemill.model.principal import PrincipalKind
from tidemill.model.states import EXECUTION_FINAL
from tidemill.model.trigger import DEFAULT_WAIT_S, TriggerType
from tidemill.service import endpoints, executions
from tidemill.service.workspaces import RESERVED
from tidemill.store.endpoints import Endpoint
from tidemill.store.executions import Created

# most calls are answered at once, or in a while
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.25
# how long it takes to see that the caller has gone, or that the server is to end
_LOOK_EVERY_S: Final = 1.0


class _Workspace(Convertor[str]):
    """No word that other paths begin with: POST of a path that is not there stays 404, of another method's 405."""

    regex = f"(?!(?:{'|'.join(sorted(RESERVED))})/)[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("workspace", _Workspace())
router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call of a trigger by somebody who may."""

    call: Call
    endpoint: Endpoint


async def authorize(request: Request) -> Called:
    """The trigger that is called. One that is public asks for no credential, and reads none.

    For all others, and where there is none, a caller without a good credential is told that alone. Raises NotFound, and
    as ``auth.authenticate``.
    """
    context, names = context_of(request), request.path_params
    kind = TriggerType.HTTP_ASYNC if flag(request, "async") else TriggerType.HTTP
    workspace, job, path = names["workspace_in_path"], names["name"], f"/{names.get('path', '')}"
    missing: NotFound | None = None
    endpoint: Endpoint | None = None
    try:
        endpoint = await context.run(partial(endpoints.find, context.parts, workspace, job, path, kind))
    except NotFound as error:
        missing = error
    if endpoint is not None and endpoint.public:
        return Called(call=_strange(request, workspace, endpoint), endpoint=endpoint)
    await limits.asks(request)
    call = await auth.authenticate(request)
    await limits.found_good(request)
    if endpoint is None:
        assert missing is not None
        raise missing
    return Called(call=call, endpoint=endpoint)


Authorized = Annotated[Called, Depends(authorize)]


@router.post("/{workspace_in_path:workspace}/jobs/{name}")
@router.post("/{workspace_in_path:workspace}/jobs/{name}/{path:path}")
async def call_trigger(called: Authorized, name: str) -> Response:
    call, endpoint = called.call, called.endpoint
    # a stranger who sends slowly, or nothing, takes no room that others wait in
    body = await read_body(call.request, call.parts.limits.body_bytes) if _is_strange(call) else None
    if endpoint.type is TriggerType.HTTP_ASYNC:
        created = await _create(called, name, body)
        return json_answer({"success": True, "executionId": created.id})
    wait_s = endpoint.timeout_s or DEFAULT_WAIT_S
    caller = STRANGERS if _is_strange(call) else call.principal.workspace
    # nothing is made for whom there is no room to wait
    call.context.streams.check(caller)
    with call.context.streams.one(caller):
        created = await _create(called, name, body)
        execution = await _end(call, created, wait_s)
    if execution is None:
        return json_answer({"executionId": created.id}, HTTPStatus.ACCEPTED)
    if not _is_strange(call):
        await auth.authenticate(call.request)  # it may have ended meanwhile
        call.record.finds(created)  # the row begins anew there
    return StreamingResponse(_answer(call, execution), media_type="application/json")


async def _create(called: Called, name: str, body: bytes | None) -> Created:
    """What the call makes. Without a ``body`` it is read here, within the limits of executions."""
    call = called.call
    key = call.request.headers.get("idempotency-key", "")

    def work(body: bytes) -> Created:
        request = call_request(body, idempotency_key=key, strict=call.strict)
        whose = call.parts, call.principal, name, called.endpoint
        if request is None:
            return endpoints.call_bare(*whose, key, now=call.now)
        return endpoints.call(*whose, request, now=call.now)

    created = await (from_big_body(call, work) if body is None else call.run(partial(work, body)))
    call.record.finds(created)
    return created


async def _end(call: Call, created: Created, wait_s: int) -> Execution | None:
    """The execution once it has ended; None when the time is over before, the caller has gone, or the server ends.

    Whatever it is, the execution goes on. No thread and no reader is held between two looks.
    """
    news, pause_s = call.parts.database.milestones, _FIRST_PAUSE_S
    with anyio.move_on_after(wait_s):
        while not call.context.closing() and not await call.request.is_disconnected():
            seen = news.count
            found = await call.run(partial(endpoints.look, call.parts, created))
            if found.state in EXECUTION_FINAL:
                return found
            with anyio.move_on_after(_LOOK_EVERY_S):
                await signalled(news, seen)
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    return None


async def _answer(call: Call, execution: Execution) -> AsyncIterator[bytes]:
    """``{"executionId", "status", "results"}`` in pages of results, each as in ``GET .../results``."""
    yield render({"executionId": execution.id, "status": execution.state.value})[:-1] + b',"results":['
    position, between = 0, b""
    while position < execution.stats.total:
        page = await call.run(partial(executions.read_results, call.parts, execution.key, position, stop_at_open=False))
        if page.ended:
            yield between + b",".join(result_line(ended).rstrip() for ended in page.ended)
            between = b","
        position = page.next_position
    yield b"]}"


def _strange(request: Request, workspace: str, endpoint: Endpoint) -> Call:
    context = context_of(request)
    now, principal = context.clock(), endpoints.stranger(workspace, endpoint)
    record = begin(request, principal.id, principal.kind.value, workspace, "", now)
    return Call(context=context, request=request, principal=principal, paged=False, now=now, record=record)


def _is_strange(call: Call) -> bool:
    return call.principal.kind is PrincipalKind.PUBLIC
