"""People who sign in through an OpenID provider (authorization code with PKCE), into the same sessions as by password.

What a sign-in must remember while the browser is away is sealed into a cookie of that browser: nothing is kept here
for somebody who only begins. A state is good once: that it was used is counted like a guess.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec
import structlog

from tidemill.model.admission import Admission, admitted_email
from tidemill.model.audit import NOBODY, AuditOutcome
from tidemill.model.errors import Forbidden, Invalid, NotFound, ProviderTrouble, TooManyTries
from tidemill.model.principal import PrincipalKind
from tidemill.model.quoted import quoted
from tidemill.oidc.asking import ProviderFailed
from tidemill.oidc.id_token import BadIdToken
from tidemill.oidc.provider import BadCode, Provider, Secrets
from tidemill.secrets import KeyRingError
from tidemill.service import entrances, guesses, users
from tidemill.service.entrances import Act
from tidemill.service.parts import Parts
from tidemill.store import identity, vouching, workspaces
from tidemill.store.database import Connection
from tidemill.store.identity import Account

LASTS: Final = timedelta(minutes=10)
"""How long somebody may be away at the provider. Shorter than ``guesses.WINDOW``, for which a used state is known."""
FINISHES_FROM_ONE: Final = 100
"""Most sign-ins that one address may finish in a window of ``guesses.WINDOW``, each a request to the provider."""

CREDENTIAL: Final = "openid"
"""The kind of credential by which the audit knows these sign-ins."""

_ABOUT: Final = "a sign-in through the provider"
_LONGEST_CODE: Final = 4_096
_LONGEST_NAME: Final = 128
_BEGIN_AGAIN: Final = "this sign-in was begun in another browser, too long ago, or is over already: begin again"
# what a provider says when the person, or a rule of its own, does not want it (RFC 6749, 4.1.2.1; OpenID Connect Core)
_NO: Final = frozenset({"access_denied", "login_required", "interaction_required", "consent_required"})
_LOG = structlog.get_logger("tidemill.openid")


@dataclass(frozen=True, slots=True)
class Begun:
    """``url`` is where the browser goes, ``cookie`` what it keeps meanwhile, for ``LASTS``."""

    url: str
    cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody has signed in as this account, and wants the page ``wanted``: a path of this server, or ""."""

    account: str
    wanted: str


class _Away(msgspec.Struct, frozen=True):
    """What is sealed into the cookie. ``until``: seconds since the epoch."""

    state: str
    nonce: str
    verifier: str
    wanted: str
    until: float


def provider_of(parts: Parts) -> Provider:
    """Raises NotFound where none is configured."""
    if parts.provider is None:
        raise NotFound("people sign in with a password here: no provider is configured")
    return parts.provider


def begin(parts: Parts, wanted: str, *, now: datetime) -> Begun:
    """Send a browser to the provider. At most one request to that, no statement. Raises NotFound, ProviderTrouble."""
    provider = provider_of(parts)
    new = Secrets(state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48))
    try:
        url = provider.authorization_url(new, now)
    except ProviderFailed as error:
        _no_answer(provider, error)
    until = (now + LASTS).timestamp()
    away = _Away(state=new.state, nonce=new.nonce, verifier=new.verifier, wanted=wanted, until=until)
    return Begun(url, parts.keyring.seal(msgspec.json.encode(away).decode(), _ABOUT))


def is_of(parts: Parts, cookie: str, state: str, *, now: datetime) -> bool:
    """Whether the browser with this cookie has begun the sign-in of this state, and not too long ago."""
    return _away(parts, cookie, state, now) is not None


def finish(parts: Parts, cookie: str, query: Mapping[str, str], address: str, *, now: datetime) -> Known:
    """The browser comes back with ``query``. Two units, up to five requests to the provider, a unit.

    Raises Forbidden for whoever may not come in and for what cannot be believed, Invalid, ProviderTrouble, NotFound,
    TooManyTries. Why is in the log.
    """
    provider = provider_of(parts)
    state = query.get("state", "")
    away = _away(parts, cookie, state, now)
    if away is None:
        _refuse(parts, now, "state of another browser, or too old", _BEGIN_AGAIN)
    _spend(parts, state, address, now)
    code = _code(parts, provider, query, now)
    try:
        known = Secrets(state=away.state, nonce=away.nonce, verifier=away.verifier)
        claims = provider.claims(code, known, parts.admission.wanted, now)
    except ProviderFailed as error:
        _no_answer(provider, error)
    except BadCode as error:
        _refuse(parts, now, f"code not taken: {error}", _BEGIN_AGAIN)
    except BadIdToken as error:
        _refuse(
            parts, now, f"ID token: {error}", f"what {provider.registration.name} says of you cannot be believed here"
        )
    return Known(_admit(parts, provider, claims, now), away.wanted)


def _away(parts: Parts, cookie: str, state: str, now: datetime) -> _Away | None:
    try:
        away = msgspec.json.decode(parts.keyring.open(cookie, _ABOUT), type=_Away)
    except (KeyRingError, msgspec.MsgspecError, ValueError):
        return None
    is_same = secrets.compare_digest(away.state.encode(), state.encode("utf-8", "surrogatepass"))
    return away if is_same and now.timestamp() < away.until else None


