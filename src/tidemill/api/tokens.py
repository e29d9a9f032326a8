"""/v0/oauth: tokens for programs (contract 2.3; RFC 6749, 7009, 7662). Bodies are JSON or forms."""

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Final, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill.api import limits
from tidemill.api.auth import Asked
from tidemill.api.calls import context_of, json_answer, read_body
from tidemill.api.forms import FORM_BYTES, is_form, parse_form
from tidemill.api.wire import parse_json, render, validated
from tidemill.api.wire_tokens import DeviceBody, TokenBody, TokenOnlyBody, tokens_view
from tidemill.model.errors import GrantRefused, Invalid
from tidemill.model.quoted import quoted
from tidemill.service import device_flow, tokens
from tidemill.service.tokens import Tokens

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS: Final = ("client_credentials", "refresh_token", DEVICE_CODE)

B = TypeVar("B", TokenBody, TokenOnlyBody, DeviceBody)

open_router = APIRouter(prefix="/v0/oauth")
router = APIRouter(prefix="/v0/oauth")


@open_router.post("/token")
async def token(request: Request) -> Response:
    context = context_of(request)
    now = context.clock()
    body = await oauth_body(request, TokenBody)
    match body.grant_type:
        case "client_credentials":
            client_id, secret = _client(request, body)
            grant = partial(tokens.for_client, context.parts, client_id, secret, body.scope or "", now=now)
        case "refresh_token":
            if not body.refresh_token:
                raise GrantRefused("invalid_request", "refresh_token is missing; it must be the one of the last answer")
            grant = partial(tokens.refresh, context.parts, body.refresh_token, body.scope or "", now=now)
        case "urn:ietf:params:oauth:grant-type:device_code":
            if not body.device_code:
                raise GrantRefused("invalid_request", "device_code is missing; it must be what /v0/login/device gave")
            grant = partial(device_flow.poll, context.parts, body.device_code, body.client_id or "", now=now)
        case None:
            raise GrantRefused("invalid_request", f"grant_type is missing; it must be one of {', '.join(GRANTS)}")
        case other:
            raise GrantRefused(
                "unsupported_grant_type", f"grant_type is {quoted(other)}; it must be one of {', '.join(GRANTS)}"
            )
    given = await context.run(grant)
    # who has shown a good credential is not counted among those who have none: tasks of a node share an address
    await limits.asks(request)
    return answered(given)


@open_router.post("/revoke")
async def revoke(request: Request) -> Response:
    """Whoever holds a token may end it: holding it is the proof, as it is with requests."""
    context = context_of(request)
    now = context.clock()
    body = await oauth_body(request, TokenOnlyBody)
    await context.run(partial(tokens.revoke, context.parts, _given(body), now=now))
    return json_answer({})


@router.post("/introspect")
async def introspect(call: Asked) -> Response:
    body = await oauth_body(call.request, TokenOnlyBody)
    told = await call.run(partial(tokens.introspect, call.parts, call.principal, _given(body), now=call.now))
    return private_answer(told)


def answered(given: Tokens) -> Response:
    """The answer that all clients can read: four members and no other (contract 2.3, 12.13)."""
    return private_answer(tokens_view(given))


def private_answer(value: Mapping[str, object]) -> Response:
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return Response(render(value), media_type="application/json", headers=headers)


def _given(body: TokenOnlyBody) -> str:
    if not body.token:
        raise GrantRefused("invalid_request", "token is missing; it must be an access token or a refresh token")
    return body.token


def _client(request: Request, body: TokenBody) -> tuple[str, str]:
    """Id and secret: of the header, else of the body (RFC 6749, section 2.3.1). Raises GrantRefused."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        if body.client_secret:
            raise GrantRefused("invalid_request", "client_secret is in the body and in Authorization: send it once")
        try:
            client_id, colon, secret = base64.b64decode(given.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon or (body.client_id and body.client_id != client_id):
            raise GrantRefused(
                "invalid_client",
                "Authorization must be `Basic` and base64 of client_id:client_secret, for this client_id",
            )
        return client_id, secret
    for name, value in (("client_id", body.client_id), ("client_secret", body.client_secret)):
        if not value:
            raise GrantRefused(
                "invalid_client", f"{name} is missing: send both, in the body or in Authorization: Basic"
            )
    return body.client_id or "", body.client_secret or ""


async def oauth_body(request: Request, model: type[B]) -> B:
    """A form or a JSON object. Raises GrantRefused naming what is wrong, in the words that clients of OAuth know."""
    raw = await read_body(request, FORM_BYTES)
    try:
        if is_form(request):
            return validated(model, parse_form(raw), strict=False)
        return validated(model, parse_json(raw), strict=False)
    except Invalid as error:
        raise GrantRefused("invalid_request", error.message) from None
