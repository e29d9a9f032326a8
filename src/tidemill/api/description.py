"""/v0/openapi.json: what this server serves, as a document."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.described.document import document
from tidemill.api.wire import render

router = APIRouter()

_DOCUMENT: Final = render(document())


@router.get("/v0/openapi.json")
async def get_description() -> Response:
    """The same bytes for everybody, made when the server starts."""
    return Response(_DOCUMENT, media_type="application/json")
