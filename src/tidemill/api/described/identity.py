"""The operations about workspaces, users, service accounts and API keys, and the schemas of their answers."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation
from tidemill.api.wire_identity import ApiKeyBody, AvailabilityBody, ServiceAccountBody, UserBody, WorkspaceBody
from tidemill.model.principal import Role

_NAMED: Final = "/v0/workspaces/{workspace_name}"
_ONE: Final = "/v0/service_accounts/{client_id}"
_ROLE: Final = {"type": "string", "enum": [role.value for role in Role]}

IDENTITY: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/workspaces"): Operation(
        summary="List the workspaces that the credential reaches", answer=listed(ref("Workspace"))
    ),
    ("POST", "/v0/workspaces"): Operation(
        summary="Make a workspace", answer=ref("Workspace"), body=WorkspaceBody, errors=[409, 413]
    ),
    ("POST", "/v0/workspaces/availability"): Operation(
        summary="Whether a name can be had",
        answer={"anyOf": [{"type": "boolean"}, ref("WorkspaceAvailability")]},
        body=AvailabilityBody,
        query={"withReason": FLAG},
        errors=[413],
    ),
    ("GET", _NAMED): Operation(
        summary="Get a workspace", answer=ref("Workspace"), query={"countResources": FLAG}, errors=[404]
    ),
    ("PUT", _NAMED): Operation(
        summary="Change a workspace", answer=ref("Workspace"), body=WorkspaceBody, errors=[404, 413]
    ),
    ("DELETE", _NAMED): Operation(
        summary="Delete a workspace that has no jobs", answer=ref("Workspace"), errors=[404, 409]
    ),
    ("DELETE", f"{_NAMED}/leave"): Operation(summary="Leave a workspace", answer=ref("Workspace"), errors=[404, 409]),
    ("GET", "/v0/service_accounts"): Operation(summary="List service accounts", answer=listed(ref("ServiceAccount"))),
    ("POST", "/v0/service_accounts"): Operation(
        summary="Make a service account; the only answer with its secret",
        answer=ref("ServiceAccount"),
        body=ServiceAccountBody,
        errors=[413],
    ),
    ("PUT", _ONE): Operation(
        summary="Change a service account", answer=ref("ServiceAccount"), body=ServiceAccountBody, errors=[404, 413]
    ),
    ("DELETE", _ONE): Operation(
        summary="Delete a service account and end its credentials", answer=ref("ServiceAccount"), errors=[404]
    ),
    ("GET", f"{_ONE}/api_keys"): Operation(
        summary="List API keys of a service account", answer=listed(ref("ApiKey")), errors=[404]
    ),
    ("POST", f"{_ONE}/api_keys"): Operation(
        summary="Make an API key for a service account; the only answer with the key",
        answer=ref("ApiKey"),
        body=ApiKeyBody,
        errors=[404, 413],
    ),
    ("DELETE", f"{_ONE}/api_keys/{{key_id}}"): Operation(
        summary="End an API key of a service account", answer=ref("Message"), errors=[404]
    ),
    ("GET", "/v0/profile/api_keys"): Operation(summary="List one's own API keys", answer=listed(ref("ApiKey"))),
    ("POST", "/v0/profile/api_keys"): Operation(
        summary="Make an API key for oneself; the only answer with the key",
        answer=ref("ApiKey"),
        body=ApiKeyBody,
        errors=[413],
    ),
    ("DELETE", "/v0/profile/api_keys/{key_id}"): Operation(
        summary="End one of one's own API keys", answer=ref("Message"), errors=[404]
    ),
    ("GET", "/v0/users"): Operation(summary="List the people of the workspace", answer=listed(ref("WorkspaceUser"))),
    ("POST", "/v0/users"): Operation(
        summary="Make somebody a member", answer=ref("WorkspaceUser"), body=UserBody, errors=[409, 413]
    ),
    ("PUT", "/v0/users/{user}"): Operation(
        summary="Change somebody's role", answer=ref("WorkspaceUser"), body=UserBody, errors=[404, 409, 413]
    ),
    ("DELETE", "/v0/users/{user}"): Operation(
        summary="Take somebody out of the workspace", answer=ref("WorkspaceUser"), errors=[404, 409]
    ),
    ("POST", "/v0/users/{user}/password_reset"): Operation(
        summary="A link with which they set a password, once, within a day",
        answer=record({"url": TEXT, "expiresAt": TIME}),
        errors=[404],
    ),
}
"""By method and path."""

_TEXTS: Final = {"type": "object", "additionalProperties": TEXT}


_HOSTED: Final = "Of the official description; this server drops it and never answers it."
HOSTED_MEMBERS: Final[Mapping[str, Schema]] = {
    "accountId": {"type": "string", "description": _HOSTED},
    "region": {"type": "string", "description": _HOSTED},
    "statusReason": {"type": "string", "description": _HOSTED},
    "groupMappings": {
        "description": _HOSTED,
        **listed({"type": "object", "properties": {"groupName": TEXT, "role": TEXT}}),
    },
    "hipaaInfo": {
        "type": "object",
        "description": _HOSTED,
        "properties": {
            "accountEnabled": FLAG,
            "unsafe": {
                "type": "object",
                "properties": {"enabled": FLAG, **dict.fromkeys(("updatedAt", "updatedBy"), TEXT)},
            },
        },
    },
    "resourceCounts": {"type": "object", "additionalProperties": WHOLE},
    "runtime": {
        "type": "object",
        "properties": {
            "generation": TEXT,
            "sandbox": {"type": "object", "properties": {"disableProcessLogging": FLAG}},
        },
    },
}
"""Of a workspace: accepted whatever they are, so that what was read can be sent back."""

IDENTITY_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Workspace": record(
        {
            **dict.fromkeys(("id", "name", "displayName", "status"), TEXT),
            **dict.fromkeys(("createdAt", "updatedAt"), TIME),
            "labels": _TEXTS,
        },
        {**dict.fromkeys(("createdBy", "updatedBy"), TEXT), **HOSTED_MEMBERS},
    ),
    "WorkspaceAvailability": record({"available": FLAG}, {"reason": TEXT, "message": TEXT}),
    "ServiceAccount": record(
        {
            **dict.fromkeys(("client_id", "name", "description"), TEXT),
            "role": _ROLE,
            **dict.fromkeys(("created_at", "updated_at"), TIME),
        },
        {"client_secret": {"type": "string", "description": "only in the answer that made it"}},
    ),
    "ApiKey": record(
        {
            **dict.fromkeys(("id", "name", "expires_in", "sub", "sub_type", "createdBy", "updatedBy"), TEXT),
            "apiKey": {"type": "string", "description": "whole only in the answer that made it"},
            **dict.fromkeys(("createdAt", "updatedAt"), TIME),
        },
        dict.fromkeys(("expiresAt", "lastUsedAt"), TIME),
    ),
    "WorkspaceUser": record(
        {
            **dict.fromkeys(("sub", "email", "given_name", "family_name"), TEXT),
            "role": _ROLE,
            "accepted": {"type": "boolean", "description": "whether they can sign in"},
        }
    ),
}
