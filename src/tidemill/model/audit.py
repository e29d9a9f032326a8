"""What the audit keeps of a request: who did what to which resource from where, and how it ended. Never a value."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

NOBODY: Final = "nobody"
"""The kind of actor where it is not known who asked."""
SERVER: Final = "server"
"""The kind of actor of what the server does by itself."""


class AuditOutcome(StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    """The credential is good, but lacks the right."""
    FAILED = "failed"
    """Nothing was changed, for another reason: the status of the answer tells which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One request. ``workspace`` is empty where it meant none that there is.

    ``actor`` is an account's id or a service account's client id, "" with the ``actor_kind`` ``NOBODY`` or ``SERVER``;
    ``credential`` the kind of what it presented, ``resource`` the path of the resource below /v0, and of what was made;
    ``request`` our own id of the request.
    """

    at: datetime
    workspace: str
    actor: str
    actor_kind: str
    credential: str
    action: str
    resource: str
    outcome: AuditOutcome
    status: int
    address: str
    request: str
