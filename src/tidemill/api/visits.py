"""A browser at the pages that are made here: its cookies, its forms, and how it comes to be signed in."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Literal

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from tidemill.api import html
from tidemill.api.calls import Context, base_url, context_of, read_body
from tidemill.api.forms import FORM_BYTES, parse_form
from tidemill.api.problems import STATUS
from tidemill.model.errors import Forbidden, TidemillError
from tidemill.service import openid, sign_in
from tidemill.service.sign_in import Browser

SESSION: Final = "tidemill_session"

_FORM: Final = "tidemill_form"
_MADE_HERE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
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

    def kept(self, cookie: str) -> str:
        """What the browser has of it; "" for nothing."""
        return self.request.cookies.get(self.name(cookie), "")

    def keep(self, answer: Response, cookie: str, value: str) -> None:
        """Let the browser keep a cookie that no script reads and no other site sends."""
        self._set(answer, cookie, value, sign_in.SESSION, "strict")

    def keep_while_away(self, answer: Response, cookie: str, value: str) -> None:
        """The same, but the browser brings it along when another site sends it back here."""
        self._set(answer, cookie, value, openid.LASTS, "lax")

    def _set(
        self, answer: Response, cookie: str, value: str, lasts: timedelta, same_site: Literal["lax", "strict"]
    ) -> None:
        answer.set_cookie(
            self.name(cookie),
            value,
            max_age=int(lasts.total_seconds()) if value else 0,
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite=same_site,
        )

    def answered(self, answer: Response) -> Response:
        """The answer, with the cookie that the page's forms fit."""
        self.keep(answer, _FORM, self.form_cookie)
        return answer

    async def welcomed(self, account: str, answer: Response, by: str = "password") -> Response:
        """The account is signed in from now on, in this browser, known ``by`` this credential. One unit."""
        begin = partial(sign_in.begin, self.context.parts, account, now=self.context.clock(), by=by)
        self.keep(answer, SESSION, await self.context.run(begin))
        return answer


async def visit_of(request: Request) -> Visit:
    """One statement where the browser has a session's cookie."""
    context = context_of(request)
    prefix = "__Host-" if base_url(context, request).startswith("https:") else ""
    cookie = request.cookies.get(f"{prefix}{SESSION}", "")
    found = await context.run(partial(sign_in.browser, context.parts, cookie, now=context.clock()))
    kept = request.cookies.get(f"{prefix}{_FORM}", "")
    # what comes back to the browser is what was made here, or a fresh one
    form_cookie = kept if _MADE_HERE.fullmatch(kept) else secrets.token_urlsafe(32)
    return Visit(context=context, request=request, form_cookie=form_cookie, browser=found)


async def fields_of(visit: Visit) -> Mapping[str, str]:
    """Of a form that a page of ours showed to this browser. Raises Forbidden for any other, Invalid, TooLarge."""
    fields = parse_form(await read_body(visit.request, FORM_BYTES))
    if not secrets.compare_digest(fields.get("token", "").encode(), visit.token.encode()):
        raise Forbidden("this form is too old, or another site sent it: open the page again")
    return fields


def to(path: str) -> Response:
    """A page is asked for next: a reload sends no form again."""
    return RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})


def trouble(visit: Visit, error: TidemillError) -> Response:
    return visit.answered(html.page("That did not work", [html.told(error.message)], STATUS[type(error)]))
