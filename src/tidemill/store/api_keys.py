"""API keys, kept as keyed digests, and what each of them reaches."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update

from tidemill.model.principal import PrincipalKind, Role
from tidemill.store import schema
from tidemill.store.prepared import Prepared

_USED_AGAIN: Final = timedelta(minutes=1)
"""``last_used_at`` is at most this old: a write a request would cost more than the request."""

_KEY: Final = schema.api_key.c
_MEMBER: Final = schema.membership.c
_SERVICE: Final = schema.service_account.c
_BY_DIGEST: Final = Prepared(
    select(
        _KEY.owner_kind,
        _KEY.owner,
        _KEY.expires_at,
        _KEY.last_used_at,
        func.coalesce(_MEMBER.workspace, _SERVICE.workspace).label("workspace"),
        func.coalesce(_MEMBER.role, _SERVICE.role).label("role"),
    )
    .outerjoin_from(
        schema.api_key,
        schema.membership,
        and_(
            _KEY.owner_kind == PrincipalKind.USER.value,
            _MEMBER.account == _KEY.owner,
            or_(bindparam("workspace") == "", _MEMBER.workspace == bindparam("workspace")),
        ),
    )
    .outerjoin(
        schema.service_account,
        and_(_KEY.owner_kind == PrincipalKind.SERVICE_ACCOUNT.value, _SERVICE.client_id == _KEY.owner),
    )
    .where(_KEY.digest == bindparam("digest"))
    .limit(2)
)
_COLUMNS: Final = (
    _KEY.id,
    _KEY.owner_kind,
    _KEY.owner,
    _KEY.name,
    _KEY.prefix,
    _KEY.created_at,
    _KEY.created_by,
    _KEY.expires_at,
    _KEY.expires_in,
    _KEY.last_used_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose key it is. ``reaches``: at most two of its workspaces, those of the name that was asked for if any was."""

    kind: PrincipalKind
    id: str
    expires_at: datetime | None
    last_used_at: datetime | None
    reaches: Mapping[str, Role]

    def is_stale(self, now: datetime) -> bool:
        """Whether its last use is to be written down again."""
        return self.last_used_at is None or now - self.last_used_at >= _USED_AGAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key as it is kept: ``prefix`` is all that is shown of it. ``expires_in`` is as it was asked for."""

    id: str
    owner_kind: PrincipalKind
    owner: str
    name: str
    prefix: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    expires_in: str = ""
    last_used_at: datetime | None = None


def holder(connection: Connection, digest: str, workspace: str) -> Holder | None:
    """Whose key has this digest, and whether they reach ``workspace`` ("" for any). One statement, by primary keys."""
    rows = _BY_DIGEST.run(connection, {"digest": digest, "workspace": workspace}).all()
    if not rows:
        return None
    first = rows[0]
    return Holder(
        kind=PrincipalKind(first.owner_kind),
        id=first.owner,
        expires_at=first.expires_at,
        last_used_at=first.last_used_at,
        reaches={row.workspace: Role(row.role) for row in rows if row.workspace is not None},
    )


def used(connection: Connection, digest: str, *, now: datetime) -> None:
    """Write down that the key was used. One statement, by primary key; a key that is gone stays gone."""
    connection.execute(update(schema.api_key).where(_KEY.digest == digest).values(last_used_at=now))


def add(connection: Connection, new: ApiKey, digest: str) -> bool:
    """Keep the key unless its digest is known; whether it was new. Two statements, by primary key."""
    if connection.scalar(select(_KEY.id).where(_KEY.digest == digest)) is not None:
        return False
    connection.execute(
        insert(schema.api_key).values(
            digest=digest,
            id=new.id,
            owner_kind=new.owner_kind.value,
            owner=new.owner,
            name=new.name,
            prefix=new.prefix,
            created_at=new.created_at,
            created_by=new.created_by,
            expires_at=new.expires_at,
            expires_in=new.expires_in,
        )
    )
    return True


def of_owner(connection: Connection, kind: PrincipalKind, owner: str) -> list[ApiKey]:
    """All keys of an account or service account, oldest first. One statement, over ``api_key_owner_keys``."""
    rows = connection.execute(
        select(*_COLUMNS).where(_KEY.owner_kind == kind.value, _KEY.owner == owner).order_by(_KEY.created_at, _KEY.id)
    )
    return [ApiKey(**{**row._asdict(), "owner_kind": PrincipalKind(row.owner_kind)}) for row in rows]


def remove(connection: Connection, kind: PrincipalKind, owner: str, key_id: str) -> bool:
    """Forget one key of this owner; whether there was one. One statement, by its unique id."""
    gone = connection.execute(
        delete(schema.api_key).where(_KEY.id == key_id, _KEY.owner_kind == kind.value, _KEY.owner == owner)
    )
    return gone.rowcount == 1
