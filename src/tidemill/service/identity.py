"""Who asks, and the workspace they ask in."""

import uuid
from datetime import datetime
from typing import Final

from tidemill.model.errors import NotFound, Unauthorized
from tidemill.model.principal import Principal, Role
from tidemill.secrets import KeyRing
from tidemill.service.parts import Parts
from tidemill.store import identity
from tidemill.store.database import Database
from tidemill.store.identity import NewKey, Workspace

_PREFIX_SHOWN: Final = 8


def authenticate(parts: Parts, api_key: str, *, now: datetime) -> Principal:
    """Whose API key it is. One statement. Raises Unauthorized."""
    digest = parts.keyring.api_key_digest(api_key)
    found = parts.database.read(lambda connection: identity.principal(connection, digest, now=now))
    if found is None:
        raise Unauthorized("this API key is not known here, or has expired")
    return found


def get_workspace(parts: Parts, principal: Principal, name: str) -> Workspace:
    """The workspace, if the principal's credential reaches it. One statement. Raises NotFound."""
    found = None
    if name == principal.workspace:
        found = parts.database.read(lambda connection: identity.find_workspace(connection, name))
    if found is None:
        raise NotFound(f"no workspace {name[:64]!r} that this credential reaches")
    return found


def ensure_admin(database: Database, keyring: KeyRing, workspace: str, api_key: str, *, now: datetime) -> None:
    """Make the workspace and its admin's key unless they are there. Two units of two statements."""
    key = NewKey(
        digest=keyring.api_key_digest(api_key),
        id=f"key-{uuid.uuid4().hex}",
        workspace=workspace,
        name="admin",
        prefix=api_key[:_PREFIX_SHOWN],
        role=Role.ADMIN,
    )
    database.write(lambda connection: identity.ensure_workspace(connection, workspace, now=now))
    database.write(lambda connection: identity.ensure_key(connection, key, now=now))
