"""The revisions that a job keeps, as its user sees them."""

from typing import Final

from sqlalchemy import Connection, select

from tidemill.model.canary import share_of
from tidemill.model.job import Revision
from tidemill.model.states import JobState
from tidemill.store import canaries, jobs, schema
from tidemill.store.schema import AnyRow

_REVISION: Final = schema.revision.c


def find_all(connection: Connection, workspace: str, name: str) -> list[Revision] | None:
    """All that the job keeps, newest first, the staged one included; None for no such job.

    Two statements, by job_name and the primary key of revision. As many as five, those of kept executions, and two.
    """
    job = jobs.row_of(connection, workspace, name)
    if job is None:
        return None
    columns = (_REVISION.id, _REVISION.created_at, _REVISION.created_by)
    rows = connection.execute(select(*columns).where(_REVISION.job == job.key).order_by(_REVISION.number.desc()))
    return [_revision(job, row) for row in rows]


def _revision(job: AnyRow, row: AnyRow) -> Revision:
    return Revision(
        id=row.id,
        state=JobState(job.state) if row.id == job.staged_revision else JobState.DEPLOYED,
        active=row.id == job.active_revision,
        canary=row.id == job.canary_revision,
        previous=row.id == job.previous_revision,
        percent=share_of(row.id, job.active_revision, canaries.rollout_of(job)),
        created_at=row.created_at,
        created_by=row.created_by,
    )
