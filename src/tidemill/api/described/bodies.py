"""JSON schemas of what is sent: those of the models that check types, with the limits that are checked by hand.

What depends on what the server holds (which images, revisions and regions there are, how big a node is) no schema
says; nor that a value must fit another one of the same request.
"""

from collections.abc import Mapping
from typing import Any, Final

from tidemill.api.described.answers import TEXT, Schema, listed, ref
from tidemill.api.described.identity import HOSTED_MEMBERS
from tidemill.api.wire import Body
from tidemill.api.wire_executions import ExecutionBody
from tidemill.api.wire_identity import ApiKeyBody, AvailabilityBody, ServiceAccountBody, UserBody, WorkspaceBody
from tidemill.api.wire_jobs import JobBody
from tidemill.api.wire_reruns import RerunBody
from tidemill.api.wire_tokens import DeviceBody, PasswordBody, TokenBody, TokenOnlyBody
from tidemill.api.wire_triggers import MAX_ASYNC_TIMEOUT_S, MAX_RETRY, MAX_TASKS
from tidemill.api.wire_triggers import MAX_TIMEOUT_S as MAX_TRIGGER_TIMEOUT_S
from tidemill.model.canary import MAX_STICKY_S, WHOLE_PERCENT
from tidemill.model.execution import Reason
from tidemill.model.image import MAX_REF, REGISTRY_PATTERN
from tidemill.model.job import MAX_CONCURRENT_TASKS, MAX_RETRIES, MAX_TIMEOUT_S, MIN_MEMORY_MB
from tidemill.model.principal import Role
from tidemill.model.retry import MAX_FACTOR, MAX_WAIT_S, RETRIED_REASONS
from tidemill.model.states import TASK_FINAL
from tidemill.service.executions import MAX_ENV, MAX_NAME
from tidemill.service.specs import GENERATIONS

MODELS: Final[tuple[type[Body], ...]] = (
    *(JobBody, ExecutionBody, RerunBody),
    *(WorkspaceBody, AvailabilityBody, UserBody, ServiceAccountBody, ApiKeyBody),
    *(TokenBody, TokenOnlyBody, DeviceBody, PasswordBody),
)
_NULL: Final[Schema] = {"type": "null"}
_EMPTY: Final[Schema] = {"enum": ["", None], "description": "not set"}


def _words(*words: str, said: str = "in any case") -> Schema:
    return {"type": "string", "enum": list(words), "description": said}


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _like(pattern: str, longest: int | None = None) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"} | ({} if longest is None else {"maxLength": longest})


def _or_null(*schemas: Schema, said: str = "") -> Schema:
    """One of them, or null, which is back to the default."""
    return {"anyOf": [*schemas, _NULL], **({"description": said} if said else {})}


def _or_empty(*schemas: Schema, said: str = "") -> Schema:
    """One of them, or what Go prints of a member that was never set."""
    return {"anyOf": [*schemas, _EMPTY], **({"description": said} if said else {})}


def _some(schema: Schema) -> Schema:
    """One value, or a list of them."""
    return {"anyOf": [schema, listed(schema), _NULL]}


