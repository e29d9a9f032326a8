"""Workspaces, users, service accounts and API keys on the wire (contract 2.6). Service accounts speak snake case."""

from typing import Annotated, Final

from pydantic import Field

from tidemill.api.wire import Body, Json, Text, present, timestamp
from tidemill.model.errors import Invalid
from tidemill.model.principal import Role
from tidemill.service.service_accounts import ServiceAccountWish
from tidemill.service.workspaces import WorkspaceWish
from tidemill.store.api_keys import ApiKey
from tidemill.store.identity import Member
from tidemill.store.service_accounts import ServiceAccount
from tidemill.store.workspaces import Workspace

_ROLES: Final = " or ".join(role.value for role in Role)

Name = Annotated[str, Field(min_length=1, max_length=63, description="text of 1 to 63 characters")]
RoleWord = Annotated[Role, Field(strict=False, description=_ROLES)]


class WorkspaceBody(Body):
    name: Text = None
    display_name: Annotated[str | None, Field(max_length=63, description="text of up to 63 characters")] = None
    labels: dict[str, str | None] | None = None
    # what is the server's to set, or of the hosted service alone: accepted as it is read, and dropped
    account_id: Json = None
    group_mappings: Json = None
    hipaa_info: Json = None
    id: Json = None
    region: Json = None
    resource_counts: Json = None
    runtime: Json = None
    status: Json = None
    status_reason: Json = None
    created_at: Json = None
    created_by: Json = None
    updated_at: Json = None
    updated_by: Json = None


class AvailabilityBody(Body):
    name: str


class ServiceAccountBody(Body):
    name: Name | None = None
    description: str | None = None
    role: RoleWord | None = None


class ApiKeyBody(Body):
    name: Name | None = None
    expires_in: Annotated[Text, Field(alias="expires_in")] = None


class UserBody(Body):
    """``password`` is for an account that is made: it is neither kept nor answered in this form."""

    email: str | None = None
    password: Text = None
    role: RoleWord | None = None


def workspace_wish(body: WorkspaceBody) -> WorkspaceWish:
    labels = None
    if body.has("labels"):
        labels = {name: value or "" for name, value in (body.labels or {}).items()}
    return WorkspaceWish(display_name=body.display_name, labels=labels)


def workspace_view(workspace: Workspace) -> dict[str, Json]:
    return present(
        {
            "id": workspace.name,
            "name": workspace.name,
            "displayName": workspace.display_name,
            "labels": dict(workspace.labels),
            "status": "ready",
            "runtime": {"generation": "mk3"},
            "createdAt": timestamp(workspace.created_at),
            "createdBy": workspace.created_by or None,
            "updatedAt": timestamp(workspace.updated_at or workspace.created_at),
            "updatedBy": workspace.updated_by or workspace.created_by or None,
        }
    )


def service_account_wish(body: ServiceAccountBody) -> ServiceAccountWish:
    return ServiceAccountWish(name=body.name, description=body.description, role=body.role)


def service_account_view(account: ServiceAccount) -> dict[str, Json]:
    return {
        "client_id": account.client_id,
        "name": account.name,
        "description": account.description,
        "role": account.role.value,
        "created_at": timestamp(account.created_at),
        "updated_at": timestamp(account.updated_at),
    }


def key_view(key: ApiKey, text: str = "") -> dict[str, Json]:
    """``text`` is the key itself, right after it was made; else what its beginning is."""
    return present(
        {
            "id": key.id,
            "name": key.name,
            "apiKey": text or f"{key.prefix}{'*' * 8}",
            "expires_in": key.expires_in,
            "expiresAt": timestamp(key.expires_at),
            "lastUsedAt": timestamp(key.last_used_at),
            "sub": key.owner,
            "sub_type": key.owner_kind.value,
            "createdAt": timestamp(key.created_at),
            "updatedAt": timestamp(key.created_at),
            "createdBy": key.created_by,
            "updatedBy": key.created_by,
        }
    )


def user_view(member: Member) -> dict[str, Json]:
    account = member.account
    return {
        "sub": account.id,
        "email": account.email,
        "given_name": account.given_name,
        "family_name": account.family_name,
        "role": member.role.value,
        "accepted": member.can_sign_in,
    }


def required(value: str | None, path: str) -> str:
    """``value``, which must be there. Raises Invalid."""
    if not value:
        raise Invalid(f"{path} is missing; it must be a text that is not empty")
    return value
