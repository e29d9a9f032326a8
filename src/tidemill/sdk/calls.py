"""Every request of the client as a plain value, built by pure functions that a sync and an async client can share.

Paths are below the API base (`http://HOST:PORT/v0`); docs/wire.md says what each answers (contract 4.1, 5, 6.1).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from tidemill.sdk.wire import Job

API_VERSION: Final = "2026-04-28"
"""From this version on every list has the shape `{data, meta}`."""

ALL_SEVERITIES: Final = ("FATAL", "ERROR", "WARNING", "INFO", "DEBUG", "TRACE", "UNKNOWN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `repeatable` says that sending it twice does no more than sending it once."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True
    read_timeout_s: float | None = 60.0
    """Longest silence of the server; None where it may be silent for as long as tasks run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Which page of a list. `limit` None leaves it to the server; `status` filters by states, comma separated."""

    limit: int | None = None
    cursor: str = ""
    status: str = ""

    def parameters(self) -> dict[str, str]:
        """As query parameters; what is not set is left out."""
        named = {"limit": "" if self.limit is None else str(self.limit), "cursor": self.cursor, "status": self.status}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines of a job. The newest `limit` lines of the window come first; `offset` skips that many of them."""

    job: str
    start: datetime
    end: datetime
    execution: str = ""
    """An execution's id or a unique prefix of it."""
    task: str = ""
    search: str = ""
    severities: tuple[str, ...] = ALL_SEVERITIES
    limit: int = 1000
    offset: int = 0
    workspace: str = ""
    builds_only: bool = False
    """Only lines of builds; a server that does not know this sends those of tasks too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events: those after a number, or from now on (None); of one job or execution; with those of tasks or not.

    The server waits up to `wait_s` seconds (60 at most) for the first one.
    """

    after: int | None = None
    job: str = ""
    execution: str = ""
    tasks: bool = True
    wait_s: int = 0
    limit: int = 200


def get_job(name: str) -> Call:
    return Call(method="GET", path=_job(name))


def list_jobs(page: PageQuery) -> Call:
    return Call(method="GET", path="/jobs", query=page.parameters())


def put_job(job: Job, *, upload: bool) -> Call:
    """Change a job; 404 or 405 when there is none of that name. `upload` asks for a place to send the source to."""
    name = job["metadata"]["name"]
    return Call(method="PUT", path=_job(name), query=_upload(upload), body=_json(job))


def post_job(job: Job, *, upload: bool) -> Call:
    """Create a job; not repeatable, since the second one would be told that the name is taken."""
    return Call(method="POST", path="/jobs", query=_upload(upload), body=_json(job), repeatable=False)


def delete_job(name: str) -> Call:
    return Call(method="DELETE", path=_job(name))


def post_execution(job: str, body: bytes, *, idempotency_key: str) -> Call:
    """Start an execution. `body` is the JSON of the request, or empty: one task without arguments.

    The key makes it repeatable: the same key with the same body is the same execution.
    """
    headers = {"Idempotency-Key": idempotency_key}
    # a request may bring a million tasks, and its answer comes only when they are on disk
    return Call(method="POST", path=f"{_job(job)}/executions", headers=headers, body=body, read_timeout_s=300.0)


def list_executions(job: str, page: PageQuery) -> Call:
    return Call(method="GET", path=f"{_job(job)}/executions", query=page.parameters())


def get_execution(job: str, execution: str) -> Call:
    return Call(method="GET", path=_execution(job, execution))


def find_execution(execution: str) -> Call:
    """An execution of the workspace by its id or a unique prefix of it, whatever its job."""
    return Call(method="GET", path=f"/executions/{quote(execution, safe='')}")


def cancel_execution(job: str, execution: str, *, force: bool) -> Call:
    """`force` ends running tasks too; without it they finish."""
    return Call(method="DELETE", path=_execution(job, execution), query={"force": "true"} if force else {})


def rerun_execution(job: str, execution: str, body: bytes, *, idempotency_key: str) -> Call:
    """Run tasks of an execution again. The key makes it repeatable, as for a new execution."""
    headers = {"Idempotency-Key": idempotency_key}
    path = f"{_execution(job, execution)}/rerun"
    return Call(method="POST", path=path, headers=headers, body=body, read_timeout_s=300.0)


def list_tasks(job: str, execution: str, page: PageQuery) -> Call:
    return Call(method="GET", path=f"{_execution(job, execution)}/tasks", query=page.parameters())


def get_task(job: str, execution: str, task: str) -> Call:
    """One task, by its index or its name, with its attempts."""
    return Call(method="GET", path=f"{_execution(job, execution)}/tasks/{quote(task, safe='')}")


