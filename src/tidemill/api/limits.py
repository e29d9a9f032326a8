"""How many requests one client may send: without a credential by its address, with one by the credential.

A request counts as unauthenticated when its answer is 401, or no route asked it for a credential: paths that are public
or do not exist cost the same. /healthz and /readyz never count, for whoever watches the server must not be told that it
is down because somebody else floods it; they read nothing from the disk.
"""

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.api import problems
from tidemill.api.addresses import Network, caller
from tidemill.model.errors import RateLimited

NEVER_COUNTED: Final = frozenset({"/healthz", "/readyz"})
REMEMBERED: Final = 10_000
"""How many addresses, and how many credentials, are kept at once: about two MB of each."""

_STANDING: Final = "tidemill.standing"
_CREDENTIALS: Final = (b"x-blaxel-authorization", b"authorization")


class Meter:
    """Counts per key: ``per_s`` a second, and as many at once; 0 is no limit. Remembers ``most`` keys, the latest.

    A key is a single number, the time at which all that was counted is paid off. It may lie further ahead than the
    bucket is deep, when requests ended that had begun together.
    """

    def __init__(self, per_s: float, most: int = REMEMBERED) -> None:
        self._per_s, self._most = per_s, most
        # a rate below one a second still lets one through
        self._depth_s = max(1.0, 1 / per_s) if per_s else math.inf
        self._paid_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paid_at)

    def __contains__(self, key: bytes) -> bool:
        return key in self._paid_at

    def wait_s(self, key: bytes, now: float) -> float:
        """How long until ``key`` may go on; 0 when it may now. One look-up."""
        if not self._per_s:
            return 0
        # rounding must not lose the last request of a full bucket
        over = self._paid_at.get(key, now) - now + 1 / self._per_s - self._depth_s
        return over if over > 1e-9 else 0

    def count(self, key: bytes, now: float) -> None:
        """One more of ``key``; a key too many pushes out the one that was counted longest ago."""
        cost = 1 / self._per_s if self._per_s else 0
        self._paid_at[key] = max(self._paid_at.get(key, now), now) + cost
        self._paid_at.move_to_end(key)
        if len(self._paid_at) > self._most:
            self._paid_at.popitem(last=False)

    def forget(self, key: bytes) -> None:
        self._paid_at.pop(key, None)


@dataclass(slots=True)
class _Standing:
    """What the routes and the answer say of one request."""

    asked: bool = False
    good: bool = False
    status: int = 0


async def asks(request: Request) -> None:
    """The dependency before ``authenticate``: this route asks for a credential."""
    if standing := request.scope.get(_STANDING):
        standing.asked = True


async def found_good(request: Request) -> None:
    """The dependency behind ``authenticate``: it runs when that has raised nothing."""
    if standing := request.scope.get(_STANDING):
        standing.good = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Requests a second; 0 is no limit. Addresses below ``trusted_proxies`` may speak for others."""

    unauthenticated_per_s: float = 20
    authenticated_per_s: float = 0
    trusted_proxies: tuple[Network, ...] = ()


class Gate:
    """The middleware that counts. A request that would be too much is 429 before anything is read for it.

    A credential that was good lately is asked for by its own meter alone: a flood from an address does not lock out
    those who share it and are known. One look-up a request, another when it has ended. Credentials are remembered by a
    keyed digest.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, clock: Callable[[], float]) -> None:
        self._app, self._clock = app, clock
        self._addresses = Meter(rates.unauthenticated_per_s)
        self._credentials = Meter(rates.authenticated_per_s)
        self._proxies = rates.trusted_proxies
        self._digest = partial(hashlib.blake2b, digest_size=16, key=secrets.token_bytes(16))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NEVER_COUNTED:
            await self._app(scope, receive, send)
            return
        credential = self._credential(scope)
        known = credential is not None and credential in self._credentials
        meter, key = (self._credentials, credential) if known else (self._addresses, client(scope, self._proxies))
        assert key is not None
        wait_s = meter.wait_s(key, self._clock())
        if wait_s > 0:
            await _refusal(wait_s, by_credential=known)(scope, receive, send)
            return
        standing = scope[_STANDING] = _Standing()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                standing.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._settle(standing, credential, scope)

    def _settle(self, standing: _Standing, credential: bytes | None, scope: Scope) -> None:
        now = self._clock()
        if not standing.asked or standing.status == HTTPStatus.UNAUTHORIZED:
            self._addresses.count(client(scope, self._proxies), now)
        if credential is None:
            return
        if standing.status == HTTPStatus.UNAUTHORIZED:
            self._credentials.forget(credential)
        elif standing.good or (standing.asked and credential in self._credentials):
            self._credentials.count(credential, now)

    def _credential(self, scope: Scope) -> bytes | None:
        """Of what the request says of itself, in either header."""
        said = [value for name, value in scope["headers"] if name in _CREDENTIALS]
        return self._digest(b"\0".join(said)).digest() if said else None


def client(scope: Scope, proxies: Sequence[Network]) -> bytes:
    """Who is counted."""
    return caller(scope, proxies).counted.encode()


def _refusal(wait_s: float, *, by_credential: bool) -> ASGIApp:
    whose = "with this credential" if by_credential else "without a good credential from this address"
    error = RateLimited(f"too many requests {whose}; send the next one in {math.ceil(wait_s)} s")
    return problems.slow_down(error, math.ceil(wait_s))
