"""Workspaces: tenants and their quotas."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tidemill.store import schema

DEFAULT_PARALLEL_EXECUTIONS: Final = 100

_WORKSPACE: Final = schema.workspace.c
_COLUMNS: Final = (
    _WORKSPACE.name,
    _WORKSPACE.display_name,
    _WORKSPACE.labels,
    _WORKSPACE.created_at,
    _WORKSPACE.created_by,
    _WORKSPACE.updated_at,
    _WORKSPACE.updated_by,
    _WORKSPACE.max_parallel_executions,
    _WORKSPACE.max_concurrent_tasks,
    _WORKSPACE.jobs_total,
)
_BY_NAME: Final = select(*_COLUMNS).where(_WORKSPACE.name == bindparam("name"), _WORKSPACE.deleted_at.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A tenant and its quota; ``max_concurrent_tasks`` None means no limit. ``updated_at`` None: never changed."""

    name: str
    display_name: str
    created_at: datetime
    max_parallel_executions: int = DEFAULT_PARALLEL_EXECUTIONS
    max_concurrent_tasks: int | None = None
    jobs_total: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    created_by: str = ""
    updated_at: datetime | None = None
    updated_by: str = ""


def find(connection: Connection, name: str) -> Workspace | None:
    """One statement, by primary key. None for one that was deleted, too."""
    row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
    return None if row is None else Workspace(**row._asdict())


def find_all(connection: Connection, names: list[str]) -> list[Workspace]:
    """Those of these names, by name. One statement, by primary key."""
    rows = connection.execute(
        select(*_COLUMNS).where(_WORKSPACE.name.in_(names), _WORKSPACE.deleted_at.is_(None)).order_by(_WORKSPACE.name)
    )
    return [Workspace(**row._asdict()) for row in rows]


def is_taken(connection: Connection, name: str) -> bool:
    """Whether the name was ever used. One statement, by primary key."""
    return connection.scalar(select(_WORKSPACE.name).where(_WORKSPACE.name == name)) is not None


def create(connection: Connection, new: Workspace) -> bool:
    """Keep a new workspace; False when its name was ever used. Two statements."""
    if is_taken(connection, new.name):
        return False
    connection.execute(
        insert(schema.workspace).values(
            name=new.name,
            display_name=new.display_name,
            labels=dict(new.labels),
            created_at=new.created_at,
            created_by=new.created_by,
            max_parallel_executions=new.max_parallel_executions,
        )
    )
    return True


def change(connection: Connection, changed: Workspace) -> None:
    """Keep its display name and labels, and who changed them. One statement, by primary key."""
    connection.execute(
        update(schema.workspace)
        .where(_WORKSPACE.name == changed.name)
        .values(
            display_name=changed.display_name,
            labels=dict(changed.labels),
            updated_by=changed.updated_by,
            updated_at=changed.updated_at,
        )
    )


def remove(connection: Connection, name: str, *, now: datetime) -> None:
    """End the workspace and every way to reach it; its name stays taken. Five statements."""
    connection.execute(
        delete(schema.api_key).where(
            schema.api_key.c.owner_kind == "service_account",
            schema.api_key.c.owner.in_(
                select(schema.service_account.c.client_id).where(schema.service_account.c.workspace == name)
            ),
        )
    )
    connection.execute(delete(schema.service_account).where(schema.service_account.c.workspace == name))
    connection.execute(delete(schema.membership).where(schema.membership.c.workspace == name))
    connection.execute(delete(schema.sign_in).where(schema.sign_in.c.workspace == name))
    connection.execute(update(schema.workspace).where(_WORKSPACE.name == name).values(deleted_at=now))
