"""/login/reset: who holds an admin's link sets a password."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill import passwords
from tidemill.api import html
from tidemill.api.visits import Visit, fields_of, trouble, visit_of
from tidemill.model.errors import Invalid, TidemillError
from tidemill.service import password_resets

router = APIRouter()

_PATH: Final = "/login/reset"


@router.get(_PATH)
async def show_reset(request: Request, key: str = "") -> Response:
    visit = await visit_of(request)
    return await _form(visit, key)


@router.post(_PATH)
async def take_reset(request: Request) -> Response:
    visit = await visit_of(request)
    context = visit.context
    key = ""
    try:
        fields = await fields_of(visit)
        key = fields.get("key", "")
        use = partial(password_resets.use, context.parts, key, fields.get("password", ""), now=context.clock())
        await context.run_slow(use)
    except Invalid as error:
        return await _form(visit, key, error.message)
    except TidemillError as error:
        return trouble(visit, error)
    words = "Sign in with it. Whoever was signed in before, in browsers or programs, is so no more."
    return visit.answered(html.page("The password is set", [html.line(words)]))


async def _form(visit: Visit, key: str, message: str = "") -> Response:
    context = visit.context
    try:
        email = await context.run(partial(password_resets.email_of, context.parts, key, now=context.clock()))
    except TidemillError as error:
        return trouble(visit, error)
    fields = [
        html.field("New password", "password", kind="password", complete="new-password"),
        html.button("Set the password"),
    ]
    body = [
        *([html.told(message)] if message else []),
        html.line(f"For {email}: {passwords.SHORTEST} to {passwords.LONGEST} characters."),
        html.form(_PATH, fields, {"token": visit.token, "key": key}),
    ]
    return visit.answered(html.page("Set a password", body, 400 if message else 200))
