"""Passwords of accounts, the sessions that they open in browsers, and how often they were guessed at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tidemill.store import schema, tokens

_ACCOUNT: Final = schema.account.c
_SESSION: Final = schema.browser_session.c
_GUESS: Final = schema.guess.c
_HOLDER: Final = (
    select(_ACCOUNT.id, _ACCOUNT.email, _SESSION.expires_at)
    .join_from(schema.browser_session, schema.account, _ACCOUNT.id == _SESSION.account)
    .where(_SESSION.digest == bindparam("digest"))
)


@dataclass(frozen=True, slots=True)
class Held:
    """An account and its password: Argon2id as PHC text, "" when it has none."""

    account: str
    password: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whose browser it is."""

    account: str
    email: str


def by_email(connection: Connection, email: str) -> Held | None:
    """One statement, by a unique index. ``email`` is in lower case."""
    row = connection.execute(select(_ACCOUNT.id, _ACCOUNT.password).where(_ACCOUNT.email == email)).one_or_none()
    return None if row is None else Held(row.id, row.password)


def of_account(connection: Connection, account: str) -> Held | None:
    """One statement, by primary key."""
    row = connection.execute(select(_ACCOUNT.id, _ACCOUNT.password).where(_ACCOUNT.id == account)).one_or_none()
    return None if row is None else Held(row.id, row.password)


def set_password(connection: Connection, account: str, old: str, new: str, *, now: datetime) -> bool:
    """Replace ``old``, and end all that was signed in with it; False when it is another by now. Three statements."""
    changed = connection.execute(
        update(schema.account)
        .where(_ACCOUNT.id == account, _ACCOUNT.password == old)
        .values(password=new, updated_at=now)
    )
    if changed.rowcount == 0:
        return False
    connection.execute(delete(schema.browser_session).where(_SESSION.account == account))
    tokens.end_sign_ins(connection, account)
    return True


def begin_session(connection: Connection, digest: str, account: str, *, now: datetime, expires_at: datetime) -> None:
    """One statement."""
    connection.execute(
        insert(schema.browser_session).values(digest=digest, account=account, created_at=now, expires_at=expires_at)
    )


def signed_in(connection: Connection, digest: str, now: datetime) -> SignedIn | None:
    """Whose session it is, while it lasts. One statement, by two primary keys."""
    row = connection.execute(_HOLDER, {"digest": digest}).one_or_none()
    return None if row is None or row.expires_at <= now else SignedIn(row.id, row.email)


def end_session(connection: Connection, digest: str) -> bool:
    """False where there was none. One statement, by primary key."""
    return connection.execute(delete(schema.browser_session).where(_SESSION.digest == digest)).rowcount == 1


def guessed(connection: Connection, about: str, *, now: datetime, window: timedelta) -> int:
    """Count one more guess; how many there were since counting began, this one too. Two statements, by primary key."""
    row = connection.execute(select(_GUESS.tries, _GUESS.expires_at).where(_GUESS.about == about)).one_or_none()
    if row is None:
        connection.execute(insert(schema.guess).values(about=about, tries=1, expires_at=now + window))
        return 1
    is_over = row.expires_at <= now
    count = 1 if is_over else row.tries + 1
    until = now + window if is_over else row.expires_at
    connection.execute(update(schema.guess).where(_GUESS.about == about).values(tries=count, expires_at=until))
    return count


def any_past(connection: Connection, bounds: Sequence[tuple[str, int]], *, now: datetime) -> bool:
    """Whether one of these was guessed at more often than its bound. One statement, by primary keys."""
    most = dict(bounds)
    rows = connection.execute(select(_GUESS.about, _GUESS.tries).where(_GUESS.about.in_(most), _GUESS.expires_at > now))
    return any(row.tries > most[row.about] for row in rows)


def forget_guesses(connection: Connection, about: str) -> None:
    """One statement, by primary key."""
    connection.execute(delete(schema.guess).where(_GUESS.about == about))
