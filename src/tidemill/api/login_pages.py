"""/login and /device: a person signs in, and says yes or no to a program that waits.

Every form carries a token that fits two cookies, one of any browser and one of its session; both are SameSite=Strict.
Another way to sign in (an OpenID provider) is a button in ``_sign_in_page`` and a route that ends in ``_welcome``.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from tidemill.api import html
from tidemill.api.calls import Context, base_url, context_of, read_body
from tidemill.api.forms import FORM_BYTES, parse_form
from tidemill.api.login import address_of
from tidemill.api.problems import STATUS
from tidemill.model.errors import Forbidden, Invalid, TidemillError
from tidemill.service import device_flow, sign_in
from tidemill.service.sign_in import Browser

router = APIRouter()

_SESSION: Final = "tidemill_session"
_FORM: Final = "tidemill_form"
_MADE_HERE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_WRONG: Final = "That email and password do not fit together, or nobody can sign in with them."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """One request of a browser. ``form_cookie`` is its own, or a fresh one that the answer is to set."""

    context: Context
    request: Request
    form_cookie: str
    browser: Browser | None

    @property
    def token(self) -> str:
        session = "" if self.browser is None else self.browser.cookie
        return sign_in.form_token(self.context.parts, f"{self.form_cookie}/{session}")

    @property
    def is_secure(self) -> bool:
        return base_url(self.context, self.request).startswith("https:")

    def name(self, cookie: str) -> str:
        """With a prefix that a browser takes from this very host only, where the connection allows it."""
        return f"__Host-{cookie}" if self.is_secure else cookie

    def keep(self, answer: Response, cookie: str, value: str) -> None:
        """Let the browser keep a cookie that no script reads and no other site sends."""
        lasts = int(sign_in.SESSION.total_seconds()) if value else 0
        answer.set_cookie(
            self.name(cookie), value, max_age=lasts, path="/", secure=self.is_secure, httponly=True, samesite="strict"
        )

    def answered(self, answer: Response) -> Response:
        self.keep(answer, _FORM, self.form_cookie)
        return answer


@router.get("/login")
async def show_sign_in(request: Request) -> Response:
    visit = await _visit(request)
    if visit.browser is None:
        return _sign_in_page(visit, "")
    return visit.answered(html.page("Signed in", [html.line(visit.browser.who.email), _sign_out(visit)]))


@router.post("/login")
async def take_sign_in(request: Request) -> Response:
    visit = await _visit(request)
    try:
        fields = await _fields(visit)
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
        return _trouble(visit, error)
    code = fields.get("user_code", "")
    if account is None:
        return _sign_in_page(visit, code, _WRONG, 401)
    return await _welcome(visit, account, code)


@router.post("/login/end")
async def end_sign_in(request: Request) -> Response:
    visit = await _visit(request)
    try:
        await _fields(visit)
    except TidemillError as error:
        return _trouble(visit, error)
    if visit.browser is not None:
        await visit.context.run(partial(sign_in.end, visit.context.parts, visit.browser.cookie))
    answer = _to("/login")
    visit.keep(answer, _SESSION, "")
    return answer


@router.get("/device")
async def show_question(request: Request, user_code: str = "") -> Response:
    visit = await _visit(request)
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
        return _trouble(visit, error)
    return _question_page(visit, user_code, asked)


@router.post("/device")
async def take_decision(request: Request) -> Response:
    visit = await _visit(request)
    if visit.browser is None:
        return _trouble(visit, Forbidden("you are not signed in any more: open the page again"))
    try:
        fields = await _fields(visit)
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
        return _trouble(visit, error)
    words = "It goes on by itself; you may close this page." if is_yes else "It gets nothing; you may close this page."
    return visit.answered(html.page("Approved" if is_yes else "Denied", [html.line(words)]))


async def _visit(request: Request) -> _Visit:
    """One statement where the browser has a session's cookie."""
    context = context_of(request)
    prefix = "__Host-" if base_url(context, request).startswith("https:") else ""
    cookie = request.cookies.get(f"{prefix}{_SESSION}", "")
    found = await context.run(partial(sign_in.browser, context.parts, cookie, now=context.clock()))
    kept = request.cookies.get(f"{prefix}{_FORM}", "")
    # what comes back to the browser is what was made here, or a fresh one
    form_cookie = kept if _MADE_HERE.fullmatch(kept) else secrets.token_urlsafe(32)
    return _Visit(context=context, request=request, form_cookie=form_cookie, browser=found)


async def _fields(visit: _Visit) -> Mapping[str, str]:
    """Of a form that a page of ours showed to this browser. Raises Forbidden for any other, Invalid, TooLarge."""
    fields = parse_form(await read_body(visit.request, FORM_BYTES))
    if not secrets.compare_digest(fields.get("token", "").encode(), visit.token.encode()):
        raise Forbidden("this form is too old, or another site sent it: open the page again")
    return fields


async def _welcome(visit: _Visit, account: str, user_code: str) -> Response:
    """The account is signed in from now on, in this browser, whichever way it was known."""
    begin = partial(sign_in.begin, visit.context.parts, account, now=visit.context.clock())
    cookie = await visit.context.run(begin)
    answer = _to(f"/device?{urlencode({'user_code': user_code})}" if user_code else "/device")
    visit.keep(answer, _SESSION, cookie)
    return answer


def _to(path: str) -> Response:
    """A page is asked for next: a reload sends no form again."""
    return RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})


def _sign_in_page(visit: _Visit, user_code: str, trouble: str = "", status: int = 200) -> Response:
    hidden = {"token": visit.token} | ({"user_code": user_code} if user_code else {})
    fields = [
        html.field("Email", "email", kind="email", complete="username"),
        html.field("Password", "password", kind="password", complete="current-password"),
        html.button("Sign in"),
    ]
    body = [*([html.told(trouble)] if trouble else []), html.form("/login", fields, hidden)]
    return visit.answered(html.page("Sign in", body, status))


def _code_page(visit: _Visit) -> Response:
    ask = (
        '<form method="get" action="/device">\n' + html.field("Code", "user_code") + html.button("Go on") + "</form>\n"
    )
    words = "Type the code that the program shows."
    return visit.answered(html.page("A program waits", [html.line(words), ask, _sign_out(visit)]))


def _question_page(visit: _Visit, user_code: str, asked: device_flow.Question) -> Response:
    if not asked.workspaces:
        return _trouble(visit, Forbidden("you are in no workspace: there is nothing to let a program into"))
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


def _sign_out(visit: _Visit) -> str:
    return html.form("/login/end", [html.button("Sign out")], {"token": visit.token})


def _trouble(visit: _Visit, error: TidemillError) -> Response:
    return visit.answered(html.page("That did not work", [html.told(error.message)], STATUS[type(error)]))
