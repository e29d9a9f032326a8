"""What every answer tells a browser: believe the type, load nothing, tell no other site, keep nothing."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # nearly all that is served is one tenant's
    "Cache-Control": "no-store",
}
"""A route that says one of these itself is left alone."""

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SHOWN: Final = ("Retry-After", "X-Blaxel-Upload-Url", "x-should-retry")
_PREFLIGHT_S: Final = 600


class Shields:
    """The outermost middleware: adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, shielded)


def cross_origin(origins: tuple[str, ...]) -> list[Middleware]:
    """Lets pages of ``origins`` call the API; nothing when there are none. No cookies: a page sends a key of its own.

    A preflight is answered here, without a credential, for a browser sends none with it.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=_SHOWN,
            max_age=_PREFLIGHT_S,
        )
    ]
