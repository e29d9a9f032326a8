"""Service accounts of a workspace: programs with credentials of their own. Admins of the workspace only (scopes)."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from tidemill import secrets
from tidemill.model.errors import Forbidden, NotFound
from tidemill.model.principal import Principal, Role
from tidemill.model.quoted import quoted
from tidemill.service.parts import Parts
from tidemill.store import service_accounts
from tidemill.store.database import Connection
from tidemill.store.service_accounts import ServiceAccount


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountWish:
    """What a caller wants it to be; None keeps what is there, or takes the default: no description, a member."""

    name: str | None = None
    description: str | None = None
    role: Role | None = None


def list_all(parts: Parts, principal: Principal) -> list[ServiceAccount]:
    """All of the caller's workspace, oldest first. One statement."""
    return parts.database.read(lambda connection: service_accounts.of_workspace(connection, principal.workspace))


def create(
    parts: Parts, principal: Principal, name: str, wish: ServiceAccountWish, *, now: datetime
) -> tuple[ServiceAccount, str]:
    """A new one and its client secret, which nobody can be told again. One unit. Raises Forbidden."""
    if principal.is_narrowed:
        raise Forbidden("a token limited in scope makes no service accounts: they would not be limited")
    secret = secrets.new_client_secret()
    new = ServiceAccount(
        client_id=f"sa-{uuid.uuid4()}",
        workspace=principal.workspace,
        name=name,
        description=wish.description or "",
        role=wish.role or Role.MEMBER,
        created_at=now,
        created_by=principal.id,
        updated_at=now,
        updated_by=principal.id,
    )
    digest = parts.keyring.client_secret_digest(secret)

    def unit(connection: Connection) -> ServiceAccount:
        service_accounts.add(connection, new, digest)
        return new

    return parts.database.write(unit), secret


def change(
    parts: Parts, principal: Principal, client_id: str, wish: ServiceAccountWish, *, now: datetime
) -> ServiceAccount:
    """One unit. Raises NotFound, Forbidden as ``create``."""
    if wish.role is not None and principal.is_narrowed:
        raise Forbidden("a token limited in scope gives no roles: they would not be limited")

    def unit(connection: Connection) -> ServiceAccount:
        found = of_workspace(connection, principal.workspace, client_id)
        changed = replace(
            found,
            name=found.name if wish.name is None else wish.name,
            description=found.description if wish.description is None else wish.description,
            role=found.role if wish.role is None else wish.role,
            updated_at=now,
            updated_by=principal.id,
        )
        service_accounts.change(connection, changed)
        return changed

    return parts.database.write(unit)


def delete(parts: Parts, principal: Principal, client_id: str) -> ServiceAccount:
    """End it and all its credentials at once. One unit. Raises NotFound."""

    def unit(connection: Connection) -> ServiceAccount:
        found = of_workspace(connection, principal.workspace, client_id)
        service_accounts.remove(connection, client_id)
        return found

    return parts.database.write(unit)


def of_workspace(connection: Connection, workspace: str, client_id: str) -> ServiceAccount:
    """One statement. Raises NotFound, for one of another workspace too."""
    found = service_accounts.find(connection, client_id)
    if found is None or found[0].workspace != workspace:
        raise NotFound(f"no service account {quoted(client_id)} in workspace {quoted(workspace)}")
    return found[0]
