"""Workspaces and the API keys that reach them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from tidemill.model.principal import Principal, Role
from tidemill.store import schema

DEFAULT_PARALLEL_EXECUTIONS: Final = 100

_KEY: Final = schema.api_key.c
_BY_DIGEST: Final = select(_KEY.id, _KEY.workspace, _KEY.role, _KEY.expires_at).where(
    _KEY.digest == bindparam("digest")
)

_WORKSPACE: Final = schema.workspace.c
_BY_NAME: Final = select(
    _WORKSPACE.name,
    _WORKSPACE.display_name,
    _WORKSPACE.created_at,
    _WORKSPACE.max_parallel_executions,
    _WORKSPACE.max_concurrent_tasks,
    _WORKSPACE.jobs_total,
).where(_WORKSPACE.name == bindparam("name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A tenant and its quota; ``max_concurrent_tasks`` None means no limit."""

    name: str
    display_name: str
    created_at: datetime
    max_parallel_executions: int
    max_concurrent_tasks: int | None
    jobs_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An API key to keep: its keyed digest, never itself. ``prefix`` is what lists show of it."""

    digest: str
    id: str
    workspace: str
    name: str
    prefix: str
    role: Role


def principal(connection: Connection, digest: str, *, now: datetime) -> Principal | None:
    """Whose key has this digest; None when there is none or it has expired. One statement, by primary key."""
    row = connection.execute(_BY_DIGEST, {"digest": digest}).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return Principal(id=row.id, workspace=row.workspace, role=Role(row.role))


def find_workspace(connection: Connection, name: str) -> Workspace | None:
    """One statement, by primary key."""
    row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
    return None if row is None else Workspace(**row._asdict())


def ensure_workspace(connection: Connection, name: str, *, now: datetime) -> bool:
    """Make the workspace unless it is there; whether it was made. Two statements."""
    if find_workspace(connection, name) is not None:
        return False
    connection.execute(
        insert(schema.workspace).values(
            name=name, display_name=name, created_at=now, max_parallel_executions=DEFAULT_PARALLEL_EXECUTIONS
        )
    )
    return True


def ensure_key(connection: Connection, key: NewKey, *, now: datetime) -> bool:
    """Keep the key unless its digest is known; whether it was new. Two statements, by primary key."""
    if connection.scalar(select(schema.api_key.c.id).where(schema.api_key.c.digest == key.digest)) is not None:
        return False
    connection.execute(
        insert(schema.api_key).values(
            digest=key.digest,
            id=key.id,
            workspace=key.workspace,
            name=key.name,
            prefix=key.prefix,
            role=key.role.value,
            created_at=now,
        )
    )
    return True
