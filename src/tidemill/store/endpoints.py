"""Triggers that are called: where each of a job is, and whether a credential is asked for."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from tidemill.model.trigger import TriggerType
from tidemill.store import schema
from tidemill.store.prepared import Prepared

_TRIGGER: Final = schema.job_trigger.c
_JOB: Final = schema.job.c
_AT: Final = Prepared(
    select(_TRIGGER.id, _TRIGGER.type, _TRIGGER.enabled, _TRIGGER.public, _TRIGGER.timeout_s)
    .join_from(schema.job, schema.job_trigger, _TRIGGER.job == _JOB.key)
    .where(
        _JOB.workspace == bindparam("workspace"),
        _JOB.name == bindparam("name"),
        _JOB.terminated_at.is_(None),
        _TRIGGER.path == bindparam("path"),
    )
    .order_by(_TRIGGER.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A trigger that is called. ``timeout_s`` is what its job says, None for nothing."""

    trigger: str
    type: TriggerType
    enabled: bool
    public: bool
    timeout_s: int | None


def find(connection: Connection, workspace: str, job: str, path: str) -> list[Endpoint]:
    """Those of a job at a normal path: one of each type at most. One statement, by job_name and primary key."""
    rows = _AT.run(connection, {"workspace": workspace, "name": job, "path": path})
    return [
        Endpoint(
            trigger=row.id,
            type=TriggerType(row.type),
            enabled=bool(row.enabled),
            public=bool(row.public),
            timeout_s=row.timeout_s,
        )
        for row in rows
    ]
