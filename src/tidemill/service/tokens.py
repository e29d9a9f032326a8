"""Tokens: given for a client secret or a refresh token, ended, and told of (RFC 6749, 7009, 7662)."""

import hmac
import secrets
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from tidemill import signing
from tidemill.model.audit import AuditOutcome
from tidemill.model.errors import GrantRefused
from tidemill.model.principal import EVERYTHING, SCOPES, TASK_SCOPES, Principal, PrincipalKind, Role
from tidemill.model.quoted import quoted
from tidemill.secrets import TASK_CLIENT_ID, TASK_CREDENTIAL_PREFIX
from tidemill.service import bearer, entrances, signing_keys, task_seats
from tidemill.service.entrances import Act
from tidemill.service.parts import Parts
from tidemill.signing import BadToken, Claims
from tidemill.store import service_accounts, tokens
from tidemill.store.database import Connection
from tidemill.store.tokens import SignIn

SIGNED_IN_FOR: Final = timedelta(days=30)
"""How long a refresh token is good for, if it is not used."""
REFRESH_PREFIX: Final = "tmr_"
# asked for by the official command line; what it means, a refresh token, every sign-in gives
NO_SCOPES: Final = frozenset({"offline_access"})
_REFUSED: Final = 400


@dataclass(frozen=True, slots=True)
class Tokens:
    """``refresh`` is "" for a program, whose client secret is what it comes with again."""

    access: str = field(repr=False)
    refresh: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's yes to a program, for a workspace in which they have this role. ``scope``: what it asked for."""

    account: str
    workspace: str
    role: Role
    client: str
    scope: str


@dataclass(frozen=True, slots=True)
class _Refresh:
    """The two parts of a refresh token: which sign-in, and the secret."""

    sign_in: str
    secret: str

    @property
    def text(self) -> str:
        return f"{REFRESH_PREFIX}{self.sign_in}.{self.secret}"


def for_client(parts: Parts, client_id: str, client_secret: str, scope: str, *, now: datetime) -> Tokens:
    """An access token for a service account, with a row in a unit of its own, or for a task. Two statements.

    Raises GrantRefused, the same for every wrong pair.
    """
    if client_secret.startswith(TASK_CREDENTIAL_PREFIX):
        return _for_task(parts, client_id, client_secret, scope, now)
    found = parts.database.read(lambda connection: service_accounts.find(connection, client_id))
    known = "" if found is None else found[1]
    # compared for an unknown id too: how long it takes says nothing
    matches = hmac.compare_digest(known, parts.keyring.client_secret_digest(client_secret))
    if found is None or not matches:
        raise _no_such_client(parts, parts.home if found is None else found[0].workspace, client_id, now)
    account = found[0]
    claims = Claims(
        subject=account.client_id,
        workspace=account.workspace,
        role=account.role.value,
        scope=granted(scope, account.role),
        session="",
        issued_at=now,
    )
    access = _signed(parts, claims, now)
    act = Act(
        action="tokens.create",
        resource="oauth/token",
        workspace=account.workspace,
        credential="client_secret",
        actor=account.client_id,
        kind=PrincipalKind.SERVICE_ACCOUNT.value,
    )
    entrances.done(parts, act, now=now)
    return Tokens(access)


def _for_task(parts: Parts, client_id: str, credential: str, scope: str, now: datetime) -> Tokens:
    """What a task's credential is good for as a token, no longer than its attempt lives.

    Without a row, like all that a task does: its attempt is on record, and a job may have a million of them.
    """
    seat = task_seats.of_credential(parts, credential)
    if seat is None or client_id != TASK_CLIENT_ID:
        raise _no_such_client(parts, parts.home, client_id, now)
    task = seat.principal
    claims = Claims(
        subject=seat.name,
        workspace=seat.workspace,
        role=task.role.value,
        scope=granted(scope, task.role, within=" ".join(TASK_SCOPES)),
        session=str(seat.attempt),
        issued_at=now,
    )
    return Tokens(_signed(parts, claims, now))


def _no_such_client(parts: Parts, workspace: str, client_id: str, now: datetime) -> GrantRefused:
    """What is raised, once it is written down for ``workspace``."""
    note_refusal(
        parts, workspace, f"oauth/token/{entrances.told(client_id, entrances.CLIENT_ID)}", "client_secret", now=now
    )
    return GrantRefused("invalid_client", "client_id or client_secret is wrong: no service account has this pair")


