"""The application: its routes, which of them need no credential, and what stands before them all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from tidemill.api import (
    audit,
    callbacks,
    description,
    discovery,
    elsewhere,
    endpoints,
    events,
    executions,
    explain,
    health,
    jobs,
    keys,
    limits,
    login,
    login_pages,
    logs,
    nodes,
    openid_pages,
    problems,
    reference,
    reset_pages,
    results,
    service_accounts,
    shields,
    tokens,
    triggers,
    uploads,
    users,
    workspaces,
)
from tidemill.api.audited import AuditLayer
from tidemill.api.auth import authenticate
from tidemill.api.calls import Context
from tidemill.model.errors import TidemillError

PUBLIC: Final[Mapping[str, str]] = {
    "/healthz": "a supervisor asks it, before anybody has a credential",
    "/readyz": "a load balancer asks it, and it names no tenant's things",
    "/v0/openapi.json": "tools read it before anybody has a credential, and it names no tenant's things",
    "/docs": "the same description, as a page",
    "/docs/{file}": "what that page is made of: three files, by name",
    "/uploads/{capability}": "the official command line sends no credential: 256 random bits of the path are one",
    "/v0/oauth/token": "it is where a credential is given for another: a client secret or a refresh token",
    "/v0/oauth/revoke": "whoever holds a token may end it, and nothing else can be done here",
    "/v0/login/device": "a program asks it that has no credential yet; a person decides (contract 2.4)",
    "/login": "people sign in there: it shows and takes a form",
    "/login/reset": "an admin's link, 256 bits of which are a keyed hash, is the credential; it shows and takes a form",
    "/login/end": "it ends the session of the browser that asks",
    "/login/oidc": "a browser begins to sign in there, through the provider that is configured",
    "/login/oidc/callback": "the provider sends it back there: it is asked for the cookie that it began with",
    "/device": "for a browser's session, which it asks for itself: it shows a form to who has none",
    "/v0/.well-known/openid-configuration": "clients read it before they have a token; it names no tenant's things",
    "/v0/.well-known/oauth-authorization-server": "the same, under the name of RFC 8414",
    "/.well-known/oauth-authorization-server/v0": "the same, where RFC 8414 looks for it",
    "/v0/.well-known/jwks.json": "public keys, for whoever checks a token by themselves",
}
"""The routes without a credential, each with its reason; all others ask for one."""

_OPEN: Final[tuple[APIRouter, ...]] = (
    health.router,
    description.router,
    reference.router,
    uploads.router,
    tokens.open_router,
    discovery.router,
    login.open_router,
    login_pages.router,
    reset_pages.router,
    openid_pages.router,
)
_GUARDED: Final[tuple[APIRouter, ...]] = (
    jobs.router,
    triggers.router,
    executions.router,
    explain.router,
    results.router,
    callbacks.router,
    logs.router,
    events.router,
    workspaces.router,
    audit.router,
    keys.router,
    nodes.router,
    service_accounts.router,
    users.router,
    tokens.router,
    login.router,
    elsewhere.router,
)


_BY_TRIGGER: Final[tuple[APIRouter, ...]] = (endpoints.router,)
"""Whether a credential is asked for is said by the trigger that is called: its ``authorize`` sees to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What stands before the routes. ``clock`` counts seconds from anywhere; ``origins`` are pages that may call."""

    rates: limits.Rates = field(default_factory=limits.Rates)
    origins: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic


def build(context: Context, edge: Edge = Edge()) -> FastAPI:
    """The ASGI application over ``context``. It never redirects."""
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(shields.Shields),
            *shields.cross_origin(edge.origins),
            Middleware(problems.Boundary),
            Middleware(limits.Gate, rates=edge.rates, clock=edge.clock),
            Middleware(AuditLayer, context=context, proxies=edge.rates.trusted_proxies),
        ],
        exception_handlers={
            TidemillError: problems.tidemill_problem,
            HTTPException: problems.http_problem,
            RequestValidationError: problems.validation_problem,
        },
    )
    app.state.context = context
    app.state.routes = [route for router in (*_OPEN, *_GUARDED, *_BY_TRIGGER) for route in router.routes]
    for router in _OPEN:
        app.include_router(router)
    guards = [Depends(limits.asks), Depends(authenticate), Depends(limits.found_good)]  # in this order
    for router in _GUARDED:
        app.include_router(router, dependencies=guards)
    for router in _BY_TRIGGER:
        app.include_router(router)
    return app
