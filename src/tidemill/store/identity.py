"""Who reaches which workspace: accounts of people, and their memberships."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from tidemill.model.principal import Role
from tidemill.store import schema, tokens

_ACCOUNT: Final = schema.account.c
_MEMBER: Final = schema.membership.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person. ``email`` is in lower case; ``issuer`` and ``subject`` are of the OpenID provider that vouches."""

    id: str
    email: str
    created_at: datetime
    given_name: str = ""
    family_name: str = ""
    issuer: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person in one workspace. ``can_sign_in``: a password is set or a provider vouches."""

    account: Account
    role: Role
    can_sign_in: bool


_COLUMNS: Final = (
    _ACCOUNT.id,
    _ACCOUNT.email,
    _ACCOUNT.created_at,
    _ACCOUNT.given_name,
    _ACCOUNT.family_name,
    _ACCOUNT.issuer,
    _ACCOUNT.subject,
)


def find_account(connection: Connection, id_or_email: str) -> Account | None:
    """By its id or its email. One statement, over two unique indexes."""
    row = connection.execute(
        select(*_COLUMNS).where(or_(_ACCOUNT.id == id_or_email, _ACCOUNT.email == id_or_email.lower()))
    ).one_or_none()
    return None if row is None else Account(**row._asdict())


def add_account(connection: Connection, new: Account, password: str = "") -> None:
    """One statement. The email must not be taken; ``password`` is Argon2id as PHC text."""
    connection.execute(
        insert(schema.account).values(
            id=new.id,
            email=new.email,
            given_name=new.given_name,
            family_name=new.family_name,
            issuer=new.issuer,
            subject=new.subject,
            password=password,
            created_at=new.created_at,
            updated_at=new.created_at,
        )
    )


def workspaces_of(connection: Connection, account: str) -> dict[str, Role]:
    """The workspaces that the account reaches, with its role in each. One statement, a range of the primary key."""
    rows = connection.execute(
        select(_MEMBER.workspace, _MEMBER.role).where(_MEMBER.account == account).order_by(_MEMBER.workspace)
    )
    return {row.workspace: Role(row.role) for row in rows}


def role_of(connection: Connection, account: str, workspace: str) -> Role | None:
    """None for no member. One statement, by primary key."""
    found = connection.scalar(select(_MEMBER.role).where(_MEMBER.account == account, _MEMBER.workspace == workspace))
    return None if found is None else Role(found)


def members(connection: Connection, workspace: str) -> list[Member]:
    """All people of the workspace, by email. One statement, over ``membership_workspace``."""
    rows = connection.execute(
        select(*_COLUMNS, _MEMBER.role, _ACCOUNT.password)
        .join_from(schema.membership, schema.account, _MEMBER.account == _ACCOUNT.id)
        .where(_MEMBER.workspace == workspace)
        .order_by(_ACCOUNT.email)
    )
    found = []
    for row in rows:
        account = Account(**{column.name: getattr(row, column.name) for column in _COLUMNS})
        can_sign_in = bool(row.password or account.issuer)
        found.append(Member(account=account, role=Role(row.role), can_sign_in=can_sign_in))
    return found


def set_role(connection: Connection, account: str, workspace: str, role: Role, *, now: datetime) -> None:
    """Make the account a member with this role, whether it was one or not. Two statements."""
    changed = connection.execute(
        update(schema.membership)
        .where(_MEMBER.account == account, _MEMBER.workspace == workspace)
        .values(role=role.value)
    )
    if changed.rowcount == 0:
        connection.execute(
            insert(schema.membership).values(account=account, workspace=workspace, role=role.value, created_at=now)
        )


def remove_member(connection: Connection, account: str, workspace: str) -> None:
    """Take the account out of the workspace, and end its tokens for it for good. Two statements, by their keys."""
    connection.execute(delete(schema.membership).where(_MEMBER.account == account, _MEMBER.workspace == workspace))
    tokens.end_sign_ins(connection, account, workspace)


def admins(connection: Connection, workspace: str) -> int:
    """How many people are admins of the workspace. One statement, over ``membership_workspace``."""
    found = connection.scalar(
        select(func.count())
        .select_from(schema.membership)
        .where(_MEMBER.workspace == workspace, _MEMBER.role == Role.ADMIN.value)
    )
    return int(found or 0)
