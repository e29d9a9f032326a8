"""/healthz and /readyz."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill.api.calls import context_of, json_answer
from tidemill.model.errors import Overloaded

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Response:
    return json_answer({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    reason = context_of(request).problem()
    if reason is not None:
        raise Overloaded(reason)
    return json_answer({"status": "ready"})
