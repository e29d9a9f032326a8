"""Who asks, and the workspace they ask in."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from tidemill import signing
from tidemill.model.errors import Forbidden, Invalid, OutOfSpace, Overloaded, Unauthorized
from tidemill.model.principal import Principal, PrincipalKind
from tidemill.model.quoted import quoted
from tidemill.secrets import TASK_CREDENTIAL_PREFIX
from tidemill.service import bearer, task_seats
from tidemill.service.parts import Parts
from tidemill.signing import BadToken
from tidemill.store import api_keys
from tidemill.store.api_keys import Holder

API_KEY: Final = "api_key"
TOKEN: Final = "token"  # noqa: S105  # the kind of a credential, not one
TASK: Final = "task"
_LOG = structlog.get_logger("tidemill.identity")


@dataclass(frozen=True, slots=True)
class Presented:
    """A good credential. ``note`` is the digest of a key whose use is to be noted again; "" when none is.

    ``credential`` is its kind, for the audit.
    """

    principal: Principal
    note: str
    credential: str = API_KEY


def authenticate(parts: Parts, credential: str, workspace: str | None, *, now: datetime) -> Presented:
    """Who presents this API key, access token or task's credential, acting in ``workspace``.

    "" is the only workspace that it reaches, None any of them.

    One statement; two for the token of a task. Raises Unauthorized for a credential that is not known or has ended,
    Forbidden for a workspace that it does not reach, Invalid when it reaches several and none is named.
    """
    if credential.startswith(TASK_CREDENTIAL_PREFIX):
        return Presented(_task(parts, credential, workspace), "", TASK)
    if signing.is_token(credential):
        return Presented(_of_token(parts, credential, workspace, now), "", TOKEN)
    digest = parts.keyring.api_key_digest(credential)
    holder = parts.database.read(lambda connection: api_keys.holder(connection, digest, workspace or ""))
    if holder is None or (holder.expires_at is not None and holder.expires_at <= now):
        raise Unauthorized("this API key is not known here, or has expired")
    return Presented(_acting(holder, workspace), digest if holder.is_stale(now) else "")


def _task(parts: Parts, credential: str, workspace: str | None) -> Principal:
    """The task whose credential it is, while its attempt lives. One statement. Raises Unauthorized, Forbidden."""
    seat = task_seats.of_credential(parts, credential)
    if seat is None:
        raise Unauthorized("this is no credential of a task that runs: each ends with its attempt")
    if workspace and workspace != seat.workspace:
        by = PrincipalKind.TASK.value, seat.name, TASK
        raise Forbidden(f"this credential has no access to workspace {quoted(workspace)}", by=by)
    return seat.principal


def note_use(parts: Parts, digest: str, *, now: datetime) -> None:
    """Write down when a key was used: once a minute and key. One unit of one statement."""
    try:
        parts.database.write(partial(api_keys.used, digest=digest, now=now), wakes=False)
    except (OutOfSpace, Overloaded) as error:
        # reading goes on where nothing can be written: a time of use is not worth a refusal
        _LOG.warning("use of a key not noted", reason=error.message)


def _of_token(parts: Parts, token: str, workspace: str | None, now: datetime) -> Principal:
    try:
        found = bearer.opened(parts, token, now=now)
    except BadToken:
        # the same for all that can be wrong with it: the difference is of use only to who makes them up
        raise Unauthorized("this token is not known here, or has ended") from None
    claims = found.claims
    if workspace and workspace != claims.workspace:
        by = found.kind.value, claims.subject, TOKEN
        raise Forbidden(f"this credential has no access to workspace {quoted(workspace)}", by=by)
    return Principal(
        id=claims.subject,
        workspace=claims.workspace,
        role=found.role,
        kind=found.kind,
        scopes=found.scopes,
        execution=found.execution,
        bound=True,
    )


def _acting(holder: Holder, workspace: str | None) -> Principal:
    if workspace == "" and len(holder.reaches) > 1:
        raise Invalid("this credential reaches several workspaces: name one in X-Blaxel-Workspace or ?workspace=")
    for name, role in holder.reaches.items():
        if not workspace or workspace == name:
            return Principal(id=holder.id, workspace=name, role=role, kind=holder.kind)
    by = holder.kind.value, holder.id, API_KEY
    if not workspace:
        raise Forbidden("this credential reaches no workspace", by=by)
    raise Forbidden(f"this credential has no access to workspace {quoted(workspace)}", by=by)
