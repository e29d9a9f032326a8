"""What stands behind a token: who it is of, the sign-in that it came of, and whether it was ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from tidemill.model.principal import PrincipalKind, Role
from tidemill.store import schema
from tidemill.store.prepared import Prepared

_KEY: Final = schema.signing_key.c
_SIGN_IN: Final = schema.sign_in.c
_ENDED: Final = schema.ended_token.c
_MEMBER: Final = schema.membership.c
_SERVICE: Final = schema.service_account.c

_BEHIND: Final = Prepared(
    select(
        _KEY.public,
        _KEY.ends_at,
        _ENDED.jti.label("ended"),
        _SIGN_IN.id.label("sign_in"),
        _MEMBER.role.label("member_role"),
        _SERVICE.role.label("service_role"),
    )
    .outerjoin_from(schema.signing_key, schema.ended_token, _ENDED.jti == bindparam("jti"))
    .outerjoin(schema.sign_in, and_(_SIGN_IN.id == bindparam("sign_in"), _SIGN_IN.account == bindparam("subject")))
    .outerjoin(
        schema.membership,
        and_(_MEMBER.account == bindparam("subject"), _MEMBER.workspace == bindparam("workspace")),
    )
    .outerjoin(
        schema.service_account,
        and_(_SERVICE.client_id == bindparam("subject"), _SERVICE.workspace == bindparam("workspace")),
    )
    .where(_KEY.kid == bindparam("kid"))
)
_WITH_ROLE: Final = (
    select(*schema.sign_in.c, _MEMBER.role)
    .outerjoin_from(
        schema.sign_in,
        schema.membership,
        and_(_MEMBER.account == _SIGN_IN.account, _MEMBER.workspace == _SIGN_IN.workspace),
    )
    .where(_SIGN_IN.id == bindparam("id"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """``public``: the key that may have signed. ``owner``: kind and present role of whom it is of; None for nobody."""

    public: str
    key_ends_at: datetime | None
    is_ended: bool
    owner: tuple[PrincipalKind, Role] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """One person's one yes to one program, for one workspace. ``scope``: words with blanks between."""

    id: str
    account: str
    workspace: str
    client: str
    scope: str
    refresh_digest: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime


def behind(connection: Connection, *, kid: str, jti: str, subject: str, workspace: str, sign_in: str) -> Behind | None:
    """None where no key has this id. One statement, by five primary keys. A person without the sign-in is nobody."""
    given = {"kid": kid, "jti": jti, "subject": subject, "workspace": workspace, "sign_in": sign_in}
    row = _BEHIND.run(connection, given).one_or_none()
    if row is None:
        return None
    owner = None
    if row.service_role is not None:
        owner = PrincipalKind.SERVICE_ACCOUNT, Role(row.service_role)
    elif row.member_role is not None and row.sign_in is not None:
        owner = PrincipalKind.USER, Role(row.member_role)
    return Behind(public=row.public, key_ends_at=row.ends_at, is_ended=row.ended is not None, owner=owner)


def find_sign_in(connection: Connection, sign_in: str) -> tuple[SignIn, Role | None] | None:
    """It, and what its account is in its workspace now. One statement, by two primary keys."""
    row = connection.execute(_WITH_ROLE, {"id": sign_in}).one_or_none()
    if row is None:
        return None
    members = {column.name: getattr(row, column.name) for column in schema.sign_in.c}
    return SignIn(**members), None if row.role is None else Role(row.role)


def add_sign_in(connection: Connection, new: SignIn) -> None:
    """One statement."""
    connection.execute(
        insert(schema.sign_in).values({column.name: getattr(new, column.name) for column in schema.sign_in.c})
    )


def rotate(connection: Connection, sign_in: str, old: str, new: str, *, now: datetime, expires_at: datetime) -> bool:
    """Let the refresh token of digest ``new`` take the place of ``old``; False when that is not the good one.

    One statement, by primary key: there is one good token before it, and one after it.
    """
    changed = connection.execute(
        update(schema.sign_in)
        .where(_SIGN_IN.id == sign_in, _SIGN_IN.refresh_digest == old)
        .values(refresh_digest=new, refreshed_at=now, expires_at=expires_at)
    )
    return changed.rowcount == 1


def end_sign_in(connection: Connection, sign_in: str) -> bool:
    """All tokens that came of it are good for nothing from now on; False where they were not. One statement, by
    primary key."""
    return connection.execute(delete(schema.sign_in).where(_SIGN_IN.id == sign_in)).rowcount == 1


def end_sign_ins(connection: Connection, account: str, workspace: str | None = None) -> None:
    """The same for all of an account, or those for one workspace. One statement, over ``sign_in_account``."""
    ours = delete(schema.sign_in).where(_SIGN_IN.account == account)
    connection.execute(ours if workspace is None else ours.where(_SIGN_IN.workspace == workspace))


def end_token(connection: Connection, jti: str, expires_at: datetime) -> None:
    """Refuse this one access token from now on, everywhere. Two statements, by primary key."""
    if connection.scalar(select(_ENDED.jti).where(_ENDED.jti == jti)) is None:
        connection.execute(insert(schema.ended_token).values(jti=jti, expires_at=expires_at))


def sweep(connection: Connection, *, now: datetime, limit: int) -> int:
    """Delete up to ``limit`` rows of each kind whose time is over; how many. Six statements, by their indexes."""
    swept = 0
    for table, key, until in (
        (schema.sign_in, _SIGN_IN.id, _SIGN_IN.expires_at),
        (schema.ended_token, _ENDED.jti, _ENDED.expires_at),
        (schema.signing_key, _KEY.kid, _KEY.ends_at),
        (schema.device_code, schema.device_code.c.digest, schema.device_code.c.expires_at),
        (schema.browser_session, schema.browser_session.c.digest, schema.browser_session.c.expires_at),
        (schema.guess, schema.guess.c.about, schema.guess.c.expires_at),
    ):
        over = select(key).where(until <= now).limit(limit)
        swept += connection.execute(delete(table).where(key.in_(over))).rowcount
    return swept