def prepared(parts: Parts, yes: Approval, *, now: datetime) -> tuple[SignIn, Tokens]:
    """A sign-in that ``tokens.add_sign_in`` is to keep, and its first pair, good once it is kept. One statement.

    Raises GrantRefused for a scope that the role does not have.
    """
    key = _Refresh(uuid.uuid4().hex, secrets.token_urlsafe(32))
    new = SignIn(
        id=key.sign_in,
        account=yes.account,
        workspace=yes.workspace,
        client=yes.client,
        scope=granted(yes.scope, yes.role),
        refresh_digest=parts.keyring.refresh_token_digest(key.secret),
        created_at=now,
        refreshed_at=now,
        expires_at=now + SIGNED_IN_FOR,
    )
    return new, Tokens(_signed(parts, _claims(new, yes.role, new.scope, now), now), key.text)


def refresh(parts: Parts, refresh_token: str, scope: str, *, now: datetime) -> Tokens:
    """A new pair for a refresh token, which is good for nothing from then on. Two statements and a unit of four.

    A token that was used before ends its whole family, access tokens too: two hold it, and one of them has no right
    to. Raises GrantRefused, the same for every token that is not good.
    """
    try:
        shown = _parsed(refresh_token)
    except GrantRefused:
        note_refusal(parts, parts.home, "oauth/token", "refresh_token", now=now)
        raise
    digest = parts.keyring.refresh_token_digest(shown.secret)
    found = parts.database.read(lambda connection: tokens.find_sign_in(connection, shown.sign_in))
    if found is None:
        note_refusal(parts, parts.home, "oauth/token", "refresh_token", now=now)
        raise _refused()
    held, role = found
    tell = entrances.teller(parts, now=now)

    def end(connection: Connection, action: str = "tokens.reuse") -> None:
        if tokens.end_sign_in(connection, held.id):
            act = act_of(held, action, "refresh_token")
            tell(connection, replace(act, outcome=AuditOutcome.REFUSED, status=_REFUSED))

    if not hmac.compare_digest(held.refresh_digest, digest):
        parts.database.write(end, wakes=False)
        raise _refused()
    if held.expires_at <= now or role is None:
        parts.database.write(lambda connection: end(connection, "tokens.create"), wakes=False)
        raise _refused()
    narrowed = granted(scope, role, within=held.scope)
    # signed before the old one ends: what fails here leaves the old one good
    access = _signed(parts, _claims(held, role, narrowed, now), now)
    after = _Refresh(held.id, secrets.token_urlsafe(32))
    fresh = parts.keyring.refresh_token_digest(after.secret)

    def unit(connection: Connection) -> bool:
        if tokens.rotate(connection, held.id, digest, fresh, now=now, expires_at=now + SIGNED_IN_FOR):
            tell(connection, act_of(held, "tokens.create", "refresh_token"))
            return True
        end(connection)
        return False

    if not parts.database.write(unit, wakes=False):
        raise _refused()
    return Tokens(access, after.text)


def revoke(parts: Parts, token: str, *, now: datetime) -> None:
    """End a token: an access token alone, a refresh token with all that came of its sign-in. One statement and a unit.

    What is no good token is none afterwards either: no error (RFC 7009, section 2.2), and nothing to be audited.
    """
    tell = entrances.teller(parts, now=now)

    def end_all(connection: Connection, held: SignIn) -> None:
        if tokens.end_sign_in(connection, held.id):
            tell(connection, replace(act_of(held, "tokens.revoke", "refresh_token"), resource="oauth/revoke"))

    if token.startswith(REFRESH_PREFIX):
        held = _held(parts, token, now=now)
        if held is not None:
            parts.database.write(lambda connection: end_all(connection, held), wakes=False)
        return
    try:
        found = bearer.opened(parts, token, now=now)
    except BadToken:
        return
    claims = found.claims
    act = Act(
        action="tokens.revoke",
        resource="oauth/revoke",
        workspace=claims.workspace,
        credential="token",
        actor=claims.subject,
        kind=found.kind.value,
    )

    def end_one(connection: Connection) -> None:
        tokens.end_token(connection, claims.id, claims.expires_at)
        tell(connection, act)

    parts.database.write(end_one, wakes=False)


