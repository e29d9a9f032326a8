"""The keys that sign tokens. One signs; those before it are there until their last token has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from tidemill.store import schema

_KEY: Final = schema.signing_key.c
_ACTIVE: Final = (
    select(_KEY.kid, _KEY.public, _KEY.private_sealed)
    .where(_KEY.ends_at.is_(None))
    .order_by(_KEY.created_at.desc(), _KEY.kid)
    .limit(1)
)
_PUBLISHED: Final = (
    select(_KEY.kid, _KEY.public, _KEY.private_sealed)
    .where(or_(_KEY.ends_at.is_(None), _KEY.ends_at > bindparam("now", type_=schema.Instant)))
    .order_by(_KEY.created_at.desc(), _KEY.kid)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """``public`` is the member x of a JWK, ``private_sealed`` an envelope of its d."""

    kid: str
    public: str
    private_sealed: str


def active(connection: Connection) -> SigningKey | None:
    """The one that signs; None before the first token. One statement over a handful of rows."""
    row = connection.execute(_ACTIVE).one_or_none()
    return None if row is None else SigningKey(**row._asdict())


def published(connection: Connection, now: datetime) -> Sequence[SigningKey]:
    """All whose tokens may still be good, the newest first. One statement over a handful of rows."""
    return [SigningKey(**row._asdict()) for row in connection.execute(_PUBLISHED, {"now": now})]


def replace(connection: Connection, new: SigningKey, *, now: datetime, ends_at: datetime) -> None:
    """Let ``new`` sign from now on; those before it are good until ``ends_at``. Two statements."""
    connection.execute(update(schema.signing_key).where(_KEY.ends_at.is_(None)).values(ends_at=ends_at))
    connection.execute(
        insert(schema.signing_key).values(
            kid=new.kid, public=new.public, private_sealed=new.private_sealed, created_at=now
        )
    )
