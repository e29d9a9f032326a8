"""The operation that lists the audit, and the schema of a row."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation
from tidemill.model.audit import NOBODY, SERVER, AuditOutcome
from tidemill.model.principal import PrincipalKind

AUDIT: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/audit"): Operation(
        summary="List who did what in the workspace, newest first",
        answer=record(
            {"data": listed(ref("AuditEntry")), "meta": record({"hasMore": FLAG, "nextCursor": TEXT})},
        ),
        query={
            "cursor": TEXT,
            "limit": {"type": "integer", "minimum": 1},
            "actor": TEXT,
            "action": TEXT,
            "resource": {"type": "string", "description": "the path of a resource; what is below it is found too"},
            **dict.fromkeys(("start", "end"), TIME),
        },
    )
}
AUDIT_SCHEMAS: Final[Mapping[str, Schema]] = {
    "AuditEntry": record(
        {
            "createdAt": TIME,
            **dict.fromkeys(("actor", "credential", "action", "resource", "address", "requestId"), TEXT),
            "actorType": {"type": "string", "enum": [*(kind.value for kind in PrincipalKind), NOBODY, SERVER]},
            "outcome": {"type": "string", "enum": [each.value for each in AuditOutcome]},
            "status": WHOLE,
        }
    )
}
