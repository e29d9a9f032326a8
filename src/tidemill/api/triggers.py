"""/v0/jobs/NAME/triggers."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.wire_executions import created_view
from tidemill.api.wire_triggers import trigger_view
from tidemill.service import triggers
from tidemill.service.executions import ExecutionRequest

router = APIRouter(prefix="/v0/jobs/{name}/triggers")


@router.get("")
async def list_triggers(call: Asked, name: str) -> Response:
    # no pages: a job has up to a hundred
    found = await call.run(partial(triggers.find_all, call.parts, call.principal, name))
    return json_answer([trigger_view(one) for one in found])


@router.post("/{trigger}/fire")
async def fire_trigger(call: Asked, name: str, trigger: str) -> Response:
    key = call.request.headers.get("idempotency-key", "")
    request = ExecutionRequest(idempotency_key=key)
    fire = partial(triggers.fire, call.parts, call.principal, name, trigger, request, now=call.now)
    created = await call.run(fire)
    call.record.finds(created)
    return json_answer(created_view(created))
