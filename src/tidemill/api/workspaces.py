"""/v0/workspaces: the ones that a credential reaches, a bare list in every version (contract 2.6).

A path names the workspace that its request acts in: one that the credential does not reach is not there (404).
"""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.wire import Json, parse_json, validated
from tidemill.api.wire_identity import (
    AvailabilityBody,
    WorkspaceBody,
    required,
    workspace_view,
    workspace_wish,
)
from tidemill.service import workspaces

router = APIRouter(prefix="/v0/workspaces")


@router.get("")
async def list_workspaces(call: Asked) -> Response:
    found = await call.run(partial(workspaces.list_all, call.parts, call.principal))
    return json_answer([workspace_view(each) for each in found])


@router.post("")
async def create_workspace(call: Asked) -> Response:
    body = await _body(call)
    name, wish = required(body.name, "name"), workspace_wish(body)
    made = await call.run(partial(workspaces.create, call.parts, call.principal, name, wish, now=call.now))
    return json_answer(workspace_view(made))


@router.post("/availability")
async def check_availability(call: Asked, withReason: bool = False) -> Response:  # noqa: N803  # as clients call it
    body = validated(AvailabilityBody, parse_json(await call.body()), strict=call.strict)
    reason = await call.run(partial(workspaces.availability, call.parts, body.name))
    if not withReason:
        return json_answer(reason is None)
    answer: dict[str, Json] = {"available": reason is None}
    if reason is not None:
        answer |= {"reason": reason.value, "message": f"the name is not to be had: {reason.value}"}
    return json_answer(answer)


@router.get("/{workspace_name}")
async def get_workspace(call: Asked, workspace_name: str, countResources: bool = False) -> Response:  # noqa: ARG001, N803
    found = await call.run(partial(workspaces.get, call.parts, call.principal))
    counts = {"resourceCounts": {"jobs": found.jobs_total}} if countResources else {}
    return json_answer({**workspace_view(found), **counts})


@router.put("/{workspace_name}")
async def update_workspace(call: Asked, workspace_name: str) -> Response:  # noqa: ARG001
    wish = workspace_wish(await _body(call))
    changed = await call.run(partial(workspaces.change, call.parts, call.principal, wish, now=call.now))
    return json_answer(workspace_view(changed))


@router.delete("/{workspace_name}")
async def delete_workspace(call: Asked, workspace_name: str) -> Response:  # noqa: ARG001
    gone = await call.run(partial(workspaces.delete, call.parts, call.principal, now=call.now))
    return json_answer(workspace_view(gone))


@router.delete("/{workspace_name}/leave")
async def leave_workspace(call: Asked, workspace_name: str) -> Response:  # noqa: ARG001
    left = await call.run(partial(workspaces.leave, call.parts, call.principal))
    return json_answer(workspace_view(left))


async def _body(call: Call) -> WorkspaceBody:
    return validated(WorkspaceBody, parse_json(await call.body()), strict=call.strict)
