"""Service accounts: programs that reach one workspace."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tidemill.model.principal import PrincipalKind, Role
from tidemill.store import schema

_SERVICE: Final = schema.service_account.c
_COLUMNS: Final = (
    _SERVICE.client_id,
    _SERVICE.workspace,
    _SERVICE.name,
    _SERVICE.description,
    _SERVICE.role,
    _SERVICE.created_at,
    _SERVICE.created_by,
    _SERVICE.updated_at,
    _SERVICE.updated_by,
)
_BY_ID: Final = select(*_COLUMNS, _SERVICE.secret_digest).where(_SERVICE.client_id == bindparam("client_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A program of one workspace; its client secret is kept as a keyed digest and never shown."""

    client_id: str
    workspace: str
    name: str
    description: str
    role: Role
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


def _account(row: schema.AnyRow) -> ServiceAccount:
    members = {column.name: getattr(row, column.name) for column in _COLUMNS}
    return ServiceAccount(**{**members, "role": Role(row.role)})


def find(connection: Connection, client_id: str) -> tuple[ServiceAccount, str] | None:
    """It and the digest of its secret, whatever its workspace. One statement, by primary key."""
    row = connection.execute(_BY_ID, {"client_id": client_id}).one_or_none()
    return None if row is None else (_account(row), row.secret_digest)


def of_workspace(connection: Connection, workspace: str) -> list[ServiceAccount]:
    """All of a workspace, oldest first. One statement, over ``service_account_workspace``."""
    rows = connection.execute(
        select(*_COLUMNS).where(_SERVICE.workspace == workspace).order_by(_SERVICE.created_at, _SERVICE.client_id)
    )
    return [_account(row) for row in rows]


def add(connection: Connection, new: ServiceAccount, secret_digest: str) -> None:
    """One statement."""
    connection.execute(
        insert(schema.service_account).values(
            client_id=new.client_id,
            workspace=new.workspace,
            name=new.name,
            description=new.description,
            role=new.role.value,
            secret_digest=secret_digest,
            created_at=new.created_at,
            created_by=new.created_by,
            updated_at=new.updated_at,
            updated_by=new.updated_by,
        )
    )


def change(connection: Connection, changed: ServiceAccount) -> None:
    """Keep its name, description and role. One statement, by primary key."""
    connection.execute(
        update(schema.service_account)
        .where(_SERVICE.client_id == changed.client_id)
        .values(
            name=changed.name,
            description=changed.description,
            role=changed.role.value,
            updated_at=changed.updated_at,
            updated_by=changed.updated_by,
        )
    )


def remove(connection: Connection, client_id: str) -> None:
    """Forget it and its keys. Two statements."""
    keys = schema.api_key.c
    connection.execute(
        delete(schema.api_key).where(keys.owner_kind == PrincipalKind.SERVICE_ACCOUNT.value, keys.owner == client_id)
    )
    connection.execute(delete(schema.service_account).where(_SERVICE.client_id == client_id))
