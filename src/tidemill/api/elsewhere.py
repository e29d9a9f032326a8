"""Lists of what this server does not have, which the official clients ask for on their way to a job.

A command line without a blaxel.toml asks for functions and models, one whose file names agents for agents, `new job`
for templates (contract 5.1, 5.8, 13.8). An error would cost it its retries; so each answer is empty, and takes no
statement but the look at the credential.
"""

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.paging import in_shape

router = APIRouter(prefix="/v0")


@router.get("/agents")
@router.get("/functions")
@router.get("/models")
async def list_none(call: Asked) -> Response:
    """An empty page, a bare list in old versions."""
    return json_answer(in_shape(call, [], "", 0))


@router.get("/templates")
async def list_templates(call: Asked) -> Response:  # noqa: ARG001  # who asks is checked, though nothing depends on it
    """A bare list in every version (contract 5.8)."""
    return json_answer([])


@router.get("/configuration")
async def get_configuration(call: Asked) -> Response:  # noqa: ARG001  # as above
    """Where things may run, as far as a server of one place can say: nowhere in particular."""
    return json_answer({"continents": [], "countries": [], "privateLocations": [], "regions": []})
