"""What an access token proves now: its signature, its claims, and what the ledger says of whom it is of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill import signing
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.principal import OwnExecution, PrincipalKind, Role
from tidemill.service import task_seats
from tidemill.service.parts import Parts
from tidemill.signing import BadToken, Claims
from tidemill.store import tokens

OF_A_TASK: Final = f"{OwnerKind.TASK}/"
"""How the ``session`` of a task's token begins: it is the attempt, which none of a person's sign-ins can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A good token. ``role`` is what its owner is in its workspace now, whatever they were when it was made.

    ``execution`` is the one that a task's token is for.
    """

    claims: Claims
    kind: PrincipalKind
    role: Role
    execution: OwnExecution | None = None

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.claims.scope.split())


def opened(parts: Parts, token: str, *, now: datetime) -> Bearer:
    """Raises BadToken for everything else than a good token. One statement; two for the token of a task.

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
    if behind is None or behind.is_ended:
        raise BadToken
    if behind.key_ends_at is not None and behind.key_ends_at <= now:
        raise BadToken
    claims = signing.proven(token, behind.public, issuer=parts.issuer, now=now)
    if claims.session.startswith(OF_A_TASK):
        return _of_task(parts, claims)
    if behind.owner is None:
        raise BadToken
    kind, role = behind.owner
    return Bearer(claims=claims, kind=kind, role=role)


def _of_task(parts: Parts, claims: Claims) -> Bearer:
    """While the attempt lives that the token was given to."""
    seat = task_seats.of_attempt(parts, AttemptId.parse(claims.session))
    if seat is None or (seat.name, seat.workspace) != (claims.subject, claims.workspace):
        raise BadToken
    task = seat.principal
    return Bearer(claims=claims, kind=task.kind, role=task.role, execution=task.execution)
