"""/login and /device: a person signs in, and says yes or no to a program that waits.

Every form carries a token that fits two cookies, one of any browser and one of its session; both are SameSite=Strict.
Another way to sign in (an OpenID provider): a button in ``_sign_in_page`` and a route that ends in ``Visit.welcomed``.
"""

from functools import partial
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill.api import html
from tidemill.api.login import address_of
from tidemill.api.openid_pages import openid_button
from tidemill.api.visits import SESSION, Visit, fields_of, to, trouble, visit_of
from tidemill.model.errors import Forbidden, Invalid, TidemillError
from tidemill.service import device_flow, sign_in

router = APIRouter()

_WRONG: Final = "That email and password do not fit together, or nobody can sign in with them."


@router.get("/login")
async def show_sign_in(request: Request) -> Response:
    visit = await visit_of(request)
    if visit.browser is None:
        return _sign_in_page(visit, "")
    return visit.answered(html.page("Signed in", [html.line(visit.browser.who.email), _sign_out(visit)]))


@router.post("/login")
async def take_sign_in(request: Request) -> Response:
    visit = await visit_of(request)
    try:
        fields = await fields_of(visit)
        tried = partial(
            sign_in.by_password,
            visit.context.parts,
            fields.get("email", ""),
            fields.get("password", ""),
            address_of(request),
            now=visit.context.clock(),
        )
        account = await visit.context.run_slow(tried)
    except TidemillError as error:
        return trouble(visit, error)
    code = fields.get("user_code", "")
    if account is None:
        return _sign_in_page(visit, code, _WRONG, 401)
    return await visit.welcomed(account, to(_device_page(code)))


@router.post("/login/end")
async def end_sign_in(request: Request) -> Response:
    visit = await visit_of(request)
    try:
        await fields_of(visit)
    except TidemillError as error:
        return trouble(visit, error)
    if visit.browser is not None:
        await visit.context.run(partial(sign_in.end, visit.context.parts, visit.browser, now=visit.context.clock()))
    answer = to("/login")
    visit.keep(answer, SESSION, "")
    return answer


@router.get("/device")
async def show_question(request: Request, user_code: str = "") -> Response:
    visit = await visit_of(request)
    if visit.browser is None:
        return _sign_in_page(visit, user_code)
    if not user_code:
        return _code_page(visit)
    try:
        ask = partial(
            device_flow.question, visit.context.parts, visit.browser.who, user_code, now=visit.context.clock()
        )
        asked = await visit.context.run(ask)
    except TidemillError as error:
        return trouble(visit, error)
    return _question_page(visit, user_code, asked)


@router.post("/device")
async def take_decision(request: Request) -> Response:
    visit = await visit_of(request)
    if visit.browser is None:
        return trouble(visit, Forbidden("you are not signed in any more: open the page again"))
    try:
        fields = await fields_of(visit)
        is_yes, workspace = fields.get("decision") == "approve", fields.get("workspace", "")
        if is_yes and not workspace:
            raise Invalid("choose a workspace")
        decide = partial(
            device_flow.decide,
            visit.context.parts,
            visit.browser.who,
            fields.get("user_code", ""),
            workspace if is_yes else "",
            now=visit.context.clock(),
        )
        await visit.context.run(decide)
    except TidemillError as error:
        return trouble(visit, error)
    words = "It goes on by itself; you may close this page." if is_yes else "It gets nothing; you may close this page."
    return visit.answered(html.page("Approved" if is_yes else "Denied", [html.line(words)]))


def _device_page(user_code: str) -> str:
    return f"/device?{urlencode({'user_code': user_code})}" if user_code else "/device"


def _sign_in_page(visit: Visit, user_code: str, trouble: str = "", status: int = 200) -> Response:
    hidden = {"token": visit.token} | ({"user_code": user_code} if user_code else {})
    fields = [
        html.field("Email", "email", kind="email", complete="username"),
        html.field("Password", "password", kind="password", complete="current-password"),
        html.button("Sign in"),
    ]
    body = [*([html.told(trouble)] if trouble else []), html.form("/login", fields, hidden)]
    return visit.answered(html.page("Sign in", [*body, openid_button(visit, _device_page(user_code))], status))


def _code_page(visit: Visit) -> Response:
    ask = (
        '<form method="get" action="/device">\n' + html.field("Code", "user_code") + html.button("Go on") + "</form>\n"
    )
    words = "Type the code that the program shows."
    return visit.answered(html.page("A program waits", [html.line(words), ask, _sign_out(visit)]))


def _question_page(visit: Visit, user_code: str, asked: device_flow.Question) -> Response:
    if not asked.workspaces:
        return trouble(visit, Forbidden("you are in no workspace: there is nothing to let a program into"))
    words = f"A program that calls itself {asked.client} wants to act for you, with all that your role may do."
    limits = " ".join(word for word in asked.scope.split() if word != "offline_access")
    if limits:
        words = f"A program that calls itself {asked.client} wants to act for you, with these rights: {limits}."
    fields = [
        html.choice(
            "Workspace", "workspace", [(name, f"{name} ({role.value})") for name, role in asked.workspaces.items()]
        ),
        html.button("Approve", "decision", "approve"),
        html.button("Deny", "decision", "deny"),
    ]
    body = [
        html.line(words),
        html.line(
            f"Its code is {user_code}. Approve only if you have just started it yourself and it shows this code."
        ),
        html.form("/device", fields, {"token": visit.token, "user_code": user_code}),
        _sign_out(visit),
    ]
    return visit.answered(html.page("Let a program in?", body))


def _sign_out(visit: Visit) -> str:
    return html.form("/login/end", [html.button("Sign out")], {"token": visit.token})