def introspect(parts: Parts, principal: Principal, token: str, *, now: datetime) -> dict[str, str | int | bool]:
    """What a token of the caller's workspace is (RFC 7662); of any other, that it is none. One statement."""
    if token.startswith(REFRESH_PREFIX):
        held = _held(parts, token, now=now)
        if held is None or held.workspace != principal.workspace:
            return {"active": False}
        return {
            "active": True,
            "token_type": "refresh_token",
            "client_id": held.client,
            "sub": held.account,
            "workspace": held.workspace,
            "scope": held.scope,
            "iat": int(held.refreshed_at.timestamp()),
            "exp": int(held.expires_at.timestamp()),
            "iss": parts.issuer,
        }
    try:
        found = bearer.opened(parts, token, now=now)
    except BadToken:
        return {"active": False}
    if found.claims.workspace != principal.workspace:
        return {"active": False}
    told = {name: value for name, value in signing.claims_view(found.claims, parts.issuer).items() if name != "sid"}
    return {"active": True, "token_type": "Bearer", "sub_type": found.kind.value, **told, "role": found.role.value}


def granted(scope: str, role: Role, within: str | None = None) -> str:
    """The scopes of a token for whom asks for ``scope``: those, or without any all of ``within``, else of the role.

    In order, blanks between. Raises GrantRefused naming the first that the role or ``within`` does not hold.
    """
    held = SCOPES[role] if within is None else frozenset(within.split())
    asked = set(scope.split()) - NO_SCOPES
    if EVERYTHING in asked and (role is Role.ADMIN and within is None):
        asked = set()
    for each in sorted(asked - held):
        raise GrantRefused(
            "invalid_scope", f"scope names {quoted(each)}, which the role {role.value!r} or the first grant has not"
        )
    return " ".join(sorted(asked or held))


def act_of(held: SignIn, action: str, credential: str) -> Act:
    """Of the person whose sign-in it is, at the place where tokens are given."""
    return Act(
        action=action,
        resource="oauth/token",
        workspace=held.workspace,
        credential=credential,
        actor=held.account,
        kind=PrincipalKind.USER.value,
    )


def note_refusal(parts: Parts, workspace: str, resource: str, credential: str, *, now: datetime) -> None:
    """The row of whoever showed a wrong secret: nobody knows who that is."""
    act = Act(
        action="tokens.create",
        resource=resource,
        workspace=workspace,
        credential=credential,
        outcome=AuditOutcome.FAILED,
        status=_REFUSED,
    )
    entrances.refused(parts, act, now=now)


def _claims(held: SignIn, role: Role, scope: str, now: datetime) -> Claims:
    return Claims(
        subject=held.account,
        workspace=held.workspace,
        role=role.value,
        scope=scope,
        session=held.id,
        issued_at=now,
    )


def _signed(parts: Parts, claims: Claims, now: datetime) -> str:
    return signing.sign(claims, signing_keys.active(parts, now=now), parts.issuer)


def _held(parts: Parts, refresh_token: str, *, now: datetime) -> SignIn | None:
    """The sign-in whose good refresh token this is. One statement."""
    try:
        shown = _parsed(refresh_token)
    except GrantRefused:
        return None
    found = parts.database.read(lambda connection: tokens.find_sign_in(connection, shown.sign_in))
    digest = parts.keyring.refresh_token_digest(shown.secret)
    if found is None or found[0].expires_at <= now or not hmac.compare_digest(found[0].refresh_digest, digest):
        return None
    return found[0]


def _parsed(refresh_token: str) -> _Refresh:
    """Raises GrantRefused for what has not even the form."""
    sign_in, _, secret = refresh_token.removeprefix(REFRESH_PREFIX).partition(".")
    if not refresh_token.startswith(REFRESH_PREFIX) or not sign_in or not secret:
        raise _refused()
    return _Refresh(sign_in, secret)


def _refused() -> GrantRefused:
    return GrantRefused(
        "invalid_grant", "refresh_token is not known here, was used before, or has ended: sign in again"
    )
