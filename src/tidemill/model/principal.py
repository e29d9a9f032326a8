"""Who asks."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller with a role in one workspace: what a request acts as. ``id`` goes into createdBy and the audit."""

    id: str
    workspace: str
    role: Role
