"""/v0/users: the people of the workspace (contract 2.6). A path takes an id (``sub``) or an email."""

from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.tokens import private_answer
from tidemill.api.wire import parse_json, timestamp, validated
from tidemill.api.wire_identity import UserBody, required, user_view
from tidemill.model.principal import Role
from tidemill.service import password_resets, users

router = APIRouter(prefix="/v0/users")


@router.get("")
async def list_users(call: Asked) -> Response:
    found = await call.run(partial(users.list_all, call.parts, call.principal))
    return json_answer([user_view(each) for each in found])


@router.post("")
async def add_user(call: Asked) -> Response:
    body = await _body(call)
    email, role = required(body.email, "email"), body.role or Role.MEMBER
    add = partial(users.add, call.parts, call.principal, email, role, password=body.password, now=call.now)
    added = await (call.run(add) if body.password is None else call.context.run_slow(add))
    return json_answer(user_view(added))


@router.put("/{user}")
async def change_user(call: Asked, user: str) -> Response:
    role = Role(required((await _body(call)).role, "role"))
    changed = await call.run(partial(users.set_role, call.parts, call.principal, user, role, now=call.now))
    return json_answer(user_view(changed))


@router.delete("/{user}")
async def remove_user(call: Asked, user: str) -> Response:
    gone = await call.run(partial(users.remove, call.parts, call.principal, user))
    return json_answer(user_view(gone))


@router.post("/{user}/password_reset")
async def reset_password(call: Asked, user: str) -> Response:
    make = partial(password_resets.make, call.parts, call.principal, user, now=call.now)
    link = await call.run(make)
    url = f"{call.base_url}/login/reset?{urlencode({'key': link.secret})}"
    return private_answer({"url": url, "expiresAt": timestamp(link.expires_at)})


async def _body(call: Call) -> UserBody:
    return validated(UserBody, parse_json(await call.body()), strict=call.strict)
