"""One request and what it needs: who asks, when, in which version, and threads for what blocks."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from tidemill.api.ended_tasks import EndedTasks
from tidemill.api.streams import Streams
from tidemill.api.wire import Json, render
from tidemill.model.errors import Invalid, Overloaded, TooLarge
from tidemill.model.outlook import Outlook
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.service.audit import Record
from tidemill.service.parts import Parts

T = TypeVar("T")

FIRST_VERSION: Final = "2026-04-16"
PAGED_VERSION: Final = "2026-04-28"
# the last one is what blaxel 0.4.24 sends; it changed answers about images only
VERSIONS: Final = (FIRST_VERSION, "2026-04-20", PAGED_VERSION, "2026-09-22")
UPLOAD_HEADER: Final = "X-Blaxel-Upload-Url"

# reads what FastAPI reads of the other flags
_FLAG: Final = TypeAdapter(bool)
_THREADS: Final = 64
_BIG_BODIES: Final = 8
_PASSWORDS: Final = 2
_AT_THE_PROVIDER: Final = 4
_BEFORE_THE_PROVIDER: Final = 64
_LENGTH_DIGITS: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all requests share. ``problem`` says why no work can be accepted, None when it can.

    ``closing`` says whether the server is about to end: what would be answered without end is ended then.
    ``outlook`` says how things look to the scheduler; without one, that it has not looked yet.
    ``streams`` counts answers that are followed; each is one for hours.
    ``big_bodies`` bounds how many requests of more than 4 MiB are held in memory at once,
    ``passwords`` how many are hashed: that takes 19 MiB each, and a core. ``at_provider`` bounds how many ask the
    OpenID provider: a slow one holds up nobody but those who sign in through it.
    """

    parts: Parts
    clock: Callable[[], datetime]
    problem: Callable[[], str | None]
    outlook: Callable[[], Outlook] = Outlook
    public_url: str = ""
    plan: str = "self-hosted"
    closing: Callable[[], bool] = lambda: False
    streams: Streams = field(default_factory=Streams)
    ended_tasks: EndedTasks = field(default_factory=EndedTasks)
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_THREADS))
    big_bodies: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_BIG_BODIES))
    passwords: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_PASSWORDS))
    at_provider: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_AT_THE_PROVIDER))

    async def run(self, work: Callable[[], T]) -> T:
        """Run what blocks in a thread. A caller that goes away takes nothing back: the work is done all the same."""
        return await to_thread.run_sync(work, limiter=self.threads)

    async def run_slow(self, work: Callable[[], T]) -> T:
        """The same for what hashes a password."""
        return await to_thread.run_sync(work, limiter=self.passwords)

    async def run_at_provider(self, work: Callable[[], T]) -> T:
        """The same for what asks the OpenID provider. Raises Overloaded where too many wait for that already."""
        if self.at_provider.statistics().tasks_waiting >= _BEFORE_THE_PROVIDER:
            raise Overloaded("too many people are signing in at this moment: try again in a while")
        return await to_thread.run_sync(work, limiter=self.at_provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An authenticated request and its row of the audit. ``paged`` is whether its version knows pages of lists."""

    context: Context
    request: Request
    principal: Principal
    paged: bool
    now: datetime
    record: Record

    @property
    def parts(self) -> Parts:
        return self.context.parts

    @property
    def base_url(self) -> str:
        """The origin that the caller reaches this server under, without a slash at the end."""
        return base_url(self.context, self.request)

    @property
    def strict(self) -> bool:
        """Whether unknown members of bodies are to be refused. Raises Invalid: a word read as no would let them in."""
        return flag(self.request, "strict")

    async def run(self, work: Callable[[], T]) -> T:
        return await self.context.run(work)

    def reads_secrets(self) -> None:
        """Its answer shows secrets to whoever may see them: it is audited, though it changes nothing."""
        record = self.record
        if record.entry is not None:
            record.entry = replace(record.entry, action=f"{record.entry.action}_secrets")
        record.due = True

    async def body(self) -> bytes:
        """The body, if it keeps the limit of ordinary requests. Raises TooLarge."""
        return await read_body(self.request, self.parts.limits.body_bytes)


async def from_big_body(call: Call, work: Callable[[bytes], T]) -> T:
    """What ``work``, in a thread, makes of a body of up to the limit of executions. Raises TooLarge.

    Few of more than the limit of ordinary requests are held at once.
    """
    length, limits = announced_length(call.request), call.parts.limits

    async def read_and_work() -> T:
        body = await read_body(call.request, limits.execution_body_bytes)
        return await call.run(partial(work, body))

    if length is not None and length <= limits.body_bytes:
        return await read_and_work()
    async with call.context.big_bodies:
        return await read_and_work()


def flag(request: Request, name: str) -> bool:
    """Whether a flag of the query is set. Raises Invalid: a word that is read as no would do something else."""
    value = request.query_params.get(name)
    try:
        return value is not None and _FLAG.validate_python(value)
    except ValidationError:
        raise Invalid(f"{name} is {quoted(value)}; it must be true or false") from None


def context_of(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


def base_url(context: Context, request: Request) -> str:
    """``public_url`` where it is set, else as the request's Host says."""
    return context.public_url or f"{request.url.scheme}://{request.url.netloc}"


def json_answer(value: Json, status: int = 200) -> Response:
    """A JSON body."""
    return json_text(render(value), status)


def json_text(text: bytes, status: int = 200) -> Response:
    """A JSON body that is text already."""
    return Response(text, status_code=status, media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it crosses ``limit`` bytes, at once where its length says so."""
    announced = announced_length(request)
    if announced is not None and announced > limit:
        raise TooLarge(f"the body has {announced} bytes; this request may have up to {limit}")
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > limit:
            raise TooLarge(f"the body has more than {limit} bytes, which is the limit of this request")
    return bytes(held)


def announced_length(request: Request) -> int | None:
    """``Content-Length``; None when there is none to trust."""
    value = request.headers.get("content-length", "")
    # more digits than any length has would make int() itself fail
    return int(value) if value.isdecimal() and len(value) <= _LENGTH_DIGITS else None
