"""People who sign in, in a browser: by their password, into a session.

Another way of knowing who somebody is, such as an OpenID provider, ends where ``by_password`` ends: with the id of an
account, which ``begin`` makes a session of.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tidemill import passwords
from tidemill.model.audit import NOBODY, AuditOutcome
from tidemill.model.errors import Forbidden, Invalid
from tidemill.model.principal import Principal, PrincipalKind
from tidemill.secrets import KeyRing
from tidemill.service import entrances, guesses
from tidemill.service.entrances import Act
from tidemill.service.parts import Parts
from tidemill.store import passwords as stored
from tidemill.store.database import Connection
from tidemill.store.passwords import SignedIn

SESSION: Final = timedelta(hours=12)
GUESSES_AT_ONE: Final = 10
"""Most guesses at one account's password in a window."""
GUESSES_FROM_ONE: Final = 100
"""Most guesses from one address in a window: one address may be a whole office's."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A signed-in browser. ``cookie`` is the session's secret."""

    who: SignedIn
    cookie: str


def by_password(parts: Parts, email: str, password: str, address: str, *, now: datetime) -> str | None:
    """The id of the account; None for every pair that is wrong, after the same work. A unit, a statement, a unit.

    The row of a refusal says which email was tried, and not what was wrong. Raises TooManyTries after too many
    guesses, whether the account is there or not.
    """
    guesses.count(parts, {f"account/{email.lower()}": GUESSES_AT_ONE, f"address/{address}": GUESSES_FROM_ONE}, now=now)
    held = parts.database.read(lambda connection: stored.by_email(connection, email.lower()))
    if not passwords.matches(password, "" if held is None else held.password, _key(parts.keyring)) or held is None:
        entrances.refused(
            parts, _act(parts, "create", f"login/{entrances.told(email, entrances.EMAIL)}", status=401), now=now
        )
        return None
    guesses.forget(parts, f"account/{email.lower()}")
    return held.account


def begin(parts: Parts, account: str, *, now: datetime, by: str = "password") -> str:
    """A new session of the account, known ``by`` this kind of credential; the cookie's text. One unit."""
    cookie = secrets.token_urlsafe(32)
    digest = _cookie_digest(parts.keyring, cookie)
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> None:
        stored.begin_session(connection, digest, account, now=now, expires_at=now + SESSION)
        tell(connection, _act(parts, "create", "login", account, credential=by))

    parts.database.write(unit, wakes=False)
    return cookie


def browser(parts: Parts, cookie: str, *, now: datetime) -> Browser | None:
    """Whose browser sends this cookie. One statement."""
    if not cookie:
        return None
    digest = _cookie_digest(parts.keyring, cookie)
    who = parts.database.read(lambda connection: stored.signed_in(connection, digest, now))
    return None if who is None else Browser(who, cookie)


def end(parts: Parts, browser: Browser, *, now: datetime) -> None:
    """The session is over. One unit."""
    digest = _cookie_digest(parts.keyring, browser.cookie)
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> None:
        if stored.end_session(connection, digest):
            tell(connection, _act(parts, "end", "login", browser.who.account, credential="session"))

    parts.database.write(unit, wakes=False)


def form_token(parts: Parts, cookie: str) -> str:
    """What a form carries to prove that a page of ours showed it to the browser that holds ``cookie``."""
    return parts.keyring.mac("form", cookie.encode("utf-8", "surrogatepass")).hex()


def checked_password(password: str, path: str) -> str:
    """Raises Invalid, which never repeats it."""
    if not passwords.SHORTEST <= len(password) <= passwords.LONGEST:
        raise Invalid(
            f"{path} has {len(password)} characters; it must have {passwords.SHORTEST} to {passwords.LONGEST}"
        )
    return password


def hashed(parts: Parts, password: str, path: str) -> str:
    """As it is kept. Slow on purpose. Raises Invalid."""
    return passwords.hashed(checked_password(password, path), _key(parts.keyring))


def set_password(parts: Parts, principal: Principal, current: str, new: str, *, now: datetime) -> None:
    """Give oneself a password; every session and sign-in that there was is over. A statement, up to two units.

    Raises Forbidden for a service account, and for a token where there is none to name; Invalid, TooManyTries.
    """
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("a service account has no password: it has a client secret and API keys")
    kept = hashed(parts, new, "new")
    held = parts.database.read(lambda connection: stored.of_account(connection, principal.id))
    old = "" if held is None else held.password
    if old:
        guesses.count(parts, {f"own/{principal.id}": GUESSES_AT_ONE}, now=now)
        if not passwords.matches(current, old, _key(parts.keyring)):
            raise Invalid("current is not the password that this account has now; what was sent is not repeated here")
    elif principal.bound:
        raise Forbidden("this account has no password yet: the first one is set with an API key of its own")
    about = guesses.about(parts.keyring, f"own/{principal.id}")

    def unit(connection: Connection) -> bool:
        stored.forget_guesses(connection, about)
        return stored.set_password(connection, principal.id, old, kept, now=now)

    if not parts.database.write(unit, wakes=False):
        raise Invalid("current is not the password that this account has now: it was changed at this moment")


def _act(
    parts: Parts, verb: str, resource: str, account: str = "", *, credential: str = "password", status: int = 200
) -> Act:
    """In the workspace that the server began with: a session is of no workspace, and accounts are the server's."""
    return Act(
        action=f"sessions.{verb}",
        resource=resource,
        workspace=parts.home,
        credential=credential,
        actor=account,
        kind=PrincipalKind.USER.value if account else NOBODY,
        outcome=AuditOutcome.SUCCESS if account else AuditOutcome.FAILED,
        status=status,
    )


def _cookie_digest(keyring: KeyRing, cookie: str) -> str:
    return keyring.mac("browser session", cookie.encode("utf-8", "surrogatepass")).hex()


def _key(keyring: KeyRing) -> bytes:
    return keyring.mac("password", b"")
