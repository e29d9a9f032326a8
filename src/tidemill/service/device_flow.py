"""A program without a browser is let in by a person who has one (contract 2.4, RFC 8628)."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tidemill.model.errors import Forbidden, GrantRefused, NotFound, TooManyTries
from tidemill.model.principal import EVERYTHING, SCOPES, PrincipalKind, Role
from tidemill.model.quoted import quoted
from tidemill.service import entrances, guesses, tokens
from tidemill.service.entrances import Act
from tidemill.service.parts import Parts
from tidemill.service.tokens import Approval, Tokens
from tidemill.store import device_codes, identity
from tidemill.store import tokens as stored_tokens
from tidemill.store.database import Connection
from tidemill.store.device_codes import DeviceCode
from tidemill.store.passwords import SignedIn

LASTS: Final = timedelta(minutes=10)
INTERVAL_S: Final = 3
"""What the official command line waits between two polls, whatever it is told."""
MOST_WAITING: Final = 1_000
STARTS_FROM_ONE: Final = 100
"""Most codes for one address in a window of ``guesses.WINDOW``."""

GUESSES_BY_ONE: Final = 30
"""Most looks of one person at codes, good or not, in such a window."""

# no vowels: no words; no letters that look like others. 20 to the 8th is 34 bits for ten minutes (RFC 8628, 6.1)
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Started:
    """``user_code`` is what a person types, ``BCDF-GHJK``; ``device_code`` is what the program polls with."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked: whether ``client`` may act for them in one of ``workspaces``, with these scopes."""

    client: str
    scope: str
    workspaces: dict[str, Role]


def start(parts: Parts, client: str, scope: str, address: str, *, now: datetime) -> Started:
    """Let a program begin to wait. One or two units. Raises GrantRefused, TooManyTries."""
    unknown = sorted(set(scope.split()) - SCOPES[Role.ADMIN] - tokens.NO_SCOPES - {EVERYTHING})
    for each in unknown:
        raise GrantRefused("invalid_scope", f"scope names {quoted(each)}, which there is not")
    guesses.count(parts, {f"device/{address}": STARTS_FROM_ONE}, now=now)
    code = secrets.token_urlsafe(32)

    def unit(connection: Connection) -> str:
        if device_codes.waiting(connection) >= MOST_WAITING:
            raise TooManyTries(f"{MOST_WAITING} programs wait for somebody's yes: try again in some minutes")
        while True:
            typed = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
            new = DeviceCode(
                digest=_digest(parts, "device code", code),
                user_digest=_digest(parts, "user code", typed),
                client=client,
                scope=scope,
                created_at=now,
                expires_at=now + LASTS,
            )
            if device_codes.add(connection, new):
                return typed

    typed = parts.database.write(unit, wakes=False)
    return Started(code, f"{typed[:4]}-{typed[4:]}")


def poll(parts: Parts, device_code: str, client: str, *, now: datetime) -> Tokens:
    """The tokens, once, after somebody's yes. Two statements, then a unit of two, and three for its row.

    Raises GrantRefused: ``authorization_pending`` while nobody has decided, ``access_denied`` after a no,
    ``expired_token``, and ``invalid_grant``. Never ``slow_down``, at which the official command line gives up.
    """
    digest = _digest(parts, "device code", device_code)
    found = parts.database.read(lambda connection: device_codes.polled(connection, digest))
    if found is None or (client and client != found[0].client):
        tokens.note_refusal(parts, parts.home, "oauth/token", "device_code", now=now)
        raise GrantRefused("invalid_grant", "device_code is not known here, or its tokens were given already")
    code, role = found
    if code.expires_at <= now:
        raise GrantRefused("expired_token", "device_code has ended: nobody said yes in time; begin again")
    if not code.account:
        raise GrantRefused("authorization_pending", "device_code waits for somebody's yes")
    if not code.workspace or role is None:
        raise GrantRefused("access_denied", "device_code was denied")
    yes = Approval(account=code.account, workspace=code.workspace, role=role, client=code.client, scope=code.scope)
    new, pair = tokens.prepared(parts, yes, now=now)
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> bool:
        if not device_codes.spend(connection, digest):
            return False
        stored_tokens.add_sign_in(connection, new)
        tell(connection, tokens.act_of(new, "tokens.create", "device_code"))
        return True

    if not parts.database.write(unit, wakes=False):
        raise GrantRefused("invalid_grant", "device_code is not known here, or its tokens were given already")
    return pair


def question(parts: Parts, who: SignedIn, user_code: str, *, now: datetime) -> Question:
    """What the person is to decide. A unit, two statements. Raises NotFound where none waits, TooManyTries."""
    guesses.count(parts, {f"code/{who.account}": GUESSES_BY_ONE}, now=now)
    digest = _digest(parts, "user code", _typed(user_code))

    def read(connection: Connection) -> tuple[DeviceCode | None, dict[str, Role]]:
        return device_codes.by_user_code(connection, digest), identity.workspaces_of(connection, who.account)

    code, workspaces = parts.database.read(read)
    if code is None or code.account or code.expires_at <= now:
        raise NotFound("no program waits with this code")
    return Question(code.client, code.scope, workspaces)


def decide(parts: Parts, who: SignedIn, user_code: str, workspace: str, *, now: datetime) -> None:
    """The person's yes for one of their workspaces, or with "" their no. Two units, two statements.

    Raises NotFound for a code that waits no more, Forbidden for a workspace that is not theirs, TooManyTries,
    GrantRefused where the program asks for more than their role has.
    """
    asked = question(parts, who, user_code, now=now)
    if workspace:
        if workspace not in asked.workspaces:
            raise Forbidden(f"you are not in a workspace {quoted(workspace)}")
        tokens.granted(asked.scope, asked.workspaces[workspace])
    digest = _digest(parts, "user code", _typed(user_code))
    act = Act(
        action="devices.approve" if workspace else "devices.deny",
        resource=f"device/{entrances.told(asked.client, entrances.CLIENT_ID)}",
        # a no is for no workspace
        workspace=workspace or parts.home,
        credential="session",
        actor=who.account,
        kind=PrincipalKind.USER.value,
    )
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> bool:
        done = device_codes.decide(connection, digest, account=who.account, workspace=workspace, now=now)
        if done:
            tell(connection, act)
        return done

    if not parts.database.write(unit, wakes=False):
        raise NotFound("no program waits with this code")
    guesses.forget(parts, f"code/{who.account}")


def _typed(user_code: str) -> str:
    """As it was made: people type it in small letters, with blanks and without the dash."""
    return "".join(letter for letter in user_code.upper() if letter.isalnum())


def _digest(parts: Parts, purpose: str, code: str) -> str:
    return parts.keyring.mac(purpose, code.encode("utf-8", "surrogatepass")).hex()