def explain(job: str, execution: str, task: str) -> Call:
    """Why an execution, or one task of it (empty: none), waits or how it ended."""
    return Call(method="GET", path=f"{_execution(job, execution)}/explain", query={"task": task} if task else {})


def get_results(job: str, execution: str, *, follow: bool, chain: bool = False) -> Call:
    """NDJSON, one line per ended task in index order; with `follow` it waits for each index until the end.

    With `chain` one line per index of the first of a chain of reruns, the newest success before the newest state.
    """
    query = {**({"follow": "true"} if follow else {}), **({"chain": "true"} if chain else {})}
    silence = None if follow else 60.0
    return Call(method="GET", path=f"{_execution(job, execution)}/results", query=query, read_timeout_s=silence)


def get_logs(query: LogQuery) -> Call:
    """The parameters that the official command line sends (contract 6.1), all of them, every time."""
    parameters = {
        "start": _second(query.start),
        "end": _second(query.end),
        "resourceType": "jobs",
        "workloadIds": query.job,
        "type": "build" if query.builds_only else "all",
        "traceId": "",
        "limit": str(query.limit),
        "offset": str(query.offset),
        "severity": ",".join(query.severities),
        "search": query.search,
        "executionId": query.execution,
        "taskId": query.task,
        "interval": "60",
    }
    if query.workspace:
        parameters["workspace"] = query.workspace
    return Call(method="GET", path="/observability/logs", query=parameters)


def reset_password(user: str) -> Call:
    """`user`: an email or an id."""
    return Call(method="POST", path=f"/users/{quote(user, safe='')}/password_reset")


def get_events(query: EventQuery) -> Call:
    named = {
        "after": "newest" if query.after is None else str(query.after),
        "job": query.job,
        "execution": query.execution,
        "tasks": "" if query.tasks else "false",
        "wait": str(query.wait_s) if query.wait_s else "",
        "limit": str(query.limit),
    }
    asked = {name: value for name, value in named.items() if value}
    return Call(method="GET", path="/events", query=asked, read_timeout_s=60.0 + query.wait_s)


def list_keys() -> Call:
    return Call(method="GET", path="/keys")


def rotate_keys(*, drop: bool) -> Call:
    """Begin a rotation, or go on with the one that was begun; sent twice it may make two keys."""
    return Call(method="POST", path="/keys/rotate", query={"drop": "true"} if drop else {}, repeatable=False)


def rotate_signing_keys() -> Call:
    """Sign tokens with a fresh key; sent twice it makes two."""
    return Call(method="POST", path="/keys/signing/rotate", repeatable=False)


def end_signing_key(key: str) -> Call:
    return Call(method="DELETE", path=f"/keys/signing/{quote(key, safe='')}")


def list_triggers(job: str) -> Call:
    return Call(method="GET", path=f"/jobs/{quote(job, safe='')}/triggers")


def fire_trigger(job: str, trigger: str, *, idempotency_key: str) -> Call:
    """Start an execution now. The key makes it repeatable, as for a new execution."""
    path = f"/jobs/{quote(job, safe='')}/triggers/{quote(trigger, safe='')}/fire"
    return Call(method="POST", path=path, headers={"Idempotency-Key": idempotency_key})


def list_nodes() -> Call:
    return Call(method="GET", path="/nodes")


def list_workspaces() -> Call:
    return Call(method="GET", path="/workspaces")


def get_workspace(name: str) -> Call:
    return Call(method="GET", path=f"/workspaces/{quote(name, safe='')}")


def post_token(form: Mapping[str, str], *, basic: str = "") -> Call:
    """Ask for a token (contract 2.3). Not repeatable: a refresh token is good for one answer."""
    headers = {"Authorization": f"Basic {basic}"} if basic else {}
    return Call(method="POST", path="/oauth/token", headers=headers, body=_json(form), repeatable=False)


def post_revocation(token: str) -> Call:
    return Call(method="POST", path="/oauth/revoke", body=_json({"token": token}))


def post_device_login() -> Call:
    """Ask for a code that somebody approves in a browser (contract 2.4)."""
    return Call(method="POST", path="/login/device", body=_json({"client_id": "blaxel", "scope": "offline_access"}))


def _job(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"


def _execution(job: str, execution: str) -> str:
    return f"{_job(job)}/executions/{quote(execution, safe='')}"


def _upload(wanted: bool) -> dict[str, str]:
    return {"upload": "true"} if wanted else {}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _second(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
