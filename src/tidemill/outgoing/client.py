"""Sends a request to a pinned target, within limits that hold for all of it. Knows no proxy and follows no redirect."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpcore2

from tidemill.outgoing.guard import Guard, Pinned

DEADLINE_S: Final = 10.0
ANSWER_BYTES: Final = 256 << 10
# a second address is tried while there is time for it
_SHARE: Final = 0.5


class NotSent(Exception):
    """No answer came in whole; the text says why, in words that tell nothing of what an address stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one request: seconds from the first connection to the end of its answer, and bytes of that answer."""

    deadline_s: float = DEADLINE_S
    answer_bytes: int = ANSWER_BYTES


class _Calls:
    """The connections that are open. They belong to threads of their own, which wait for what comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = set[httpcore2.NetworkStream]()
        self._is_cut = False

    def begin(self, stream: httpcore2.NetworkStream) -> None:
        with self._lock:
            self._open.add(stream)
            if self._is_cut:
                _shut(stream)

    def end(self, stream: httpcore2.NetworkStream) -> None:
        with self._lock:
            self._open.discard(stream)

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for stream in self._open:
                _shut(stream)


def _shut(stream: httpcore2.NetworkStream) -> None:
    found: socket.socket = stream.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the receiver was faster
        # that of the plain socket: TLS would want to say goodbye
        socket.socket.shutdown(found, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``steady`` is a clock that never jumps, in seconds. ``tls`` checks certificates against the name in the URL."""

    guard: Guard
    steady: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    calls: _Calls = field(default_factory=_Calls)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send ``body``, and read the answer to its end; its status, whatever it is: a redirect is not followed.

        Blocks up to the deadline, and before it for as long as the resolver takes. Raises Refused, NotSent.
        """
        pinned = self.guard.pin(self.guard.target(url))
        backend = _Backend(pinned, _Budget(self.steady, self.limits), self.calls)
        try:
            # a pool of its own for each request: no connection is used again that was checked for another
            with httpcore2.ConnectionPool(
                ssl_context=self.tls, max_connections=1, network_backend=backend, retries=0
            ) as pool:
                return _exchange(pool, pinned, body, headers)
        except httpcore2.TimeoutException:
            raise NotSent(f"no whole answer within {self.limits.deadline_s:g} s") from None
        except _TooLong:
            raise NotSent(f"the answer has more than {self.limits.answer_bytes} bytes") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            raise NotSent(_words(error)) from None

    def abort(self) -> None:
        """Cut all connections, and those that are about to be made: whoever waits for an answer gets NotSent."""
        self.calls.cut()


class _TooLong(Exception):
    """More has been read than an answer may have."""


class _Budget:
    """What is left of a request's time and of its answer's bytes."""

    def __init__(self, steady: Callable[[], float], limits: Limits) -> None:
        self._steady = steady
        self._ends_at = steady() + limits.deadline_s
        self._bytes = limits.answer_bytes

    def left_s(self) -> float:
        """Seconds, more than none. Raises the timeout of httpcore2 when there are none."""
        left = self._ends_at - self._steady()
        if left <= 0:
            raise httpcore2.ReadTimeout("the time is up")
        return left

    def spend(self, count: int) -> None:
        """Raises _TooLong."""
        self._bytes -= count
        if self._bytes < 0:
            raise _TooLong


class _Backend(httpcore2.NetworkBackend):
    """Connects to the addresses that were checked, whatever host it is asked for."""

    def __init__(self, pinned: Pinned, budget: _Budget, calls: _Calls) -> None:
        self._pinned = pinned
        self._budget = budget
        self._calls = calls
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the budget's is less, here and below
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        assert (host, port) == (self._pinned.target.host, self._pinned.target.port)
        *others, last = self._pinned.addresses
        for address in others:
            try:
                wait = self._budget.left_s() * _SHARE
                found = self._sockets.connect_tcp(str(address), port, wait, local_address, socket_options)
                return _Stream(found, self._budget, self._calls)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        wait = self._budget.left_s()
        return _Stream(
            self._sockets.connect_tcp(str(last), port, wait, local_address, socket_options), self._budget, self._calls
        )


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step has what is left of the whole."""

    def __init__(self, inner: httpcore2.NetworkStream, budget: _Budget, calls: _Calls) -> None:
        self._inner = inner
        self._budget = budget
        self._calls = calls
        calls.begin(inner)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        data = self._inner.read(max_bytes, self._budget.left_s())
        self._budget.spend(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, self._budget.left_s())

    def close(self) -> None:
        self._calls.end(self._inner)
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        try:
            inner = self._inner.start_tls(ssl_context, server_hostname, self._budget.left_s())
        finally:
            self._calls.end(self._inner)
        return _Stream(inner, self._budget, self._calls)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _exchange(pool: httpcore2.ConnectionPool, pinned: Pinned, body: bytes, headers: Mapping[str, str]) -> int:
    target = pinned.target
    lines = [("Host", target.authority), ("Content-Length", str(len(body))), ("Connection", "close"), *headers.items()]
    request = httpcore2.Request(
        "POST",
        httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        ),
        headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in lines],
        content=body,
    )
    answer = pool.handle_request(request)
    try:
        for _ in answer.iter_stream():
            pass
        return answer.status
    finally:
        answer.close()


def _words(error: Exception) -> str:
    """Why there was no answer. A certificate's fault is told, since only its owner can mend it."""
    # httpcore2 hands on what it stands for as its only argument, and cuts the chain of causes
    reason = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return "no TLS connection could be made"
    if isinstance(error, httpcore2.ConnectError):
        return "no connection could be made"
    return "the connection ended before the answer did" if isinstance(reason, OSError) else "the answer is not HTTP"
