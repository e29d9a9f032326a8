"""/login/oidc: a browser goes to the OpenID provider, and comes back signed in.

It goes by a link, not by a form: the policy of the pages lets a form end up at no other site. Where another site sends
a browser to begin, it comes back to where it would have been sent anyway, signed in as who it is at the provider.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from tidemill.api import html
from tidemill.api.login import address_of
from tidemill.api.problems import STATUS
from tidemill.api.visits import Visit, visit_of
from tidemill.model.errors import Invalid, TidemillError
from tidemill.service import openid

router = APIRouter()

_AWAY: Final = "tidemill_away"
# a path of this origin: // and /\ begin another one's
_OURS: Final = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,511}", re.ASCII)


def openid_button(visit: Visit, wanted: str) -> str:
    """What a page shows where somebody may sign in through the provider; "" where none is configured."""
    provider = visit.context.parts.provider
    if provider is None:
        return ""
    path = f"/login/oidc?{urlencode({'next': wanted})}"
    return html.link(f"Sign in with {provider.registration.name}", path, "button")


@router.get("/login/oidc")
async def begin_at_provider(request: Request) -> Response:
    visit = await visit_of(request)
    context = visit.context
    try:
        wanted = _single(request).get("next", "")
        if wanted and not _OURS.fullmatch(wanted):
            raise Invalid("next must be a path of this server, as /device is")
        begun = await context.run_at_provider(partial(openid.begin, context.parts, wanted, now=context.clock()))
    except TidemillError as error:
        return _trouble(error)
    answer = RedirectResponse(
        begun.url, status_code=303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
    visit.keep_while_away(answer, _AWAY, begun.cookie)
    return answer


@router.get("/login/oidc/callback")
async def come_back(request: Request) -> Response:
    visit = await visit_of(request)
    context, cookie = visit.context, visit.kept(_AWAY)
    is_ours = False
    try:
        query = _single(request)
        is_ours = openid.is_of(context.parts, cookie, query.get("state", ""), now=context.clock())
        finish = partial(openid.finish, context.parts, cookie, query, address_of(request), now=context.clock())
        known = await context.run_at_provider(finish)
    except TidemillError as error:
        answer = _trouble(error)
    else:
        wanted = known.wanted or "/device"
        page = html.page("Signed in", [html.link("Go on", wanted)], onward=wanted)
        answer = await visit.welcomed(known.account, page, openid.CREDENTIAL)
    if is_ours:  # else the sign-in of this browser goes on, whatever somebody made it ask for
        visit.keep_while_away(answer, _AWAY, "")
    return answer


def _single(request: Request) -> Mapping[str, str]:
    """The query. Raises Invalid for what is there more than once (RFC 6749, 3.1)."""
    query = request.query_params
    for name in query:
        if len(query.getlist(name)) > 1:
            raise Invalid(f"{name[:64]} is there more than once")
    return query


def _trouble(error: TidemillError) -> Response:
    """A page that leaves the cookies alone: a browser that another site sent has not brought them all."""
    again = html.link("Back to sign in", "/login")
    return html.page("That did not work", [html.told(error.message), again], STATUS[type(error)])
