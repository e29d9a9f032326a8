"""What each route asks of a credential. One scope a route, those of the official description where it has the route.

A credential without limits may do all that its role may (model/principal.py); docs/security.md lists both.
"""

from collections.abc import Mapping
from typing import Final

_EXECUTION: Final = "/v0/jobs/{name}/executions/{execution}"
_CALLBACKS: Final = "/v0/jobs/{name}/callbacks"
_SERVICE_ACCOUNT: Final = "/v0/service_accounts/{client_id}"

SCOPES: Final[Mapping[tuple[str, str], str]] = {
    ("GET", "/v0/jobs"): "jobs:list",
    ("POST", "/v0/jobs"): "jobs:create",
    ("GET", "/v0/jobs/{name}"): "jobs:get",
    ("PUT", "/v0/jobs/{name}"): "jobs:update",
    ("DELETE", "/v0/jobs/{name}"): "jobs:delete",
    ("GET", "/v0/jobs/{name}/revisions"): "jobs:list",
    ("GET", "/v0/jobs/{name}/triggers"): "jobs:list",
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/fire"): "jobs:create",
    ("GET", "/v0/jobs/{name}/executions"): "jobs:list",
    ("POST", "/v0/jobs/{name}/executions"): "jobs:create",
    ("POST", "/{workspace_in_path}/jobs/{name}/executions"): "jobs:create",
    # unless the trigger that is called is a public one
    ("POST", "/{workspace_in_path}/jobs/{name}"): "jobs:create",
    ("POST", "/{workspace_in_path}/jobs/{name}/{path}"): "jobs:create",
    ("GET", _EXECUTION): "jobs:get",
    ("DELETE", _EXECUTION): "jobs:delete",
    ("POST", f"{_EXECUTION}/rerun"): "jobs:create",
    ("GET", f"{_EXECUTION}/tasks"): "jobs:get",
    ("GET", f"{_EXECUTION}/tasks/{{index}}"): "jobs:get",
    ("GET", f"{_EXECUTION}/explain"): "jobs:get",
    ("GET", f"{_EXECUTION}/results"): "jobs:get",
    ("GET", _CALLBACKS): "jobs:get",
    ("POST", f"{_CALLBACKS}/replay"): "jobs:update",
    ("POST", f"{_CALLBACKS}/{{execution}}/replay"): "jobs:update",
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/callback_secret"): "jobs:update",
    ("GET", "/v0/executions/{execution}"): "jobs:get",
    ("GET", "/v0/executions/{execution}/explain"): "jobs:get",
    ("GET", "/v0/observability/logs"): "jobs:get",
    ("GET", "/v0/events"): "jobs:list",
    ("GET", "/v0/audit"): "audit:list",
    ("GET", "/v0/keys"): "keys:rotate",
    ("POST", "/v0/keys/rotate"): "keys:rotate",
    ("POST", "/v0/keys/signing/rotate"): "keys:rotate",
    ("DELETE", "/v0/keys/signing/{kid}"): "keys:rotate",
    ("GET", "/v0/nodes"): "nodes:list",
    ("GET", "/v0/agents"): "agents:list",
    ("GET", "/v0/functions"): "functions:list",
    ("GET", "/v0/models"): "models:list",
    ("GET", "/v0/templates"): "templates:list",
    ("GET", "/v0/configuration"): "configurations:list",
    ("GET", "/v0/workspaces"): "workspaces:list",
    ("POST", "/v0/workspaces"): "workspaces:create",
    ("POST", "/v0/workspaces/availability"): "workspaces:list",
    ("GET", "/v0/workspaces/{workspace_name}"): "workspaces:get",
    ("PUT", "/v0/workspaces/{workspace_name}"): "workspaces:update",
    ("DELETE", "/v0/workspaces/{workspace_name}"): "workspaces:delete",
    ("DELETE", "/v0/workspaces/{workspace_name}/leave"): "workspaces:leave",
    # the official description asks workspaces:get, which members have: who else reaches it is for its admins to see
    ("GET", "/v0/service_accounts"): "workspaces:update",
    ("POST", "/v0/service_accounts"): "workspaces:update",
    ("PUT", _SERVICE_ACCOUNT): "workspaces:update",
    ("DELETE", _SERVICE_ACCOUNT): "workspaces:update",
    ("GET", f"{_SERVICE_ACCOUNT}/api_keys"): "apiKey:list",
    ("POST", f"{_SERVICE_ACCOUNT}/api_keys"): "apiKey:write",
    ("DELETE", f"{_SERVICE_ACCOUNT}/api_keys/{{key_id}}"): "apiKey:write",
    ("GET", "/v0/users"): "workspaces:update",
    ("POST", "/v0/users"): "workspaces:update",
    ("PUT", "/v0/users/{user}"): "workspaces:update",
    ("DELETE", "/v0/users/{user}"): "workspaces:update",
    ("POST", "/v0/users/{user}/password_reset"): "workspaces:update",
    ("POST", "/v0/oauth/introspect"): "workspaces:get",
    ("PUT", "/v0/profile/password"): "profile:update",
    ("GET", "/v0/profile/api_keys"): "profile:get",
    ("POST", "/v0/profile/api_keys"): "profile:update",
    ("DELETE", "/v0/profile/api_keys/{key_id}"): "profile:update",
}
"""By method and path template."""

ANYWHERE: Final = frozenset(
    {
        ("GET", "/v0/workspaces"),
        ("POST", "/v0/workspaces"),
        ("POST", "/v0/workspaces/availability"),
        ("PUT", "/v0/profile/password"),
        ("GET", "/v0/profile/api_keys"),
        ("POST", "/v0/profile/api_keys"),
        ("DELETE", "/v0/profile/api_keys/{key_id}"),
    }
)
"""Routes that are not about one workspace: whoever reaches several need not name one."""
