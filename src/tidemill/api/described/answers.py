"""JSON schemas of what is answered. Members not named may come besides: users' own, and those of later versions."""

from collections.abc import Mapping
from typing import Any, Final

from tidemill.model.execution import Reason
from tidemill.model.obstacle import Why
from tidemill.model.protections import Protection
from tidemill.model.retry import RETRIED_REASONS
from tidemill.model.states import ExecutionState, JobState, TaskState
from tidemill.model.trigger import Outcome, Skipped

Schema = Mapping[str, Any]
"""A JSON schema, draft 2020-12."""

TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}
FLAG: Final[Schema] = {"type": "boolean"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(item: Schema) -> Schema:
    """A page, as answered from Blaxel-Version 2026-04-28 on."""
    return record({"data": listed(item), "meta": ref("PaginationMeta")})


def either_shape(item: Schema) -> Schema:
    """A page, or the bare list that versions before 2026-04-28 are answered."""
    return {"anyOf": [page_of(item), listed(item)]}


def record(always: Mapping[str, Schema], sometimes: Mapping[str, Schema] | None = None) -> Schema:
    """An object of members that it always has, and of those that it may have."""
    return {"type": "object", "properties": {**always, **(sometimes or {})}, "required": list(always)}


def _words(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


# members that are kept as they were sent, null too
_KEPT_TEXT: Final = {"type": ["string", "null"]}
_KEPT_WHOLE: Final = {"type": ["integer", "null"]}
_NEVER: Final = {"type": "string", "description": "Of the official description; this server never has it."}
_TEXTS: Final = {"type": "object", "additionalProperties": TEXT}
_COUNTS: Final = ("total", "running", "success", "failure", "retried", "cancelled")
_TASK_STATUS: Final = _words(*(state.value for state in TaskState))
_TASK_METADATA: Final = record(
    {"name": TEXT},
    {**dict.fromkeys(("createdAt", "startedAt", "completedAt", "updatedAt"), TIME), "scheduledAt": _NEVER},
)
_PROTECTIONS: Final = listed(_words(*Protection))
_TASK_SPEC: Final = record({"maxRetries": WHOLE, "timeout": TEXT})

_JOB: Final = {
    "Job": record(
        {
            "metadata": ref("Metadata"),
            "spec": ref("JobSpec"),
            "events": listed(ref("CoreEvent")),
            "status": _words(*(state.value for state in JobState)),
        }
    ),
    "Metadata": record(
        {
            "name": TEXT,
            "displayName": TEXT,
            "workspace": TEXT,
            "labels": _TEXTS,
            "plan": TEXT,
            "url": TEXT,
            "createdAt": TIME,
            "updatedAt": TIME,
            "createdBy": TEXT,
            "updatedBy": TEXT,
        },
        {"externalId": TEXT},
    ),
    "JobSpec": record(
        {"enabled": FLAG, "region": TEXT, "revision": ref("RevisionConfiguration"), "runtime": ref("JobRuntime")},
        {
            "triggers": listed(ref("Trigger")),
            "volumes": listed(ref("JobVolume")),
            "policies": listed(TEXT),
            "githubRunner": record({}, {"repositories": {"anyOf": [listed(TEXT), {"type": "null"}]}}),
        },
    ),
    "JobRuntime": record(
        {
            "image": TEXT,
            "memory": WHOLE,
            "timeout": WHOLE,
            "maxRetries": WHOLE,
            "maxConcurrentTasks": WHOLE,
            "generation": TEXT,
            "envs": listed(record({"name": TEXT, "value": TEXT, "secret": FLAG})),
        },
        {
            "ports": listed(ref("Port")),
            "diskPercent": WHOLE,
            "network": _words("none"),
            "retryPolicy": ref("RetryPolicy"),
        },
    ),
    "RetryPolicy": record(
        {
            "initialSeconds": NUMBER,
            "factor": NUMBER,
            "maxSeconds": NUMBER,
            "neverOn": listed({"anyOf": [WHOLE, _words(*(reason.value for reason in RETRIED_REASONS))]}),
        }
    ),
    "Port": record({"target": WHOLE}, {"name": _KEPT_TEXT, "protocol": _KEPT_TEXT}),
    "JobVolume": record(
        {"name": TEXT, "mountPath": TEXT, "type": TEXT, "sizeMb": WHOLE},
        {"readOnly": {"type": ["boolean", "null"]}},
    ),
    "Trigger": record(
        {"id": TEXT, "type": _words("http", "http-async", "cron"), "enabled": FLAG},
        {"configuration": {"anyOf": [ref("TriggerConfiguration"), {"type": "null"}]}},
    ),
    "TriggerShown": record(
        {"id": TEXT, "type": _words("http", "http-async", "cron"), "enabled": FLAG, "nextRuns": listed(TIME)},
        {"configuration": {"anyOf": [ref("TriggerConfiguration"), {"type": "null"}]}, "lastRun": ref("TriggerRun")},
    ),
    "TriggerRun": record(
        {"dueAt": TIME, "outcome": _words(*(outcome.value for outcome in Outcome))},
        {
            "reason": _words(*(reason.value for reason in Skipped)),
            "executionId": TEXT,
            "status": _words(*(state.value for state in ExecutionState)),
        },
    ),
    "TriggerConfiguration": record(
        {},
        {
            **dict.fromkeys(("schedule", "timezone", "catchUp", "overlap", "path", "authenticationType"), _KEPT_TEXT),
            **dict.fromkeys(("callbackUrl", "callbackSecret"), _KEPT_TEXT),
            **dict.fromkeys(("retry", "timeout"), _KEPT_WHOLE),
            "tasks": {"anyOf": [listed({"type": "object"}), {"type": "null"}]},
        },
    ),
    "RevisionConfiguration": record(
        {}, {"active": TEXT, "canary": TEXT, "canaryPercent": WHOLE, "stickySessionTtl": WHOLE, "traffic": WHOLE}
    ),
    "RevisionMetadata": record(
        {},
        {
            "id": TEXT,
            "active": FLAG,
            "canary": FLAG,
            "previousActive": FLAG,
            "status": TEXT,
            "trafficPercent": WHOLE,
            "createdAt": TIME,
            "createdBy": TEXT,
        },
    ),
    "CoreEvent": record(
        {"time": TIME, "type": TEXT, "status": TEXT, "message": TEXT}, {"revision": TEXT, "canaryRevision": TEXT}
    ),
}
_EXECUTION: Final = {
    "CreateJobExecutionOutput": record(
        {"executionId": TEXT, "id": TEXT, "jobId": TEXT, "workspaceId": TEXT},
        {"tasks": {**listed({"type": "object"}), "description": "Never answered: some clients fail on it."}},
    ),
    "CallAnswer": record(
        {
            "executionId": TEXT,
            "status": _words(*(state.value for state in ExecutionState)),
            "results": {**listed({"type": "object"}), "description": "As the lines of the execution's results"},
        }
    ),
    "CallAccepted": record({"executionId": TEXT}),
    "AsyncCallAnswer": record({"success": {"const": True}, "executionId": TEXT}),
    "JobExecution": record(
        {
            "metadata": record(
                {"id": TEXT, "job": TEXT, "workspace": TEXT, "createdAt": TIME, "updatedAt": TIME},
                {
                    "startedAt": TIME,
                    "completedAt": TIME,
                    "rerunOf": TEXT,
                    "trigger": TEXT,
                    "dueAt": TIME,
                    "deadlineAt": TIME,
                    "reruns": listed(TEXT),
                    **dict.fromkeys(("cluster", "deletedAt", "expiredAt"), _NEVER),
                },
            ),
            "spec": record(
                {"parallelism": WHOLE, "timeout": WHOLE, "tasks": listed(ref("JobExecutionTaskSummary"))},
                {"memoryOverride": WHOLE, "envOverride": _TEXTS},
            ),
            "stats": record(dict.fromkeys(_COUNTS, WHOLE)),
            "status": _words(*(state.value for state in ExecutionState)),
            "tasks": listed(ref("JobExecutionTask")),
        }
    ),
    "JobExecutionTask": record(
        {
            "metadata": _TASK_METADATA,
            "spec": _TASK_SPEC,
            "status": _TASK_STATUS,
            "attemptCount": WHOLE,
            "conditions": listed(ref("JobExecutionTaskCondition")),
        },
        {"attempts": listed(ref("Attempt"))},
    ),
    "JobExecutionTaskSummary": record(
        {"metadata": _TASK_METADATA, "spec": _TASK_SPEC, "status": _TASK_STATUS},
        {"conditions": listed(ref("JobExecutionTaskCondition"))},
    ),
    "JobExecutionTaskCondition": record(
        {
            "type": _words(*(reason.value for reason in Reason)),
            "state": TEXT,
            "reason": TEXT,
            "message": TEXT,
            "severity": _words("error", "info"),
            "executionReason": TEXT,
        }
    ),
    "Attempt": record(
        {"number": WHOLE, "node": TEXT, "charged": FLAG, "createdAt": TIME},
        {
            "outcome": TEXT,
            "message": TEXT,
            "exitCode": WHOLE,
            "signal": WHOLE,
            "peakMemoryBytes": WHOLE,
            "cpuSeconds": NUMBER,
            "protections": ref("Protections"),
            "startedAt": TIME,
            "completedAt": TIME,
        },
    ),
    "Protections": record({"active": _PROTECTIONS, "missing": _PROTECTIONS, "by": _TEXTS}, {"level": TEXT}),
    "Explanation": record(
        {"summary": TEXT, "reason": _words(*(why.value for why in Why))},
        {
            "until": TIME,
            "since": TIME,
            "node": TEXT,
            "message": TEXT,
            "exitCode": WHOLE,
            "signal": WHOLE,
            "protections": ref("Protections"),
        },
    ),
}
SCHEMAS: Final[Mapping[str, Schema]] = {
    **_JOB,
    **_EXECUTION,
    "PaginationMeta": record({"hasMore": FLAG, "nextCursor": TEXT, "total": WHOLE}),
    "Error": record({"code": WHOLE, "error": TEXT, "error_code": TEXT, "message": TEXT}),
    "Logs": {
        "type": "object",
        "description": "The name of the job, and what it said.",
        "additionalProperties": record(
            {"logs": listed(ref("LogLine")), "totalCount": WHOLE, "complete": FLAG},
        ),
    },
    "LogLine": record(
        {"timestamp": TIME, "message": TEXT, "severity": WHOLE, "trace_id": TEXT},
        {"task": TEXT, "attempt": WHOLE, "stream": TEXT},
    ),
    "Configuration": record(
        dict.fromkeys(("continents", "countries", "privateLocations", "regions"), listed({"type": "object"}))
    ),
    "Message": record({"message": TEXT}),
    "Health": record({"status": TEXT}),
}
"""By their names in the document; those that official clients know have the clients' names."""
