"""What an access token proves now: its signature, its claims, and what the ledger says of whom it is of."""

from dataclasses import dataclass
from datetime import datetime

from tidemill import signing
from tidemill.model.principal import PrincipalKind, Role
from tidemill.service.parts import Parts
from tidemill.signing import BadToken, Claims
from tidemill.store import tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A good token. ``role`` is what its owner is in its workspace now, whatever they were when it was made."""

    claims: Claims
    kind: PrincipalKind
    role: Role

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.claims.scope.split())


def opened(parts: Parts, token: str, *, now: datetime) -> Bearer:
    """Raises BadToken for everything else than a good token. One statement.

    Who says it is of whom is believed only after the key that was looked up by it has proven it: nothing is kept in
    memory, so a token that was ended on any server is refused by the next request to each of them.
    """
    told = signing.unproven(token)
    behind = parts.database.read(
        lambda connection: tokens.behind(
            connection,
            kid=told.kid,
            jti=told.id,
            subject=told.subject,
            workspace=told.workspace,
            sign_in=told.session,
        )
    )
    if behind is None or behind.owner is None or behind.is_ended:
        raise BadToken
    if behind.key_ends_at is not None and behind.key_ends_at <= now:
        raise BadToken
    claims = signing.proven(token, behind.public, issuer=parts.issuer, now=now)
    kind, role = behind.owner
    return Bearer(claims=claims, kind=kind, role=role)
