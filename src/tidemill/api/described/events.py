"""The operation that tells what changed, and the schema of an event."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation

EVENTS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/events"): Operation(
        summary="What changed in the workspace after a number; with Accept: text/event-stream as it happens",
        answer=record({"events": listed(ref("Event")), "next": WHOLE, "more": FLAG}),
        query={
            "after": {"type": "string", "pattern": "^([0-9]{1,18}|newest)?$", "description": "next of the last page"},
            "limit": {"type": "integer", "minimum": 1, "description": "at most 1000"},
            "wait": {"type": "integer", "minimum": 0, "maximum": 60, "description": "seconds, for the first event"},
            "job": TEXT,
            "execution": {"type": "string", "description": "an id, or a prefix of eight characters that is unique"},
            "tasks": {"type": "string", "enum": ["", "true", "false"]},
        },
        errors=[404, 410],
    )
}
EVENT_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Event": record(
        {
            "seq": WHOLE,
            "type": {"type": "string", "enum": ["job", "execution", "task"]},
            "at": TIME,
            "job": TEXT,
            "status": TEXT,
        },
        {
            "execution": TEXT,
            "task": {"type": "string", "description": "a task's name, like task-0"},
            "attempt": WHOLE,
            "reason": TEXT,
            "message": TEXT,
            "exitCode": WHOLE,
        },
    )
}
