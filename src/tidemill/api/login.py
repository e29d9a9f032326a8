"""Programs that wait for a person's yes (contract 2.4), and the passwords of people."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill.api.audited import record_of
from tidemill.api.auth import Asked
from tidemill.api.calls import base_url, context_of, json_answer
from tidemill.api.tokens import oauth_body, private_answer
from tidemill.api.wire import parse_json, validated
from tidemill.api.wire_identity import required
from tidemill.api.wire_tokens import DeviceBody, PasswordBody, started_view
from tidemill.model.errors import GrantRefused
from tidemill.service import device_flow, sign_in

open_router = APIRouter()
router = APIRouter()

_LONGEST_NAME: Final = 64


@open_router.post("/v0/login/device")
async def start_device_login(request: Request) -> Response:
    context = context_of(request)
    body = await oauth_body(request, DeviceBody)
    client = body.client_id or ""
    if not client or len(client) > _LONGEST_NAME or not client.isprintable():
        raise GrantRefused("invalid_request", "client_id must be a name of 1 to 64 characters that can be shown")
    start = partial(
        device_flow.start, context.parts, client, body.scope or "", address_of(request), now=context.clock()
    )
    return private_answer(started_view(await context.run(start), base_url(context, request)))


@router.put("/v0/profile/password")
async def set_password(call: Asked) -> Response:
    body = validated(PasswordBody, parse_json(await call.body()), strict=call.strict)
    current, new = body.current or "", required(body.new, "new")
    change = partial(sign_in.set_password, call.parts, call.principal, current, new, now=call.now)
    await call.context.run_slow(change)
    return json_answer({"message": "the password is set; whoever was signed in with an older one is so no more"})


def address_of(request: Request) -> str:
    """By what its guesses are counted: the same address as that of its other requests."""
    return record_of(request).counted
