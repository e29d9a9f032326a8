"""Workspaces, as those who reach them may see and change them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from tidemill.model.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from tidemill.model.principal import Principal, PrincipalKind, Role
from tidemill.model.quoted import quoted
from tidemill.service.parts import Parts
from tidemill.store import identity, workspaces
from tidemill.store.database import Connection
from tidemill.store.workspaces import Workspace

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VERSION: Final = re.compile(r"v[0-9]+")
RESERVED: Final = frozenset({"v0", "console", "docs", "login", "device", "healthz", "readyz", "metrics", "uploads"})
"""First parts of paths that are the server's own: a workspace's name begins the paths of its jobs."""


class Unavailable(StrEnum):
    """Why a name cannot be had (contract 2.6)."""

    TAKEN = "taken"
    RESERVED = "forbidden_reserved"
    BLAXEL = "forbidden_blaxel"
    VERSION = "forbidden_v_prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceWish:
    """What a caller wants a workspace to be; None keeps what is there."""

    display_name: str | None = None
    labels: Mapping[str, str] | None = None


def list_all(parts: Parts, principal: Principal) -> list[Workspace]:
    """Those that the credential reaches, by name: a user's key all of theirs, any other one. At most two statements."""

    def read(connection: Connection) -> list[Workspace]:
        if principal.kind is PrincipalKind.USER and not principal.bound:
            return workspaces.find_all(connection, list(identity.workspaces_of(connection, principal.id)))
        return workspaces.find_all(connection, [principal.workspace])

    return parts.database.read(read)


def get(parts: Parts, principal: Principal) -> Workspace:
    """The one that the caller acts in. One statement."""
    return parts.database.read(lambda connection: _found(connection, principal))


def create(parts: Parts, principal: Principal, name: str, wish: WorkspaceWish, *, now: datetime) -> Workspace:
    """Make a workspace whose first admin is the caller. One unit. Raises Invalid, Forbidden, AlreadyExists."""
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("a service account belongs to one workspace: only a user can make another")
    _check_name(name)
    new = Workspace(
        name=name,
        display_name=wish.display_name or name,
        labels=wish.labels or {},
        created_at=now,
        created_by=principal.id,
    )

    def unit(connection: Connection) -> Workspace:
        if not workspaces.create(connection, new):
            raise AlreadyExists(f"the name {quoted(name)} is taken, or was: names of workspaces are never used again")
        identity.set_role(connection, principal.id, name, Role.ADMIN, now=now)
        return new

    return parts.database.write(unit)


def change(parts: Parts, principal: Principal, wish: WorkspaceWish, *, now: datetime) -> Workspace:
    """Change the one that the caller acts in. One unit."""

    def unit(connection: Connection) -> Workspace:
        found = _found(connection, principal)
        labels = found.labels if wish.labels is None else wish.labels
        display_name = found.display_name if wish.display_name is None else wish.display_name or found.name
        changed = replace(found, display_name=display_name, labels=labels, updated_by=principal.id, updated_at=now)
        workspaces.change(connection, changed)
        return changed

    return parts.database.write(unit)


def delete(parts: Parts, principal: Principal, *, now: datetime) -> Workspace:
    """End the one that the caller acts in, and every credential that reaches it alone. One unit.

    Raises Conflict while it has jobs.
    """

    def unit(connection: Connection) -> Workspace:
        found = _found(connection, principal)
        if found.jobs_total:
            raise Conflict(f"workspace {quoted(found.name)} has {found.jobs_total} jobs: delete them first")
        workspaces.remove(connection, found.name, now=now)
        return found

    return parts.database.write(unit)


def leave(parts: Parts, principal: Principal) -> Workspace:
    """The caller is no member any more. One unit.

    Raises Forbidden for a service account, Conflict for the last admin.
    """
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("a service account belongs to its workspace and cannot leave it")

    def unit(connection: Connection) -> Workspace:
        found = _found(connection, principal)
        keep_an_admin(connection, found.name, principal.role)
        identity.remove_member(connection, principal.id, found.name)
        return found

    return parts.database.write(unit)


def availability(parts: Parts, name: str) -> Unavailable | None:
    """Why the name cannot be had; None when it can. At most one statement. Raises Invalid for what is no name."""
    _check_form(name)
    reason = _forbidden(name)
    if reason is None and parts.database.read(lambda connection: workspaces.is_taken(connection, name)):
        return Unavailable.TAKEN
    return reason


def keep_an_admin(connection: Connection, workspace: str, role: Role) -> None:
    """Raises Conflict where somebody with ``role`` is the last admin. At most one statement."""
    if role is Role.ADMIN and identity.admins(connection, workspace) <= 1:
        raise Conflict(f"this is the last admin of workspace {quoted(workspace)}: make another one first")


def _check_name(name: str) -> None:
    _check_form(name)
    if (reason := _forbidden(name)) is not None:
        raise Invalid(f"name is {quoted(name)}, which the server keeps for itself ({reason.value}); choose another")


def _check_form(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"name is {quoted(name)}; it must be 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
        )


def _forbidden(name: str) -> Unavailable | None:
    if name in RESERVED:
        return Unavailable.RESERVED
    if _VERSION.fullmatch(name):
        return Unavailable.VERSION
    return Unavailable.BLAXEL if name.startswith("blaxel") else None


def _found(connection: Connection, principal: Principal) -> Workspace:
    found = workspaces.find(connection, principal.workspace)
    if found is None:
        raise NotFound(f"no workspace {quoted(principal.workspace)} any more")
    return found
