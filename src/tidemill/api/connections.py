"""One connection of a client, and how long it may take: uvicorn's, which waits for ever, with limits more.

* The head of a request (its line and its headers) has a size, a number of headers, and a time to arrive.
* A body may take its time but has to move: after the time of a head, at least so many bytes a second on the average.
  So an upload of any size is possible, and a body that comes drop by drop is not. Time in which the server itself does
  not read counts for the client.
* An answer that nobody takes ends with its connection.

httptools keeps whatever a client calls a header, without a bound; uvicorn itself closes what idles between two
requests. What is refused here is answered as all errors are (400, 408, 431).
"""

from asyncio import BaseTransport, TimerHandle
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final, cast

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidemill.api import problems
from tidemill.api.shields import HEADERS
from tidemill.model.errors import HeadTooLarge, Invalid, TidemillError, TooSlow

_PER_HEADER: Final = 4  # ": " and the end of the line
_CHUNKED: Final = 17
"""Bytes that a byte of a body may take on the wire: a chunk of its own takes six, with a short extension more."""
_LOOKS: Final = 6
"""How often a body is looked at in the time of a head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The limits of one connection."""

    head_s: float = 30
    head_bytes: int = 64 << 10
    headers: int = 100
    body_bytes_per_s: float = 8 << 10
    answer_s: float = 300


class Connection(HttpToolsProtocol):
    """``patience`` is set by a subclass, see ``protocol``."""

    patience: ClassVar[Patience] = Patience()

    _timer: TimerHandle | None = None
    """Of the head, or the next look at the body."""
    _stalled: TimerHandle | None = None
    _asked = False
    """Whether there has been a request at all."""
    _in_body = False
    _received = 0
    """Bytes of this request, of which ``_body_bytes`` were its body, which took ``_body_s`` so far."""
    _body_bytes = 0
    _body_s = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._timer)
        self._stop(self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            # whatever arrives between two requests, be it an empty line, begins one
            self._await_head()
        self._received += len(data)
        super().data_received(data)
        # a line without an end is in the parser, which tells nobody of it; so is a trailer behind a body
        most = self.patience.head_bytes
        if self._received > (2 * most + _CHUNKED * self._body_bytes if self._in_body else most):
            self._refuse(self._too_large())

    def send_400_response(self, msg: str) -> None:
        self._refuse(Invalid(msg))

    # what the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:  # another request in the same piece of data
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop(self._timer)
        self._asked = True
        size = len(self.url) + sum(len(name) + len(value) + _PER_HEADER for name, value in self.headers)
        given = self.app
        if size > self.patience.head_bytes or len(self.headers) > self.patience.headers:
            self.app = _closing(self._too_large())
        try:
            super().on_headers_complete()
        finally:
            self.app = given
        self._in_body, self._body_bytes, self._body_s = True, 0, 0.0
        self._timer = self.loop.call_later(self._look_s, self._look)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # trailers are read by nobody
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop(self._timer)
        self._timer, self._in_body, self._received = None, False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_end()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._await_end()

    # what the transport tells

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_end()

    def resume_writing(self) -> None:
        self._stop(self._stalled)
        super().resume_writing()

    # what time tells

    @property
    def _look_s(self) -> float:
        return self.patience.head_s / _LOOKS

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.patience.head_s, self._no_head)

    def _await_end(self) -> None:
        """What was written has its time to be taken."""
        self._stop(self._stalled)
        self._stalled = self.loop.call_later(self.patience.answer_s, self.transport.abort)

    def _no_head(self) -> None:
        if not self._received:
            self.transport.close()  # nothing was asked, so nothing is answered
            return
        self._refuse(TooSlow(f"the headers did not arrive within {self.patience.head_s:g} s"))

    def _look(self) -> None:
        """Whether the body has moved fast enough so far."""
        ours = self.flow.read_paused or (not self.cycle.response_started and self.cycle.waiting_for_100_continue)
        if not ours:
            self._body_s += self._look_s
        due = self.patience.body_bytes_per_s * (self._body_s - self.patience.head_s)
        if self._body_s >= self.patience.head_s and self._body_bytes <= due:
            self._refuse(
                TooSlow(f"the body comes too slowly; it must have {self.patience.body_bytes_per_s:g} bytes a second")
            )
            return
        self._timer = self.loop.call_later(self._look_s, self._look)

    def _refuse(self, error: TidemillError) -> None:
        """Answer if no other answer has begun, and close."""
        if self.transport.is_closing():
            return
        cycle, busy = self.cycle, self._asked and not self.cycle.response_complete
        # never in the middle of another answer, and never a second one to the same request
        if not cycle.response_started and not self.pipeline if self._in_body else not busy:
            self.transport.write(_raw(error))
        if busy:
            # the handler that waits for the rest is told that its client has gone
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._await_end()

    def _too_large(self) -> HeadTooLarge:
        most = self.patience
        return HeadTooLarge(f"path and headers may have {most.head_bytes} bytes in up to {most.headers} headers")

    @staticmethod
    def _stop(timer: TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def protocol(patience: Patience) -> type[Connection]:
    """The class of connections with these limits, for uvicorn's ``http``."""
    return type("Connection", (Connection,), {"patience": patience})


def _closing(error: TidemillError) -> ASGIApp:
    answer = problems.problem(error)
    answer.headers.update({**HEADERS, "Connection": "close"})
    return answer


def _raw(error: TidemillError) -> bytes:
    """The answer for a client whose request never became one."""
    answer = problems.problem(error)
    answer.headers.update({**HEADERS, "Connection": "close"})
    lines = [f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b"", cast("bytes", answer.body)])
