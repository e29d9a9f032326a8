"""The people of a workspace. Admins of the workspace only (scopes)."""

import re
import uuid
from datetime import datetime
from typing import Final

from tidemill.model.errors import AlreadyExists, Forbidden, Invalid, NotFound
from tidemill.model.principal import Principal, Role
from tidemill.model.quoted import quoted
from tidemill.service import sign_in, workspaces
from tidemill.service.parts import Parts
from tidemill.store import identity
from tidemill.store.database import Connection
from tidemill.store.identity import Account, Member

# one @, no blanks: whether mail reaches it is for others to find out
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,189}")


def list_all(parts: Parts, principal: Principal) -> list[Member]:
    """All people of the caller's workspace, by email. One statement."""
    return parts.database.read(lambda connection: identity.members(connection, principal.workspace))


def add(
    parts: Parts, principal: Principal, email: str, role: Role, *, now: datetime, password: str | None = None
) -> Member:
    """Make somebody a member: with the account of that email, or a new one, which may get a password. One unit.

    Raises Invalid, also for a password of an account that is there: it is its owner's. AlreadyExists; Forbidden where
    a token limited in scope would make a way in that is not.
    """
    address = checked_email(email)
    _check_not_narrowed(principal)
    kept = "" if password is None else sign_in.hashed(parts, password, "password")

    def unit(connection: Connection) -> Member:
        account = identity.find_account(connection, address)
        if account is None:
            account = Account(id=new_id(), email=address, created_at=now)
            identity.add_account(connection, account, kept)
        elif kept:
            raise Invalid(f"password is for a new account: {quoted(address)} has one, and sets its own password")
        if identity.role_of(connection, account.id, principal.workspace) is not None:
            raise AlreadyExists(f"{quoted(address)} is in workspace {quoted(principal.workspace)} already")
        identity.set_role(connection, account.id, principal.workspace, role, now=now)
        return _member(connection, principal.workspace, account.id)

    return parts.database.write(unit)


def set_role(parts: Parts, principal: Principal, id_or_email: str, role: Role, *, now: datetime) -> Member:
    """One unit. Raises NotFound, Conflict where it would leave the workspace without an admin, Forbidden as ``add``."""
    _check_not_narrowed(principal)

    def unit(connection: Connection) -> Member:
        account, held = _found(connection, principal.workspace, id_or_email)
        if role is not held:
            workspaces.keep_an_admin(connection, principal.workspace, held)
        identity.set_role(connection, account.id, principal.workspace, role, now=now)
        return _member(connection, principal.workspace, account.id)

    return parts.database.write(unit)


def remove(parts: Parts, principal: Principal, id_or_email: str) -> Member:
    """Take somebody out of the workspace; the account stays. One unit. Raises NotFound, Conflict for the last admin."""

    def unit(connection: Connection) -> Member:
        account, held = _found(connection, principal.workspace, id_or_email)
        workspaces.keep_an_admin(connection, principal.workspace, held)
        gone = _member(connection, principal.workspace, account.id)
        identity.remove_member(connection, account.id, principal.workspace)
        return gone

    return parts.database.write(unit)


def _check_not_narrowed(principal: Principal) -> None:
    """Raises Forbidden: who is let in by a token that is limited would not be."""
    if principal.is_narrowed:
        raise Forbidden("a token limited in scope lets nobody in and gives no roles: they would not be limited")


def checked_email(email: str) -> str:
    """In lower case. Raises Invalid."""
    if not _EMAIL.fullmatch(email):
        raise Invalid(f"email is {quoted(email)}; it must be an address such as ada@example.org")
    return email.lower()


def new_id() -> str:
    """Of an account."""
    return f"user-{uuid.uuid4()}"


def _found(connection: Connection, workspace: str, id_or_email: str) -> tuple[Account, Role]:
    account = identity.find_account(connection, id_or_email)
    role = None if account is None else identity.role_of(connection, account.id, workspace)
    if account is None or role is None:
        raise NotFound(f"no user {quoted(id_or_email)} in workspace {quoted(workspace)}")
    return account, role


def _member(connection: Connection, workspace: str, account: str) -> Member:
    return next(each for each in identity.members(connection, workspace) if each.account.id == account)
