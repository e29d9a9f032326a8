"""Errors as answers: the only file that knows both the tree of errors and HTTP."""

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.api.methods import allowed
from tidemill.api.wire import render
from tidemill.model.errors import (
    AlreadyExists,
    Conflict,
    EngineUnavailable,
    Forbidden,
    Gone,
    GrantRefused,
    HeadTooLarge,
    IllegalMove,
    Invalid,
    NotFound,
    NotRunnable,
    OutOfSpace,
    Overloaded,
    OverQuota,
    ProviderTrouble,
    RateLimited,
    StaleTerm,
    TidemillError,
    TooLarge,
    TooManyTries,
    TooSlow,
    Unauthorized,
    UnknownVersion,
)

STATUS: Final[Mapping[type[TidemillError], int]] = {
    Invalid: 400,
    UnknownVersion: 400,
    GrantRefused: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    AlreadyExists: 409,
    NotRunnable: 409,
    Gone: 410,
    TooLarge: 413,
    OverQuota: 429,
    RateLimited: 429,
    TooSlow: 408,
    HeadTooLarge: 431,
    TooManyTries: 429,
    IllegalMove: 500,
    ProviderTrouble: 502,
    Overloaded: 503,
    OutOfSpace: 503,
    EngineUnavailable: 503,
    StaleTerm: 503,
}
# deliberate answers: asking again the same way cannot help (docs/wire.md, 4.1)
_FINAL: Final = frozenset({409, 429})
_LOG: Final = structlog.get_logger("tidemill.api")


def problem(error: TidemillError) -> Response:
    """The answer to a request that raised ``error``."""
    return _answer(STATUS[type(error)], error.words, error.error_code, error.message)


def slow_down(error: RateLimited, wait_s: int) -> Response:
    """The answer to one request too many: unlike a quota it passes by itself, in ``wait_s`` seconds."""
    answer = problem(error)
    answer.headers["x-should-retry"] = "true"
    answer.headers["Retry-After"] = str(wait_s)
    return answer


async def http_problem(request: Request, error: Exception) -> Response:
    """The answer to what the router refuses: no such route, no such method, a header that is missing."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    phrase = HTTPStatus(status).phrase
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed(request.app.state.routes, request)
    detail = error.detail if isinstance(error, HTTPException) else ""
    # the router's own words are the phrase of the status, which says nothing
    message = _ROUTER_WORDS.get(status, phrase) if detail in {"", phrase} else detail
    return _answer(status, phrase.capitalize(), phrase.upper().replace(" ", "_").replace("-", "_"), message, headers)


async def validation_problem(_: Request, error: Exception) -> Response:
    """The answer to parameters of the wrong type."""
    wrong = error.errors() if isinstance(error, RequestValidationError) else []
    text = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in wrong[:5])
    return problem(Invalid(text))


async def tidemill_problem(_: Request, error: Exception) -> Response:
    """The handler of every error of ours."""
    assert isinstance(error, TidemillError)
    if isinstance(error, IllegalMove):
        return unforeseen(error)
    return problem(error)


def unforeseen(error: Exception) -> Response:
    """The answer to a bug: an id that the log repeats beside the cause, and no text."""
    number = uuid.uuid4().hex
    _LOG.error("request failed", error_id=number, exc_info=error)
    return _answer(500, "Internal error", "INTERNAL", f"the server failed; its log has the cause under id {number}")


class Boundary:
    """The outermost layer: nothing that a handler raises reaches the HTTP server, and every answer says its type."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception as error:
            if begun:
                raise  # a cut connection is the only way left to tell
            await unforeseen(error)(scope, receive, send)


_ROUTER_WORDS: Final = {404: "there is nothing at this path", 405: "this path does not take this method"}


def _answer(
    status: int, words: str, error_code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    body = render({"code": status, "error": words, "error_code": error_code, "message": message})
    answer = Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))
    if status in _FINAL:
        answer.headers["x-should-retry"] = "false"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["x-should-retry"] = "true"
        answer.headers["Retry-After"] = "1"
    return answer
