"""Who asks, and what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody is in a workspace (contract 2.6)."""

    ADMIN = "admin"
    MEMBER = "member"


class PrincipalKind(StrEnum):
    USER = "user"
    SERVICE_ACCOUNT = "service_account"
    TASK = "task"
    PUBLIC = "public"
    """Nobody that is known: whoever calls a trigger that asks for no credential."""


EVERYTHING: Final = "admin"
"""The scope that contains all others (contract 2.6)."""

_MEMBER: Final = frozenset(
    {
        *(f"jobs:{act}" for act in ("list", "get", "create", "update", "delete")),
        *(f"images:{act}" for act in ("list", "get", "create", "delete")),
        *("policies:list", "policies:get", "locations:list"),
        *("agents:list", "functions:list", "models:list", "templates:list", "configurations:list"),
        *("workspaces:list", "workspaces:get", "workspaces:leave", "profile:get", "profile:update"),
    }
)
_ADMIN: Final = _MEMBER | {
    *("images:share", "policies:create", "policies:update", "policies:delete"),
    *("workspaces:create", "workspaces:update", "workspaces:delete"),
    *("apiKey:list", "apiKey:write", "audit:list", "keys:rotate", "nodes:list"),
}
SCOPES: Final[Mapping[Role, frozenset[str]]] = {Role.ADMIN: _ADMIN, Role.MEMBER: _MEMBER}
"""What each role may do: members see and change jobs, and read the rest of their workspace (contract 2.6)."""


TASK_SCOPES: Final = frozenset({"jobs:get"})


@dataclass(frozen=True, slots=True)
class OwnExecution:
    """The execution that a task is of, by the name of its job and its id."""

    job: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller with a role in one workspace: what a request acts as.

    ``id`` goes into createdBy and the audit: an account's id, a service account's client id, EXECUTION/INDEX/NUMBER of
    a task's attempt, or trigger/ID for nobody that is known. ``scopes`` is what the credential was limited to; None
    when it may do all that its role may. ``bound``: it reaches this workspace only, whatever others its owner reaches.
    A task has an ``execution``, the only thing that it may see.
    """

    id: str
    workspace: str
    role: Role
    kind: PrincipalKind = PrincipalKind.USER
    scopes: frozenset[str] | None = None
    execution: OwnExecution | None = None
    bound: bool = False

    @property
    def is_narrowed(self) -> bool:
        """Whether the credential may do less than its role."""
        return not all(self.may(scope) for scope in SCOPES[self.role])

    def may(self, scope: str) -> bool:
        """Whether role and credential both allow it."""
        within = self.scopes is None or scope in self.scopes or EVERYTHING in self.scopes
        return within and scope in SCOPES[self.role]
