"""The canary of a job: which request may set it, when it ends, and which executions it gets."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from tidemill.model.canary import WHOLE_PERCENT, Rollout, is_chosen
from tidemill.model.errors import Invalid
from tidemill.model.job import KEPT_REVISIONS
from tidemill.store import schema
from tidemill.store.schema import AnyRow

_REVISION: Final = schema.revision.c
_CHOICE: Final = schema.sticky_choice.c


def rollout_of(row: AnyRow) -> Rollout:
    """What the job's own row says."""
    return Rollout(
        canary=row.canary_revision,
        canary_percent=row.canary_percent,
        sticky_ttl_s=row.sticky_ttl_s,
        traffic=row.traffic,
    )


def values_of(rollout: Rollout) -> dict[str, object]:
    """The columns of a job's row that keep it."""
    return {
        "canary_revision": rollout.canary,
        "canary_percent": rollout.canary_percent,
        "sticky_ttl_s": rollout.sticky_ttl_s,
        "traffic": rollout.traffic,
    }


def is_kept(connection: Connection, job: int, revision: str) -> bool:
    """Whether the job keeps this revision with an image to run. One statement, by primary key."""
    wanted = (_REVISION.job == job, _REVISION.id == revision, _REVISION.image_digest != "")
    return connection.scalar(select(_REVISION.id).where(*wanted)) is not None


def kept_ids(connection: Connection, job: int) -> str:
    """The newest revisions that the job keeps, as a message may list them. One statement, by primary key."""
    kept = (_REVISION.job == job, _REVISION.image_digest != "")
    newest = connection.scalars(
        select(_REVISION.id).where(*kept).order_by(_REVISION.number.desc()).limit(KEPT_REVISIONS)
    )
    return ", ".join(newest) or "none"


def check_named(connection: Connection, job: int, named: str) -> None:
    """Raises Invalid unless ``named``, the canary that a request asks for, is kept; empty is no wish."""
    if named and not is_kept(connection, job, named):
        raise Invalid(
            f"spec.revision.canary is {named[:64]!r}, which the job does not keep; "
            f"the newest that it keeps are {kept_ids(connection, job)}"
        )


def ended(rollout: Rollout) -> Rollout:
    """Without a canary. A percentage that no canary had stays as it was sent."""
    return replace(rollout, canary="", canary_percent=0) if rollout.canary else rollout


def story(before: str, after: Rollout) -> str:
    """What an event adds to its message when a request has changed the canary from ``before``."""
    if before == after.canary:
        return ""
    if not after.canary:
        return f"; canary {before} has ended"
    return f"; canary {after.canary} runs {after.canary_percent} % of new executions"


def pick(connection: Connection, job: AnyRow, *, execution: str, caller: str, now: datetime) -> AnyRow:
    """The revision of a new execution, in the shape of ``executions.runnable``: ``job`` itself, or its canary.

    By a hash of the execution's id, or as ``_sticky`` says. No statement without a canary, one for the canary's
    revision, three besides where choices are sticky.
    """
    rollout = rollout_of(job)
    if not rollout.canary:
        return job
    if rollout.sticky_ttl_s and 0 < rollout.canary_percent < WHOLE_PERCENT:
        wanted = _sticky(connection, job.key, caller, rollout, now)
    else:
        wanted = is_chosen(execution, rollout.canary_percent)
    return revision_row(connection, job.key, rollout.canary) or job if wanted else job


def revision_row(connection: Connection, job: int, revision: str) -> AnyRow | None:
    """A kept revision in the shape of ``executions.runnable``. One statement, by primary key."""
    columns = (
        _REVISION.job.label("key"),
        _REVISION.id.label("active_revision"),
        _REVISION.spec,
        _REVISION.image_digest,
    )
    wanted = (_REVISION.job == job, _REVISION.id == revision, _REVISION.image_digest != "")
    return connection.execute(select(*columns).where(*wanted)).one_or_none()


def forget_choices(connection: Connection, job: int) -> None:
    """Nobody keeps a choice between revisions that are no longer the ones. One statement, by primary key."""
    connection.execute(delete(schema.sticky_choice).where(_CHOICE.job == job))


def _sticky(connection: Connection, job: int, caller: str, rollout: Rollout, now: datetime) -> bool:
    """What the caller chose less than ``sticky_ttl_s`` ago, else a new choice, by a hash of the caller and the time.

    Three statements at most, by primary key.
    """
    mine = (_CHOICE.job == job, _CHOICE.caller == caller)
    kept = connection.execute(select(_CHOICE.is_canary).where(*mine, _CHOICE.ends_at > now)).one_or_none()
    if kept is not None:
        return bool(kept.is_canary)
    wanted = is_chosen(f"{caller}/{rollout.canary}/{now.isoformat()}", rollout.canary_percent)
    values = {"is_canary": int(wanted), "ends_at": now + timedelta(seconds=rollout.sticky_ttl_s)}
    if connection.execute(update(schema.sticky_choice).where(*mine).values(values)).rowcount == 0:
        connection.execute(insert(schema.sticky_choice).values(job=job, caller=caller, **values))
    return wanted
