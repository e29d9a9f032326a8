"""/v0/jobs/NAME/executions/ID/results: one line of JSON per task that has ended, in the order of their indices."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import anyio
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from tidemill.api import auth
from tidemill.api.auth import Asked
from tidemill.api.calls import Call
from tidemill.api.problems import problem
from tidemill.api.wire_executions import result_line
from tidemill.model.errors import Invalid, Overloaded, TidemillError
from tidemill.model.execution import Execution
from tidemill.service import executions

router = APIRouter()

# how long a follower waits before it looks again; it doubles while nothing happens
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0


@router.get("/v0/jobs/{name}/executions/{execution}/results")
async def get_results(call: Asked, name: str, execution: str, follow: bool = False, chain: bool = False) -> Response:
    if chain and follow:
        raise Invalid("chain and follow are both true; results of a chain are told as they are now, without follow")
    found = await call.run(partial(executions.find, call.parts, call.principal, name, execution))
    if follow:
        call.context.streams.check(call.principal.workspace)
    lines = _chain(call, found) if chain else _followed(call, found) if follow else _lines(call, found, follow=False)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def _lines(call: Call, execution: Execution, *, follow: bool) -> AsyncIterator[bytes]:
    """Pages of lines. No thread and no reader is held between two of them.

    Raises what ends a follower: as ``auth.authenticate``, and Overloaded when the server ends.
    """
    position, pause_s = 0, _FIRST_PAUSE_S
    while position < execution.stats.total:
        read = partial(executions.read_results, call.parts, execution.key, position, stop_at_open=follow)
        page = await call.run(read)
        if page.ended:
            yield b"".join(result_line(ended) for ended in page.ended)
            pause_s = _FIRST_PAUSE_S
        position = page.next_position
        if page.stopped:
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            await auth.authenticate(call.request)  # it may have ended meanwhile
            if call.context.closing():
                raise Overloaded("the server is shutting down; follow again when it is back")


async def _followed(call: Call, execution: Execution) -> AsyncIterator[bytes]:
    """The same until each task has ended. Where credential or server end before that, a last line says so."""
    with call.context.streams.one(call.principal.workspace):
        try:
            async for lines in _lines(call, execution, follow=True):
                yield lines
        except TidemillError as error:
            yield b'{"error":' + bytes(problem(error).body) + b"}\n"


async def _chain(call: Call, execution: Execution) -> AsyncIterator[bytes]:
    """As above over every index of the chain's first execution."""
    total = await call.run(partial(executions.count_inputs, call.parts, execution))
    first = 0
    while first < total:
        page = await call.run(partial(executions.read_chain, call.parts, execution.chain, first))
        yield b"".join(result_line(ended) for ended in page.ended)
        first = page.next_position
