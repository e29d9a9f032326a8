"""GET /v0/events: what changed in a workspace, as pages or as a stream."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import anyio
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from tidemill.api import auth
from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.parameters import whole
from tidemill.api.problems import problem
from tidemill.api.streams import signalled
from tidemill.api.wire_events import KEEP_ALIVE, page_view, stream_end, stream_text
from tidemill.model.errors import Invalid, TidemillError
from tidemill.model.quoted import quoted
from tidemill.service import events
from tidemill.service.events import Watch
from tidemill.store.database import Changes
from tidemill.store.events import Page

router = APIRouter()

MAX_WAIT_S: Final = 60
MAX_EVENTS: Final = 1_000
STREAM: Final = "text/event-stream"
NEWEST: Final = "newest"

_EVENTS: Final = 200
_DIGITS: Final = 18
# what happens within it is told together: a stream costs at most so many reads a second
_PAUSE_S: Final = 0.1
_KEEP_ALIVE_S: Final = 15.0


@router.get("/v0/events")
async def get_events(call: Asked) -> Response:
    wanted = await call.run(partial(events.watch, call.parts, call.principal, _watch(call)))
    after = await _after(call)
    if STREAM in call.request.headers.get("accept", ""):
        first = await _read(call, wanted, after, MAX_EVENTS)  # what is wrong is told before the stream begins
        call.context.streams.check(call.principal.workspace)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(call, wanted, first), media_type=STREAM, headers=headers)
    limit = min(whole(call.request.query_params, "limit", _EVENTS, 1), MAX_EVENTS)
    wait_s = whole(call.request.query_params, "wait", 0, 0)
    if wait_s > MAX_WAIT_S:
        raise Invalid(f"wait is {wait_s}; it must be 0 to {MAX_WAIT_S} seconds")
    return json_answer(page_view(await _waited(call, wanted, after, limit, wait_s)))


async def _waited(call: Call, wanted: Watch, after: int, limit: int, wait_s: int) -> Page:
    """A page, once it holds an event or the time is over. Raises as ``auth.authenticate``."""
    news = _news(call, wanted)
    seen = news.count
    page = await _read(call, wanted, after, limit)
    with anyio.move_on_after(wait_s):
        while not page.changes and not call.context.closing():
            if page.after >= page.newest:
                await signalled(news, seen)
            seen = news.count
            await auth.authenticate(call.request)  # it may have ended meanwhile
            page = await _read(call, wanted, page.after, limit)
    return page


async def _stream(call: Call, wanted: Watch, page: Page) -> AsyncIterator[bytes]:
    """Pages as they come, until the client goes, the server ends, or the credential does.

    No thread and no reader is held between two of them. A server that ends closes it without a word: clients come again
    with the last id.
    """
    news = _news(call, wanted)
    with call.context.streams.one(call.principal.workspace):
        yield stream_text(page)
        while not call.context.closing():
            seen = news.count
            try:
                await auth.authenticate(call.request)  # it may have ended meanwhile
                page = await _read(call, wanted, page.after, MAX_EVENTS)
            except TidemillError as error:
                yield stream_end(bytes(problem(error).body))
                return
            if page.changes:
                yield stream_text(page)
            if page.after < page.newest:
                continue
            await anyio.sleep(_PAUSE_S)
            with anyio.move_on_after(_KEEP_ALIVE_S) as patience:
                await signalled(news, seen)
            if patience.cancelled_caught:
                yield KEEP_ALIVE


def _news(call: Call, wanted: Watch) -> Changes:
    """What tells of commits that may concern the reader: thousands in an execution, but for its tasks a few."""
    return call.parts.database.news if wanted.tasks else call.parts.database.milestones


async def _read(call: Call, wanted: Watch, after: int, limit: int) -> Page:
    return await call.run(partial(events.page, call.parts, call.principal, wanted, after, limit))


def _watch(call: Call) -> Watch:
    asked = call.request.query_params
    tasks = asked.get("tasks", "")
    if tasks not in {"", "true", "false"}:
        raise Invalid(f"tasks is {quoted(tasks)}; it must be true or false")
    return Watch(job=asked.get("job", ""), execution=asked.get("execution", ""), tasks=tasks != "false")


async def _after(call: Call) -> int:
    """From where on: a browser that comes again says it in a header. Raises Invalid."""
    value = call.request.headers.get("last-event-id") or call.request.query_params.get("after", "")
    if value == NEWEST:
        return await call.run(partial(events.newest, call.parts))
    if not value:
        return 0
    if not (value.isascii() and value.isdecimal()) or len(value) > _DIGITS:
        raise Invalid(f"after is {quoted(value)}; it must be the number of an event, 0 or {NEWEST}")
    return int(value)
