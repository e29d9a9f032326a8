"""/v0/workspaces: the ones that a credential reaches, a bare list in every version."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.calls import Asked, json_answer
from tidemill.api.wire import Json, timestamp
from tidemill.service import identity
from tidemill.store.identity import Workspace

router = APIRouter(prefix="/v0/workspaces")


@router.get("")
async def list_workspaces(call: Asked) -> Response:
    own = await call.run(partial(identity.get_workspace, call.parts, call.principal, call.principal.workspace))
    return json_answer([_view(own)])


@router.get("/{name}")
async def get_workspace(call: Asked, name: str) -> Response:
    return json_answer(_view(await call.run(partial(identity.get_workspace, call.parts, call.principal, name))))


def _view(workspace: Workspace) -> dict[str, Json]:
    return {
        "id": workspace.name,
        "name": workspace.name,
        "displayName": workspace.display_name,
        "labels": {},
        "status": "ready",
        "runtime": {"generation": "mk3"},
        "createdAt": timestamp(workspace.created_at),
        "updatedAt": timestamp(workspace.created_at),
    }
