"""Who is calling, in which workspace, and may they: the one dependency of every route that is not public."""

from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Request

from tidemill.api.audited import begin
from tidemill.api.calls import PAGED_VERSION, VERSIONS, Call, context_of
from tidemill.api.scopes import ANYWHERE, SCOPES
from tidemill.model.errors import Forbidden, NotFound, Unauthorized, UnknownVersion
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.service import identity

_SCHEME: Final = "bearer"
_MAX_WORKSPACE: Final = 64


async def authenticate(request: Request) -> Call:
    """The authenticated request.

    Raises Unauthorized without a good credential, Forbidden for a workspace that it does not reach and for a scope
    that it or its role lacks, Invalid where several workspaces are meant, UnknownVersion.
    """
    context = context_of(request)
    now = context.clock()
    route = request.method, request.scope["route"].path_format
    workspace = _workspace(request)
    if not workspace and route in ANYWHERE:
        workspace = None
    credential = _bearer(request)
    try:
        # one row by primary keys, which waits for no writer: a thread would cost more (docs/decisions/0095)
        presented = identity.authenticate(context.parts, credential, workspace, now=now)
    except Forbidden as error:
        if error.by is not None:
            kind, actor, presents = error.by
            begin(request, actor, kind, (workspace or "")[:_MAX_WORKSPACE], presents, now).refused = True
        if "workspace_name" in request.path_params:
            raise NotFound(f"no workspace {quoted(workspace)} that this credential reaches") from None
        raise
    principal, scope = presented.principal, SCOPES[route]
    record = begin(request, principal.id, principal.kind.value, principal.workspace, presented.credential, now)
    if not principal.may(scope):
        raise Forbidden(
            f"this needs the scope {scope}, which the role {principal.role.value!r} or the credential does not have"
        )
    _check_own(request, principal)
    if presented.note:
        await context.run(partial(identity.note_use, context.parts, presented.note, now=now))
    paged = _is_paged(request)
    return Call(context=context, request=request, principal=principal, paged=paged, now=now, record=record)


Asked = Annotated[Call, Depends(authenticate)]
"""The parameter by which a handler takes its authenticated request."""


def _check_own(request: Request, principal: Principal) -> None:
    """A task sees its own execution, under its job's name and its whole id, and nothing else. Raises Forbidden."""
    own, path = principal.execution, request.path_params
    if own is not None and (path.get("name"), path.get("execution")) != (own.job, own.id):
        raise Forbidden("the credential of a task reads the execution that the task is of, and nothing else")


def _workspace(request: Request) -> str | None:
    """The workspace that is meant: of the path, else the header, else the query; "" when none is named."""
    return (
        request.path_params.get("workspace_in_path")
        or request.path_params.get("workspace_name")
        or request.headers.get("x-blaxel-workspace")
        or request.query_params.get("workspace")
        or ""
    )


def _bearer(request: Request) -> str:
    """The credential; X-Blaxel-Authorization wins: the official command line may send both (docs/wire.md, 2.1)."""
    value = request.headers.get("x-blaxel-authorization") or request.headers.get("authorization") or ""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != _SCHEME or not token.strip():
        raise Unauthorized(
            "no credential: send `Bearer API_KEY` or `Bearer TOKEN` in Authorization or X-Blaxel-Authorization"
        )
    return token.strip()


def _is_paged(request: Request) -> bool:
    version = request.headers.get("blaxel-version") or VERSIONS[0]
    day = version.removesuffix(".preview")
    if day not in VERSIONS:
        raise UnknownVersion(f"Blaxel-Version is {quoted(version)}; it must be one of {', '.join(VERSIONS)}")
    return day >= PAGED_VERSION
