"""Which methods a path takes: the routes of one path are several, each of which knows its own only."""

from collections.abc import Iterable

from fastapi import Request
from starlette.routing import BaseRoute, Match, Route


def allowed(routes: Iterable[BaseRoute], request: Request) -> str:
    """What an ``Allow`` header says of the request's path (RFC 9110, 10.2.1); empty when no route has this path."""
    found = set[str]()
    for route in routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return ", ".join(sorted(found))
