"""Accounts and the OpenID provider that vouches for them: by its issuer, and what that calls the person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, literal_column, select, update

from tidemill.store import schema, tokens

_ACCOUNT: Final = schema.account.c


@dataclass(frozen=True, slots=True)
class Vouched:
    """An account, and whose word for it counts; both "" while nobody's does."""

    account: str
    issuer: str
    subject: str


def by_subject(connection: Connection, issuer: str, subject: str) -> str | None:
    """The id of the account. One statement, by the unique index ``account_subject``."""
    # the condition on issuer is the index's own: without it the index cannot be used
    found = connection.scalar(
        select(_ACCOUNT.id).where(
            _ACCOUNT.issuer == issuer, _ACCOUNT.subject == subject, _ACCOUNT.issuer != literal_column("''")
        )
    )
    return None if found is None else str(found)


def by_email(connection: Connection, email: str) -> Vouched | None:
    """One statement, by a unique index. ``email`` is in lower case."""
    row = connection.execute(
        select(_ACCOUNT.id, _ACCOUNT.issuer, _ACCOUNT.subject).where(_ACCOUNT.email == email)
    ).one_or_none()
    return None if row is None else Vouched(row.id, row.issuer, row.subject)


def vouch(connection: Connection, account: str, issuer: str, subject: str, *, now: datetime) -> None:
    """Let this provider's word count for the account from now on, and no password; end what was signed in before.

    Three statements, by their keys. Nobody else may be ``subject``.
    """
    connection.execute(
        update(schema.account)
        .where(_ACCOUNT.id == account)
        .values(issuer=issuer, subject=subject, password="", updated_at=now)
    )
    connection.execute(delete(schema.browser_session).where(schema.browser_session.c.account == account))
    tokens.end_sign_ins(connection, account)
