"""/v0/nodes: the machines that run tasks, and what holds tasks back on each (ours; docs/wire.md).

For admins of the workspace that the server began with.
"""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.wire_protections import nodes_view
from tidemill.service import nodes

router = APIRouter()


@router.get("/v0/nodes")
async def list_nodes(call: Asked) -> Response:
    return json_answer(nodes_view(await call.run(partial(nodes.list_all, call.parts, call.principal))))
