"""The keys that sign tokens. One signs; those before it are there until their last token has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from tidemill.store import schema

_KEY: Final = schema.signing_key.c
_ACTIVE: Final = (
    select(*schema.signing_key.c).where(_KEY.ends_at.is_(None)).order_by(_KEY.created_at.desc(), _KEY.kid).limit(1)
)
_PUBLISHED: Final = (
    select(*schema.signing_key.c)
    .where(or_(_KEY.ends_at.is_(None), _KEY.ends_at > bindparam("now", type_=schema.Instant)))
    .order_by(_KEY.created_at.desc(), _KEY.kid)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """``public`` is the member x of a JWK, ``private_sealed`` an envelope of its d.

    ``ends_at``: until when its tokens are good; None for the one that signs.
    """

    kid: str
    public: str
    private_sealed: str = field(repr=False)
    created_at: datetime
    ends_at: datetime | None = None


def active(connection: Connection) -> SigningKey | None:
    """The one that signs; None before the first token. One statement over a handful of rows."""
    row = connection.execute(_ACTIVE).one_or_none()
    return None if row is None else SigningKey(**row._asdict())


def published(connection: Connection, now: datetime) -> Sequence[SigningKey]:
    """All whose tokens may still be good, the newest first. One statement over a handful of rows."""
    return [SigningKey(**row._asdict()) for row in connection.execute(_PUBLISHED, {"now": now})]


def find(connection: Connection, kid: str, now: datetime) -> SigningKey | None:
    """One whose tokens may still be good. One statement, by primary key."""
    row = connection.execute(_PUBLISHED.where(_KEY.kid == bindparam("kid")), {"now": now, "kid": kid}).one_or_none()
    return None if row is None else SigningKey(**row._asdict())


def remove(connection: Connection, kid: str) -> None:
    """All tokens that it signed are good for nothing from now on. One statement, by primary key."""
    connection.execute(delete(schema.signing_key).where(_KEY.kid == kid))


def replace(connection: Connection, new: SigningKey, *, ends_at: datetime) -> None:
    """Let ``new`` sign from now on; those before it are good until ``ends_at``. Two statements."""
    connection.execute(update(schema.signing_key).where(_KEY.ends_at.is_(None)).values(ends_at=ends_at))
    connection.execute(
        insert(schema.signing_key).values(
            kid=new.kid, public=new.public, private_sealed=new.private_sealed, created_at=new.created_at
        )
    )