_NAME: Final = _like("[a-z0-9]([a-z0-9-]{0,47}[a-z0-9])?")
_NO_WISH: Final = _whole(0, 0)
_NODE_SAYS: Final = "MB; the most is what the biggest node has; 0 is no wish"
_MEMORY: Final = _or_null(_NO_WISH, {"type": "integer", "minimum": MIN_MEMORY_MB}, said=_NODE_SAYS)
_VALUE: Final = _like(r"[^\u0000]*")
_VARIABLES: Final = _or_null(
    {
        "type": "object",
        "maxProperties": MAX_ENV,
        "propertyNames": {"pattern": r"^[^=\u0000]+$"},
        "additionalProperties": _VALUE,
    }
)
_EXECUTION_ID: Final = _or_empty(_like("[A-Za-z0-9._-]{8,64}"))
_KEY: Final = _or_null({"type": "string", "maxLength": MAX_NAME, "pattern": r"^[^\u0000]*$"})
_WAIT_S: Final = _or_null({"type": "number", "minimum": 0, "maximum": MAX_WAIT_S}, said="seconds")
_SPAN: Final = {"anyOf": [_whole(0, 999_999_999), _like(r" *[0-9]{1,9}(-[0-9]{1,9})? *")]}
_NOT_EMPTY: Final[Schema] = {"not": {"enum": [None, []]}}
_WORKSPACE: Final = _like("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TITLE: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 63}
_EMAIL: Final = _like(r"[^@\s\u0000-\u001f\u007f]{1,64}@[^@\s\u0000-\u001f\u007f]{1,189}")
_ROLE: Final[Schema] = {"type": "string", "enum": [role.value for role in Role]}
_SELECTS: Final = ("status", "exitCode", "reason", "indices")

_LIMITS: Final[Mapping[str, Mapping[str, Schema]]] = {
    "RuntimeBody": {
        "image": _or_empty(
            {"anyOf": [_like("job/[a-z0-9-]{1,49}(:[A-Za-z0-9._-]{1,64})?"), _like(REGISTRY_PATTERN, MAX_REF)]},
            said="an image built here, or one of a registry with its host",
        ),
        "memory": _MEMORY,
        "timeout": _or_null(_whole(0, MAX_TIMEOUT_S), said="seconds; 0 is back to the default"),
        "maxRetries": _or_null(_whole(0, MAX_RETRIES)),
        "maxConcurrentTasks": _or_null(_whole(0, MAX_CONCURRENT_TASKS), said="0 is back to the default"),
        "generation": _or_empty(_words(*GENERATIONS, said="changes nothing")),
        "network": _or_empty(_words("on", "none", said="none: a task reaches nothing but its own loopback")),
        "diskPercent": _or_null(_NO_WISH, _whole(10, 95)),
        "dockerConfig": _or_null(
            TEXT, said='{"auths": {HOST: {"auth": ...}}} as JSON text, for an image of a registry'
        ),
    },
    "RetryPolicyBody": {
        "initialSeconds": _WAIT_S,
        "factor": _or_null({"type": "number", "minimum": 1, "maximum": MAX_FACTOR}),
        "maxSeconds": {**_WAIT_S, "description": "seconds, initialSeconds or more"},
        "neverOn": _or_null(listed({"anyOf": [_whole(1, 255), _words(*(each.value for each in RETRIED_REASONS))]})),
    },
    "EnvBody": {"name": _like(r"[^=\u0000]+"), "value": _or_null(_VALUE)},
    "PortBody": {"protocol": _or_empty(_words("HTTP", "TCP", "UDP", "TLS"))},
    "VolumeBody": {"mountPath": _like(r"/(?!(.*/)?\.\.(/|$))[^\u0000]*")},
    "RunnerBody": {"repositories": _or_null(listed(_like("[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")))},
    "RevisionBody": {
        "active": _or_null(TEXT, said="the id of a kept revision; of a new job, what its first one is to be called"),
        "canary": _or_null(TEXT, said="the id of a kept revision"),
        "canaryPercent": _or_null(_whole(0, WHOLE_PERCENT)),
        "stickySessionTtl": _or_null(_whole(0, MAX_STICKY_S), said="seconds"),
        "traffic": _or_null(_whole(0, WHOLE_PERCENT)),
    },
    "TriggerBody": {"id": _or_empty(_like("[A-Za-z0-9._-]{1,64}"), said="made here where it is not set")},
    "ConfigurationBody": {
        "schedule": _or_empty(_like("[A-Za-z0-9*,/#?-]+( +[A-Za-z0-9*,/#?-]+){4}", 200), said="five fields, for cron"),
        "timezone": _or_empty(_like("[A-Za-z0-9_+/-]+", 64)),
        "catchUp": _or_empty({"enum": ["none", "last", "all"]}),
        "overlap": _or_empty({"enum": ["allow", "skip"]}),
        "tasks": _or_empty({"type": "array", "maxItems": MAX_TASKS, "items": {"type": "object"}}),
        "path": _or_empty(_like(r"/(?!executions(/|$))[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", 200)),
        "authenticationType": _or_empty({"enum": ["blaxel", "public"]}),
        "retry": _or_empty(_whole(0, MAX_RETRY)),
        "timeout": _or_empty(_whole(0, MAX_TRIGGER_TIMEOUT_S), said="seconds; 0 is not set"),
        "callbackUrl": _or_empty(_like(r"https?://[^\s/?#]+\S*", 2_000), said="of a public host"),
        "callbackSecret": {"description": "made here; what is sent is dropped"},
    },
    "ExecutionBody": {
        "env": _VARIABLES,
        "memory": _MEMORY,
        "executionId": _EXECUTION_ID,
        "id": _KEY,
        "tasks": _or_null({"type": "array", "minItems": 1, "items": {"type": "object"}}, said="1 to 1,000,000"),
    },
    "RerunBody": {
        "select": _or_empty(
            _words("failed", "not_succeeded", said="failed, or failed and cancelled"), ref("SelectBody")
        ),
        "memory": _MEMORY,
        "timeout": _or_null(_whole(0, MAX_TIMEOUT_S), said="seconds; 0 is no wish"),
        "env": _VARIABLES,
        "executionId": _EXECUTION_ID,
        "id": _KEY,
    },
    "SelectBody": {
        "status": _some(_words(*sorted(state.value for state in TASK_FINAL))),
        "exitCode": _some(_whole(0, 255)),
        "reason": _some(_words(*(each.value for each in Reason))),
        "indices": _some(_SPAN),
    },
    # what is answered comes back with `bl apply`, and is dropped
    "JobBody": {"events": {"anyOf": [listed(ref("CoreEvent")), {}], "readOnly": True}},
    "WorkspaceBody": {name: {"anyOf": [member, {}], "readOnly": True} for name, member in HOSTED_MEMBERS.items()},
    "AvailabilityBody": {"name": _WORKSPACE},
    "UserBody": {"email": _or_null(_EMAIL), "role": _or_null(_ROLE)},
    "ServiceAccountBody": {"name": _or_null(_TITLE), "role": _or_null(_ROLE)},
    "ApiKeyBody": {
        "name": _or_null(_TITLE),
        "expires_in": _or_empty(_like("[0-9]{1,9}[smhdw]"), said="more than nothing, at most ten years"),
    },
}
"""By model and member: what the type alone does not say. Members not named are as their model has them."""


def bodies() -> dict[str, Schema]:
    """The schemas of the models that check bodies, of what they use, and of the body of a new job."""
    found: dict[str, Schema] = {}
    for model in MODELS:
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        # enumerations are written out where they are used
        found |= {name: each for name, each in schema.pop("$defs", {}).items() if "properties" in each}
        found[model.__name__] = schema
    limited = {name: _limited(schema, _LIMITS.get(name, {})) for name, schema in found.items()}
    return limited | _triggers(limited) | _new(limited) | {"SelectBody": _selecting(limited["SelectBody"])}


def _limited(schema: Schema, limits: Mapping[str, Schema]) -> Schema:
    """With ``limits``, and without the titles that only repeat a name."""
    members = {
        name: {word: value for word, value in member.items() if word not in {"title", "default"}}
        for name, member in schema["properties"].items()
    }
    return {**schema, "properties": {**members, **limits}}


def _with(schema: Schema, members: Mapping[str, Schema], *required: str) -> Schema:
    names = dict.fromkeys([*schema.get("required", ()), *required])
    return {**schema, "properties": {**schema["properties"], **members}, "required": list(names)}


def _new(found: Mapping[str, Schema]) -> dict[str, Schema]:
    """What is made has a name or an email; a change has it in its path."""
    return {
        "NewWorkspaceBody": _with(found["WorkspaceBody"], {"name": _WORKSPACE}, "name"),
        "NewServiceAccountBody": _with(found["ServiceAccountBody"], {"name": _TITLE}, "name"),
        "NewUserBody": _with(found["UserBody"], {"email": _EMAIL}, "email"),
        "UserBody": _with(found["UserBody"], {"role": _ROLE}, "role"),
        "NewMetadataBody": _with(found["MetadataBody"], {"name": _NAME}, "name"),
        "NewJobBody": _with(found["JobBody"], {"metadata": ref("NewMetadataBody")}, "metadata"),
    }


def _triggers(found: Mapping[str, Schema]) -> dict[str, Schema]:
    """Each type asks for something else of its configuration."""
    configuration, trigger = found["ConfigurationBody"], found["TriggerBody"]
    schedule = {"schedule": {**configuration["properties"]["schedule"]["anyOf"][0], "description": "five fields"}}
    short = {"timeout": _or_empty(_whole(0, MAX_ASYNC_TIMEOUT_S), said="seconds; 0 is not set")}

    def of(kind: str, configured: Schema, *required: str) -> Schema:
        return _with(trigger, {"type": {"const": kind}, "configuration": configured}, *required)

    return {
        "CronConfigurationBody": _with(configuration, schedule, "schedule"),
        "AsyncConfigurationBody": _with(configuration, short),
        "CronTriggerBody": of("cron", ref("CronConfigurationBody"), "configuration"),
        "HttpTriggerBody": of("http", _or_null(ref("ConfigurationBody"))),
        "AsyncTriggerBody": of("http-async", _or_null(ref("AsyncConfigurationBody"))),
        "TriggerBody": {"oneOf": [ref("CronTriggerBody"), ref("HttpTriggerBody"), ref("AsyncTriggerBody")]},
    }


def _selecting(schema: Schema) -> Schema:
    """At least one member holds something to select by; an unknown one would be a filter that does not hold back."""
    one = [{"required": [name], "properties": {name: _NOT_EMPTY}} for name in _SELECTS]
    return {**schema, "anyOf": one, "additionalProperties": False}


def body_of(model: type[Body], *, new: bool) -> Any:
    """A reference to the schema of what is sent; ``new``: of what is made by it."""
    made = (JobBody, WorkspaceBody, ServiceAccountBody, UserBody)
    return ref(f"New{model.__name__}" if new and model in made else model.__name__)
