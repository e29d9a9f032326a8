"""The layer that gives every request its id, and sees to it that those to be audited are (docs/decisions/0099)."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.api.addresses import Network, caller
from tidemill.api.calls import Context
from tidemill.api.problems import problem
from tidemill.model.audit import AuditEntry, AuditOutcome
from tidemill.model.errors import TidemillError
from tidemill.service import audit
from tidemill.service.audit import Record
from tidemill.store.witness import witnessed

_VERBS: Final[Mapping[str, str]] = {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}
_CALLS: Final = ("/{workspace_in_path}/jobs/{name}", "/{workspace_in_path}/jobs/{name}/{path}")
_ACTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("DELETE", "/v0/jobs/{name}/executions/{execution}"): "executions.cancel",
    ("POST", "/v0/jobs/{name}/executions/{execution}/rerun"): "executions.rerun",
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/fire"): "triggers.fire",
    **{("POST", path): "triggers.call" for path in _CALLS},
    ("DELETE", "/v0/workspaces/{workspace_name}/leave"): "workspaces.leave",
    ("POST", "/v0/keys/rotate"): "keys.rotate",
    ("POST", "/v0/keys/signing/rotate"): "signing_keys.rotate",
    ("DELETE", "/v0/keys/signing/{kid}"): "signing_keys.end",
    ("POST", "/v0/jobs/{name}/callbacks/replay"): "callbacks.replay",
    ("POST", "/v0/jobs/{name}/callbacks/{execution}/replay"): "callbacks.replay",
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/callback_secret"): "callbacks.rotate",
    ("POST", "/v0/workspaces/availability"): "workspaces.check",
    ("POST", "/v0/users/{user}/password_reset"): "users.reset_password",
    ("POST", "/v0/oauth/introspect"): "tokens.introspect",
}
"""Where method and path do not say it well."""
_MAX_NAME: Final = 128
_SERVER_FAILED: Final = 500
_CLIENT_LEFT: Final = 499  # what web servers log of a client that has gone before its answer


class AuditLayer:
    """Around the routes. ``Record`` is in the request's state; every answer has its id in X-Request-Id."""

    def __init__(self, app: ASGIApp, context: Context, proxies: Sequence[Network] = ()) -> None:
        self._app = app
        self._proxies = proxies
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = caller(scope, self._proxies)
        record = Record(
            request=secrets.token_hex(16), parts=self._context.parts, address=seen.address, counted=seen.counted
        )
        scope.setdefault("state", {})["record"] = record
        replaced = False

        async def watched(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.request.encode())]
                try:
                    await self._end(record, message["status"])
                except TidemillError as error:
                    # a secret is not shown, and nothing is called done, without a row that says so
                    replaced = True
                    await problem(error)(scope, receive, send)
            if not replaced:
                await send(message)

        with witnessed(record):
            try:
                await self._app(scope, receive, watched)
            except Exception as error:
                await self._end(record, _CLIENT_LEFT if isinstance(error, ClientDisconnect) else _SERVER_FAILED)
                raise

    async def _end(self, record: Record, status: int) -> None:
        entry = record.ends(status)
        if entry is not None:
            record.written = True
            await self._context.run(partial(audit.write, record.parts, entry))


def record_of(request: Request) -> Record:
    found: Record = request.state.record
    return found


def begin(request: Request, actor: str, kind: str, workspace: str, credential: str, now: datetime) -> Record:
    """Somebody is authenticated: from here on the request may have a row."""
    record = record_of(request)
    method, path = request.method, request.scope["route"].path_format
    record.entry = AuditEntry(
        at=now,
        workspace=workspace,
        actor=actor,
        actor_kind=kind,
        credential=credential,
        action=action_of(method, path),
        resource=_resource(path, request.path_params),
        outcome=AuditOutcome.SUCCESS,
        status=200,
        address=record.address,
        request=record.request,
    )
    record.due = method != "GET"
    record.makes = method == "POST"
    return record


def action_of(method: str, path: str) -> str:
    """What a request of this path template does: ``jobs.update``, ``executions.cancel``."""
    nouns = [part for part in path.split("/") if part and not part.startswith("{")]
    return _ACTIONS.get((method, path)) or f"{nouns[-1]}.{_VERBS.get(method, method.lower())}"


def _resource(path: str, names: Mapping[str, str]) -> str:
    """The path below /v0 with its names, the same for both paths under which a job is run."""
    parts = path.removeprefix("/v0").removeprefix("/{workspace_in_path}").strip("/").split("/")
    return "/".join(_name(names[part[1:-1]]) if part.startswith("{") else part for part in parts)


def _name(value: str) -> str:
    return value[:_MAX_NAME].encode("utf-8", "backslashreplace").decode()
