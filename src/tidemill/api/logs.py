"""/v0/observability/logs."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.parameters import instant, whole
from tidemill.api.wire import Json
from tidemill.model.errors import Invalid
from tidemill.model.lease import Severity
from tidemill.service import logs
from tidemill.service.logs import MAX_LINES, LogLine, LogQuery

router = APIRouter()

_DEFAULT_LINES: Final = 1_000
_DEFAULT_WINDOW: Final = timedelta(hours=1)
_TASK: Final = re.compile(r"(?:task-?)?([0-9]{1,9})")
# OpenTelemetry's severity numbers
_NUMBERS: Final = {
    Severity.UNKNOWN: 0,
    Severity.TRACE: 1,
    Severity.DEBUG: 5,
    Severity.INFO: 9,
    Severity.WARNING: 13,
    Severity.ERROR: 17,
    Severity.FATAL: 21,
}


@router.get("/v0/observability/logs")
async def get_logs(call: Asked) -> Response:
    query = _query(call)
    page = await call.run(partial(logs.read, call.parts, call.principal, query))
    entry = {"logs": [_line(line) for line in page.lines], "totalCount": page.total, "complete": page.complete}
    # the key is there even without a line: the official build watcher counts its absence as an error
    return json_answer({query.job: entry})


def _query(call: Call) -> LogQuery:
    asked = call.request.query_params
    job = asked.get("workloadIds", "")
    if not job or "," in job:
        raise Invalid(f"workloadIds is {job[:64]!r}; it must be the name of one job")
    kind = asked.get("resourceType") or "jobs"
    if kind not in {"job", "jobs"}:
        raise Invalid(f"resourceType is {kind[:64]!r}; it must be jobs")
    until = instant(asked, "end") or call.now
    return LogQuery(
        job=job,
        since=instant(asked, "start") or until - _DEFAULT_WINDOW,
        until=until,
        execution=asked.get("executionId", ""),
        index=_index(asked.get("taskId", "")),
        search=asked.get("search", ""),
        severities=_severities(asked.get("severity", "")),
        limit=min(whole(asked, "limit", _DEFAULT_LINES, 1), MAX_LINES),
        offset=whole(asked, "offset", 0, 0),
        builds_only=asked.get("type") == "build",
    )


def _index(task: str) -> int | None:
    """``task-3``, ``task3`` or ``3``. Raises Invalid."""
    if not task:
        return None
    match = _TASK.fullmatch(task)
    if match is None:
        raise Invalid(f"taskId is {task[:64]!r}; it must be a task's name or index, like task-0")
    return int(match[1])


def _severities(text: str) -> frozenset[Severity]:
    words = {word.strip().upper() for word in text.split(",") if word.strip()}
    if "ALL" in words:
        return frozenset()
    unknown = words - set(Severity)
    if unknown:
        raise Invalid(f"severity has {min(unknown)[:64]!r}; it must be of {', '.join(Severity)} or all")
    return frozenset(Severity(word) for word in words)


def _line(line: LogLine) -> dict[str, Json]:
    seconds, fraction = divmod(line.at_ns, 1_000_000_000)
    day = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    # the last three are ours: the official clients read the others and skip what they do not know
    ours: dict[str, Json] = {
        "task": None if line.index is None else f"task-{line.index}",
        "attempt": line.attempt,
        "stream": line.stream,
    }
    return {
        "timestamp": f"{day}.{fraction:09d}Z",
        "message": line.text,
        "severity": _NUMBERS[line.severity],
        "trace_id": "",
        **{name: value for name, value in ours.items() if value is not None},
    }
