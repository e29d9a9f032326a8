"""The OpenAPI document: a row for every operation that is served. A test compares the rows with the routes."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from tidemill.api.calls import UPLOAD_HEADER, VERSIONS
from tidemill.api.described.answers import FLAG, SCHEMAS, TEXT, TIME, either_shape, listed, page_of, ref
from tidemill.api.described.audit import AUDIT, AUDIT_SCHEMAS
from tidemill.api.described.bodies import bodies, body_of
from tidemill.api.described.callbacks import CALLBACKS, CALLBACKS_SCHEMAS
from tidemill.api.described.events import EVENT_SCHEMAS, EVENTS
from tidemill.api.described.identity import IDENTITY, IDENTITY_SCHEMAS
from tidemill.api.described.keys import KEYS, KEYS_SCHEMAS
from tidemill.api.described.links import links
from tidemill.api.described.nodes import NODE_SCHEMAS, NODES
from tidemill.api.described.operation import Operation
from tidemill.api.described.parameters import MAX_NUMBER, comma_list, query
from tidemill.api.described.tokens import TOKENS, TOKENS_SCHEMAS
from tidemill.api.limits import NEVER_COUNTED
from tidemill.api.scopes import SCOPES
from tidemill.api.wire_executions import ExecutionBody
from tidemill.api.wire_jobs import JobBody
from tidemill.api.wire_reruns import RerunBody
from tidemill.model.lease import Severity
from tidemill.model.states import JobState, TaskState
from tidemill.service.executions import MAX_NAME

_SORTS: Final = {"type": "string", "enum": ["createdAt:desc", "createdAt:asc", "name:asc", "name:desc"]}
_KEY: Final = {"type": "string", "maxLength": MAX_NAME, "pattern": r"^[^\u0000]*$"}
_IN_PATH: Final = {"type": "string", "minLength": 1}
_LIMIT: Final = {"type": "integer", "minimum": 1}
_LIST: Final = {"cursor": TEXT, "limit": _LIMIT, "sort": _SORTS, "q": {"type": "string", "maxLength": 200}}
_OFFSET: Final = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
_ANCHOR: Final = {"type": "string", "enum": ["end"], "description": "With a sort by createdAt; from 2026-04-28 on"}
_JOB_STATES: Final = comma_list(*(state.value for state in JobState), "BUILT")
_TASK_STATES: Final = comma_list(*(state.value for state in TaskState))

_EXECUTION: Final = ref("JobExecution")
_NEW: Final = Operation(
    summary="Start an execution; an empty body is one task without arguments",
    answer=ref("CreateJobExecutionOutput"),
    body=ExecutionBody,
    query={"strict": FLAG},
    headers=["Idempotency-Key"],
    errors=[404, 409, 413, 429],
)
_CALL: Final = Operation(
    summary="Call a trigger of type http, or with async=true one of type http-async",
    answer={"oneOf": [ref("CallAnswer"), ref("AsyncCallAnswer")]},
    accepted=ref("CallAccepted"),
    sent={
        "description": "An execution request where it has tasks, else the arguments of one task",
        "oneOf": [
            {"allOf": [ref("ExecutionBody"), {"required": ["tasks"]}]},
            {"type": "object", "not": {"required": ["tasks"]}},
        ],
    },
    query={"async": FLAG, "strict": FLAG},
    headers=["Idempotency-Key"],
    errors=[404, 409, 413, 429],
)
_EXPLAIN: Final = Operation(
    summary="Why an execution or one of its tasks waits, or how it ended",
    answer=ref("Explanation"),
    query={"task": TEXT},
    errors=[404, 409],
)
_NONE: Final = Operation(summary="An empty list: this server has none", answer=either_shape({"type": "object"}))
_WRITE: Final = {"upload": FLAG, "strict": FLAG}
_ONE: Final = "/v0/jobs/{name}/executions/{execution}"

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/healthz"): Operation(summary="Whether the server is alive", answer=ref("Health"), public=True),
    ("GET", "/readyz"): Operation(summary="Whether it accepts work", answer=ref("Health"), errors=[503], public=True),
    ("GET", "/v0/openapi.json"): Operation(summary="This document", answer={"type": "object"}, public=True),
    ("GET", "/docs"): Operation(summary="This document as a page", answer=TEXT, media="text/html", public=True),
    ("GET", "/docs/{file}"): Operation(
        summary="What that page is made of", answer=TEXT, media="*/*", errors=[404], public=True
    ),
    ("PUT", "/uploads/{capability}"): Operation(
        summary="Send a source archive to the address that a deploy was answered",
        answer=ref("Message"),
        errors=[400, 404, 409, 411, 413, 503],
        public=True,
    ),
    ("GET", "/v0/jobs"): Operation(
        summary="List jobs", answer=either_shape(ref("Job")), query={**_LIST, "anchor": _ANCHOR, "status": _JOB_STATES}
    ),
    ("POST", "/v0/jobs"): Operation(
        summary="Create a job", answer=ref("Job"), body=JobBody, query=_WRITE, errors=[409, 413]
    ),
    ("GET", "/v0/jobs/{name}"): Operation(
        summary="Get a job", answer=ref("Job"), query={"show_secrets": FLAG}, errors=[404]
    ),
    ("PUT", "/v0/jobs/{name}"): Operation(
        summary="Change a job", answer=ref("Job"), body=JobBody, query=_WRITE, errors=[404, 409, 413]
    ),
    ("DELETE", "/v0/jobs/{name}"): Operation(
        summary="Delete a job and cancel its executions", answer=ref("Job"), errors=[404, 409]
    ),
    ("GET", "/v0/jobs/{name}/revisions"): Operation(
        summary="List the revisions that are kept", answer=listed(ref("RevisionMetadata")), errors=[404]
    ),
    ("GET", "/v0/jobs/{name}/triggers"): Operation(
        summary="List the triggers of a job, with their next runs and the last",
        answer=listed(ref("TriggerShown")),
        errors=[404],
    ),
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/fire"): Operation(
        summary="Start an execution with the arguments of a trigger, now",
        answer=ref("CreateJobExecutionOutput"),
        headers=["Idempotency-Key"],
        errors=[404, 409],
    ),
    ("POST", "/v0/jobs/{name}/executions"): _NEW,
    ("POST", "/{workspace_in_path}/jobs/{name}/executions"): _NEW,
    ("POST", "/{workspace_in_path}/jobs/{name}"): _CALL,
    ("POST", "/{workspace_in_path}/jobs/{name}/{path}"): _CALL,
    ("GET", "/v0/jobs/{name}/executions"): Operation(
        summary="List executions of a job",
        answer=either_shape(_EXECUTION),
        query={**_LIST, "offset": _OFFSET},
        errors=[404],
    ),
    ("GET", _ONE): Operation(summary="Get an execution with its first tasks", answer=_EXECUTION, errors=[404]),
    ("DELETE", _ONE): Operation(
        summary="Cancel an execution; force ends what runs", answer=_EXECUTION, query={"force": FLAG}, errors=[404, 409]
    ),
    ("GET", "/v0/executions/{execution}"): Operation(
        summary="Get an execution, whatever its job", answer=_EXECUTION, errors=[404]
    ),
    ("POST", f"{_ONE}/rerun"): Operation(
        summary="Run tasks of an execution again; an empty body is those that failed",
        answer=ref("CreateJobExecutionOutput"),
        body=RerunBody,
        query={"strict": FLAG},
        headers=["Idempotency-Key"],
        errors=[404, 409, 413, 429],
    ),
    ("GET", f"{_ONE}/tasks"): Operation(
        summary="List tasks by index",
        answer=page_of(ref("JobExecutionTask")),
        query={**_LIST, "status": _TASK_STATES},
        errors=[404],
    ),
    ("GET", f"{_ONE}/tasks/{{index}}"): Operation(
        summary="Get a task with its attempts", answer=ref("JobExecutionTask"), errors=[404]
    ),
    ("GET", f"{_ONE}/explain"): _EXPLAIN,
    ("GET", "/v0/executions/{execution}/explain"): _EXPLAIN,
    ("GET", f"{_ONE}/results"): Operation(
        summary="One line of JSON per task that has ended",
        answer=TEXT,
        query={"follow": FLAG, "chain": FLAG},
        errors=[404],
        media="application/x-ndjson",
    ),
    ("GET", "/v0/observability/logs"): Operation(
        summary="Lines that tasks and builds of a job have written",
        answer=ref("Logs"),
        query={
            "workloadIds": {"type": "string", "pattern": "^[^,]+$", "description": "The name of one job"},
            "resourceType": {"type": "string", "enum": ["jobs", "job", ""]},
            **dict.fromkeys(("executionId", "search", "type"), TEXT),
            "taskId": {"type": "string", "pattern": "^((task-?)?[0-9]{1,9})?$"},
            "severity": comma_list(*Severity, "ALL"),
            **dict.fromkeys(("start", "end"), TIME),
            "limit": {**_LIMIT, "maximum": MAX_NUMBER},
            "offset": _OFFSET,
        },
        required=["workloadIds"],
        errors=[404],
    ),
    **CALLBACKS,
    **IDENTITY,
    **AUDIT,
    **EVENTS,
    **TOKENS,
    **KEYS,
    **NODES,
    ("GET", "/v0/agents"): _NONE,
    ("GET", "/v0/functions"): _NONE,
    ("GET", "/v0/models"): _NONE,
    ("GET", "/v0/templates"): Operation(summary="An empty list", answer=listed({"type": "object"})),
    ("GET", "/v0/configuration"): Operation(summary="An object of empty lists", answer=ref("Configuration")),
}
"""By method and path."""

_IDS: Final = {
    (method, path): re.sub(r"\W+", "_", f"{method} {path}").strip("_").lower() for method, path in OPERATIONS
}
_NOUNS: Final = frozenset({"audit", "events", "jobs", "keys", "nodes", "workspaces", "service_accounts", "users"})
_GUARDED: Final = (400, 401, 403, 503)
_EVERYWHERE: Final = (408, 431)
"""A request that comes too slowly, or with too much of a head."""
_PARAMETERS: Final = {
    "BlaxelVersion": {
        "name": "Blaxel-Version",
        "in": "header",
        "description": "One of those listed, each with or without .preview; empty or absent, the first.",
        "schema": {"type": "string", "enum": ["", *(each + tail for each in VERSIONS for tail in ("", ".preview"))]},
    },
    "Workspace": {
        "name": "X-Blaxel-Workspace",
        "in": "header",
        "description": "The workspace that is meant; without the header, the credential's own.",
        "schema": TEXT,
    },
}


def document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidemill", "version": VERSIONS[-1], "description": "Batch jobs on machines of your own."},
        "servers": [{"url": "/"}],
        "security": [{"Bearer": []}, {"BlaxelBearer": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **SCHEMAS,
                **CALLBACKS_SCHEMAS,
                **IDENTITY_SCHEMAS,
                **AUDIT_SCHEMAS,
                **EVENT_SCHEMAS,
                **TOKENS_SCHEMAS,
                **KEYS_SCHEMAS,
                **NODE_SCHEMAS,
                **bodies(),
            },
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "Bearer": {"type": "http", "scheme": "bearer"},
                "BlaxelBearer": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Blaxel-Authorization",
                    "description": "`Bearer API_KEY` or `Bearer TOKEN`; wins over Authorization.",
                },
                "OAuth2": {
                    "type": "oauth2",
                    "description": "A token as bearer in either header; what is asked for here is what it must hold.",
                    "flows": {
                        "clientCredentials": {
                            "tokenUrl": "/v0/oauth/token",
                            "refreshUrl": "/v0/oauth/token",
                            "scopes": dict.fromkeys(sorted(set(SCOPES.values())), "what the routes that name it do"),
                        }
                    },
                },
            },
        },
    }


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    names = [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH} for name in re.findall(r"{(\w+)}", path)
    ]
    queries = [query(name, schema, operation.required) for name, schema in (operation.query or {}).items()]
    headers = [{"name": name, "in": "header", "schema": _KEY} for name in operation.headers]
    common = [] if operation.public else [{"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS]
    limited = () if path in NEVER_COUNTED else (429,)
    errors = sorted({*operation.errors, *(() if operation.public else _GUARDED), *limited, *_EVERYWHERE})
    described: dict[str, Any] = {
        "operationId": _IDS[method, path],
        "summary": operation.summary,
        "tags": [_noun(path)],
        "parameters": names + queries + headers + common,
        "responses": {"200": _success(method, path, operation)} | {str(status): _error(status) for status in errors},
    }
    if operation.accepted is not None:
        content = {"application/json": {"schema": operation.accepted}}
        described["responses"]["202"] = {"description": "It goes on", "content": content}
    # any one of them: a key of whose owner may do it, or a token that holds the scope besides
    keys: list[dict[str, list[str]]] = [{"Bearer": []}, {"BlaxelBearer": []}]
    described["security"] = [] if operation.public else [*keys, {"OAuth2": [SCOPES[method, path]]}]
    if operation.body is not None:
        # an execution and a rerun may have none
        media = ("application/json", *(("application/x-www-form-urlencoded",) if operation.forms else ()))
        described["requestBody"] = {
            "required": operation.body not in {ExecutionBody, RerunBody},
            "content": {each: {"schema": body_of(operation.body, new=method == "POST")} for each in media},
        }
    elif operation.sent is not None:
        described["requestBody"] = {"required": False, "content": {"application/json": {"schema": operation.sent}}}
    elif method == "PUT":
        binary = {"type": "string", "format": "binary"}
        described["requestBody"] = {"required": True, "content": {"application/zip": {"schema": binary}}}
    return described


def _noun(path: str) -> str:
    """What the operation is about: readers find it under this heading."""
    if "/executions" in path:
        return "executions"
    if "/callback" in path:
        return "callbacks"
    words = path.removeprefix("/v0/").removeprefix("/{workspace_in_path}/").split("/")
    if words[0] in {"oauth", "login", "/login", "/device", ""} or ".well-known" in words:
        return "tokens"
    if words[0] == "profile":
        return "api_keys"
    return {"observability": "logs"}.get(words[0], words[0] if words[0] in _NOUNS else "server")


def _success(method: str, path: str, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"description": "Done", "content": {operation.media: {"schema": operation.answer}}}
    if operation.body is JobBody:
        found["headers"] = {
            UPLOAD_HEADER: {"description": "Where to PUT the source, after upload=true", "schema": TEXT}
        }
    if leads := links((method, path), _IDS):
        found["links"] = leads
    return found


def _error(status: int) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": ref("Error")}}}
