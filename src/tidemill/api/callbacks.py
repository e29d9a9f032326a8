"""/v0/jobs/NAME/callbacks: what triggers tell of executions' ends, and how far that has come."""

from functools import partial
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.paging import Limit, list_query, page
from tidemill.api.wire_callbacks import delivery_view, parse_delivery_states, rotated_view
from tidemill.model.callback import Delivery
from tidemill.model.errors import Invalid
from tidemill.service import callbacks
from tidemill.service.callbacks import DEFAULT_OVERLAP_S
from tidemill.store.outbox import DeliveryPage

router = APIRouter(prefix="/v0/jobs/{name}")

_LIMIT: Final = Limit(default=50, most=200)


@router.get("/callbacks")
async def list_callbacks(call: Asked, name: str) -> Response:
    # younger than the bare shape of lists: it has pages in every version
    query = list_query(call, f"jobs/{name}/callbacks", _LIMIT, always_paged=True)
    if query.by != "createdAt" or not query.descending:
        raise Invalid("sort is not createdAt:desc, which is the only order of callbacks")
    wanted = DeliveryPage(
        job=await call.run(partial(callbacks.job_of, call.parts, call.principal, name)),
        states=parse_delivery_states(query.status),
        after=None if query.after is None else int(query.after[0]),
        limit=query.limit + 1,
    )
    found = await call.run(partial(callbacks.find_page, call.parts, wanted))
    shown, cursor = page(call, query, found, _position)
    # without a total: counting would read every row that is kept
    meta = {"hasMore": bool(cursor), "nextCursor": cursor}
    return json_answer({"data": [delivery_view(each) for _, each in shown], "meta": meta})


@router.post("/callbacks/replay")
async def replay_callbacks(call: Asked, name: str) -> Response:
    count = await call.run(partial(callbacks.replay_parked, call.parts, call.principal, name, now=call.now))
    return json_answer({"replayed": count})


@router.post("/callbacks/{execution}/replay")
async def replay_callback(call: Asked, name: str, execution: str) -> Response:
    again = partial(callbacks.replay, call.parts, call.principal, name, execution, now=call.now)
    return json_answer(delivery_view(await call.run(again)))


@router.post("/triggers/{trigger}/callback_secret")
async def rotate_callback_secret(call: Asked, name: str, trigger: str, overlap: int = DEFAULT_OVERLAP_S) -> Response:
    rotated = partial(callbacks.rotate, call.parts, call.principal, name, trigger, overlap, now=call.now)
    return json_answer(rotated_view(await call.run(rotated)))


def _position(row: tuple[int, Delivery]) -> list[object]:
    return [row[0]]