def _spend(parts: Parts, state: str, address: str, now: datetime) -> None:
    """Whoever comes back a second time finds that it is over, before anything is asked of the provider."""
    guesses.count(parts, {f"openid/{address}": FINISHES_FROM_ONE}, now=now)
    try:
        guesses.count(parts, {f"state/{state}": 1}, now=now)
    except TooManyTries:
        _refuse(parts, now, "state used before", _BEGIN_AGAIN)


def _code(parts: Parts, provider: Provider, query: Mapping[str, str], now: datetime) -> str:
    """What the browser brings. Raises Forbidden, Invalid, ProviderTrouble."""
    ours = provider.registration
    try:
        names_itself = provider.names_itself(now)
    except ProviderFailed as error:
        _no_answer(provider, error)
    if query.get("iss", "" if names_itself else ours.issuer) != ours.issuer:
        _refuse(parts, now, "iss: the answer of another provider", f"this is not an answer of {ours.name}")
    word = query.get("error")
    if word in _NO:
        _refuse(parts, now, f"the provider says {word}", f"{ours.name} did not let you in, or you did not want it to")
    if word is not None:
        _no_answer(provider, ProviderFailed(f"the provider says {quoted(word)}"))
    code = query.get("code", "")
    if not 1 <= len(code) <= _LONGEST_CODE or not code.isascii():
        raise Invalid(f"code must be what {ours.name} sent: 1 to {_LONGEST_CODE} characters")
    return code


def _admit(parts: Parts, provider: Provider, claims: Mapping[str, Any], now: datetime) -> str:
    """The account of the person, which is found, linked or made. One unit of at most eight statements.

    An address finds an account once: from then on it is the provider's subject that does (docs/decisions/0100).
    """
    issuer, subject = provider.registration.issuer, claims["sub"]
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> str:
        account = vouching.by_subject(connection, issuer, subject)
        if account is not None:
            return account
        if not _is_address(email):
            raise Forbidden(f"{provider.registration.name} has verified no address of yours")
        held = vouching.by_email(connection, email)
        if held is None:
            new = _new_account(claims, email, issuer, now)
            _add(connection, parts.admission, new, now)
            tell(connection, _act(parts, "users.create", f"users/{new.id}", new.id, parts.admission.workspace))
            return new.id
        if held.issuer == issuer:
            raise Forbidden(f"{quoted(email)} belongs to somebody else here: ask who runs this server")
        vouching.vouch(connection, held.account, issuer, subject, now=now)
        tell(connection, _act(parts, "users.link", f"users/{held.account}", held.account))
        return held.account

    try:
        email = admitted_email(parts.admission, claims)
        return parts.database.write(unit, wakes=False)
    except Forbidden as error:
        _refuse(parts, now, error.message, error.message)


def _add(connection: Connection, admission: Admission, new: Account, now: datetime) -> None:
    """Somebody whom nobody has invited gets an account, where that is wanted. Raises Forbidden."""
    if not admission.workspace:
        raise Forbidden(f"nobody has invited {quoted(new.email)}: ask an admin of your workspace to add you")
    if workspaces.find(connection, admission.workspace) is None:
        raise Forbidden("the workspace for new people is not there: ask who runs this server")
    identity.add_account(connection, new)
    identity.set_role(connection, new.id, admission.workspace, admission.role, now=now)


def _new_account(claims: Mapping[str, Any], email: str, issuer: str, now: datetime) -> Account:
    return Account(
        id=users.new_id(),
        email=email,
        created_at=now,
        given_name=_name(claims, "given_name"),
        family_name=_name(claims, "family_name"),
        issuer=issuer,
        subject=claims["sub"],
    )


def _is_address(email: str) -> bool:
    try:
        return users.checked_email(email) == email
    except Invalid:
        return False


def _name(claims: Mapping[str, Any], claim: str) -> str:
    found = claims.get(claim)
    return found[:_LONGEST_NAME] if isinstance(found, str) and found.isprintable() else ""


def _refuse(parts: Parts, now: datetime, reason: str, told: str) -> NoReturn:
    """``reason`` is for the log, ``told`` for the person; the audit has that somebody was refused."""
    _LOG.warning("sign-in through the provider refused", reason=reason)
    entrances.refused(parts, _act(parts, "sessions.create", "login"), now=now)
    raise Forbidden(told)


def _act(parts: Parts, action: str, resource: str, account: str = "", workspace: str = "") -> Act:
    return Act(
        action=action,
        resource=resource,
        workspace=workspace or parts.home,
        credential=CREDENTIAL,
        actor=account,
        kind=PrincipalKind.USER.value if account else NOBODY,
        outcome=AuditOutcome.SUCCESS if account else AuditOutcome.FAILED,
        status=200 if account else 403,
    )


def _no_answer(provider: Provider, error: ProviderFailed) -> NoReturn:
    _LOG.warning("provider failed", reason=str(error))
    name = provider.registration.name
    raise ProviderTrouble(f"{name} does not answer as it must: try again in a while, or ask who runs this server")
