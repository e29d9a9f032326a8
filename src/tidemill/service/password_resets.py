"""An admin lets somebody set a password without the one that they have: by a link that is good once, for a day.

Nothing of a link is kept. It is a keyed hash over all that it is good for: the account, its end, the password that the
account had, and the workspaces that it was in. So it ends when a password is set, by it or otherwise, and when the
account gets into a workspace whose admins have not agreed (docs/decisions/0109).
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill.model.audit import NOBODY, AuditOutcome
from tidemill.model.errors import Forbidden, NotFound
from tidemill.model.principal import Principal, PrincipalKind, Role
from tidemill.model.quoted import quoted
from tidemill.service import entrances, guesses, sign_in
from tidemill.service.entrances import Act
from tidemill.service.parts import Parts
from tidemill.store import identity, passwords
from tidemill.store.database import Connection
from tidemill.store.identity import Account
from tidemill.store.passwords import Held

LASTS: Final = timedelta(hours=24)
_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Link:
    """``secret`` is what the link carries."""

    secret: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """An account as a link is bound to it."""

    account: Account
    password: str = field(repr=False)
    workspaces: dict[str, Role]


def make(parts: Parts, principal: Principal, id_or_email: str, *, now: datetime) -> Link:
    """A link for somebody of the caller's workspace. Up to four statements.

    Raises NotFound; Forbidden where the account is also in workspaces that the caller is no admin of: who sets the
    password has all of them, and for a token that is limited in scope.
    """

    def read(connection: Connection) -> tuple[_State | None, dict[str, Role]]:
        account = identity.find_account(connection, id_or_email)
        reached = {principal.workspace: principal.role}
        if principal.kind is PrincipalKind.USER and not principal.bound:
            reached = identity.workspaces_of(connection, principal.id)
        return None if account is None else _state(connection, account), reached

    state, reached = parts.database.read(read)
    if state is None or principal.workspace not in state.workspaces:
        raise NotFound(f"no user {quoted(id_or_email)} in workspace {quoted(principal.workspace)}")
    if principal.is_narrowed:
        raise Forbidden("a token limited in scope gives no passwords: who signs in with one is not limited")
    if any(reached.get(name) is not Role.ADMIN for name in state.workspaces):
        raise Forbidden(
            f"{quoted(state.account.email)} is in other workspaces too: only an admin of all of them may reset the "
            "password; else their admins take the account out of them first"
        )
    expires = int((now + LASTS).timestamp())
    about = base64.urlsafe_b64encode(state.account.id.encode()).decode().rstrip("=")
    return Link(f"{about}.{expires}.{_mac(parts, state, expires)}", datetime.fromtimestamp(expires, UTC))


def email_of(parts: Parts, secret: str, *, now: datetime) -> str:
    """Whose password the link sets. Three statements. Raises Forbidden for a link that is not good."""
    return _opened(parts, secret, now).account.email


def use(parts: Parts, secret: str, new: str, *, now: datetime) -> None:
    """Set the password; every session and sign-in of the account is over. Three statements, then a unit of eleven.

    Raises Forbidden for a link that is not good, Invalid for a password that is none.
    """
    seen = _opened(parts, secret, now)
    kept = sign_in.hashed(parts, new, "the new password")
    tell = entrances.teller(parts, now=now)
    act = _act(parts, actor=seen.account.id, kind=PrincipalKind.USER.value)

    def unit(connection: Connection) -> bool:
        # it may have been used, or the account got into another workspace, while this password was hashed
        if _found(connection, parts, secret, now) is None:
            return False
        passwords.set_password(connection, seen.account.id, seen.password, kept, now=now)
        # who has forgotten it has guessed before
        passwords.forget_guesses(connection, guesses.about(parts.keyring, f"account/{seen.account.email}"))
        tell(connection, act)
        return True

    if not parts.database.write(unit, wakes=False):
        raise _not_good()


def _opened(parts: Parts, secret: str, now: datetime) -> _State:
    found = parts.database.read(lambda connection: _found(connection, parts, secret, now))
    if found is None:
        failed = _act(parts, actor="", kind=NOBODY, outcome=AuditOutcome.FAILED, status=_FORBIDDEN)
        entrances.refused(parts, failed, now=now)
        raise _not_good()
    return found


def _found(connection: Connection, parts: Parts, secret: str, now: datetime) -> _State | None:
    """What a good link is for. At most three statements, by primary keys."""
    about, _, rest = secret.partition(".")
    expires, _, mac = rest.partition(".")
    try:
        account_id = base64.urlsafe_b64decode(about + "=" * (-len(about) % 4)).decode()
        ends = int(expires) if expires.isascii() and expires.isdigit() and len(expires) <= len("9999999999") else 0
    except (binascii.Error, ValueError):
        return None
    account = identity.find_account(connection, account_id) if ends > now.timestamp() else None
    if account is None:
        return None
    state = _state(connection, account)
    good = hmac.compare_digest(_mac(parts, state, ends).encode(), mac.encode("utf-8", "surrogatepass"))
    return state if good else None


def _state(connection: Connection, account: Account) -> _State:
    held = passwords.of_account(connection, account.id) or Held(account.id, "")
    workspaces = identity.workspaces_of(connection, account.id)
    return _State(account=account, password=held.password, workspaces=workspaces)


def _mac(parts: Parts, state: _State, expires: int) -> str:
    bound = "\0".join([state.account.id, str(expires), state.password, *sorted(state.workspaces)])
    return base64.urlsafe_b64encode(parts.keyring.mac("password reset", bound.encode())).decode().rstrip("=")


def _act(
    parts: Parts, *, actor: str, kind: str, outcome: AuditOutcome = AuditOutcome.SUCCESS, status: int = 200
) -> Act:
    return Act(
        action="passwords.reset",
        resource="login/reset",
        workspace=parts.home,
        credential="reset_link",
        actor=actor,
        kind=kind,
        outcome=outcome,
        status=status,
    )


def _not_good() -> Forbidden:
    return Forbidden("this link is not whole, was used already, or has ended: ask for another one")
