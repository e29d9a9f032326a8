"""What is kept for a time besides executions: builds, deleted jobs, images, output of whom nobody knows any more."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, exists, or_, select, union

from tidemill.model.ids import OwnerKind
from tidemill.store import forgotten, schema
from tidemill.store.cut import Kind, cut
from tidemill.store.schema import AnyRow

# a job has at most 100 events, and few revisions once its executions are gone
JOBS_AT_ONCE: Final = 5
BUILDS_AT_ONCE: Final = 100

_BUILD: Final = schema.build.c
_BLOCK: Final = schema.log_block.c
_IMAGE: Final = schema.image.c
_JOB: Final = schema.job.c
_ATTEMPTS: Final = Kind(
    table=schema.attempt,
    key=(schema.attempt.c.owner, schema.attempt.c.idx, schema.attempt.c.number),
    where=(schema.attempt.c.kind == OwnerKind.BUILD.value,),
)


def forget_builds(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Delete up to ``limit`` rows of builds that ended before ``cutoff``, output and attempts first; how many.

    Seven statements at most, by build_ended, log_block_owner and primary keys.
    """
    keys = connection.scalars(
        select(_BUILD.key)
        .where(_BUILD.ended_at.is_not(None), _BUILD.ended_at < cutoff)
        .order_by(_BUILD.ended_at)
        .limit(min(limit, BUILDS_AT_ONCE))
    ).all()
    if not keys:
        return 0
    left = limit - forgotten.delete_blocks(connection, OwnerKind.BUILD, keys, limit)
    done, left = cut(connection, _ATTEMPTS, keys, left)
    gone = keys[:left] if done else []
    connection.execute(delete(schema.build).where(_BUILD.key.in_(gone)))
    return limit - left + len(gone)


def forget_jobs(connection: Connection, cutoff: datetime) -> int:
    """Delete up to five jobs that were deleted before ``cutoff`` and have nothing left; how many.

    Seven statements, by job_terminated and primary keys.
    """
    execution = schema.execution.c
    keys = connection.scalars(
        select(_JOB.key)
        .where(
            _JOB.terminated_at.is_not(None),
            _JOB.terminated_at < cutoff,
            ~exists().where(execution.job == _JOB.key),
            ~exists().where(_BUILD.job == _JOB.key),
            ~exists().where(schema.tick.c.job == _JOB.key),
            ~exists().where(schema.outbox.c.job == _JOB.key),
        )
        .order_by(_JOB.terminated_at)
        .limit(JOBS_AT_ONCE)
    ).all()
    if keys:
        for table in (schema.revision, schema.job_event, schema.upload, schema.sticky_choice, schema.callback):
            connection.execute(delete(table).where(table.c.job.in_(keys)))
        connection.execute(delete(schema.job).where(_JOB.key.in_(keys)))
    return len(keys)


def forget_images(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` names of images made ``before`` then that no revision runs; how many.

    One statement over all names, few as they are, and one by primary key; by the index of the revisions' digests.
    """
    used = exists().where(schema.revision.c.image_digest == _IMAGE.digest)
    found = connection.execute(
        select(_IMAGE.workspace, _IMAGE.name, _IMAGE.tag).where(_IMAGE.created_at < before, ~used).limit(limit)
    ).all()
    for row in found:
        connection.execute(
            delete(schema.image).where(
                _IMAGE.workspace == row.workspace, _IMAGE.name == row.name, _IMAGE.tag == row.tag
            )
        )
    return len(found)


def used_images(connection: Connection, digests: Iterable[str]) -> frozenset[str]:
    """Those of ``digests`` that a name or a revision leads to. One statement, by two indices."""
    wanted = list(digests)
    revision = schema.revision.c
    both = union(
        select(_IMAGE.digest).where(_IMAGE.digest.in_(wanted)),
        select(revision.image_digest).where(revision.image_digest.in_(wanted)),
    )
    return frozenset(connection.scalars(both))


def open_builds(connection: Connection) -> list[AnyRow]:
    """(key, source_digest, created_at) of the builds that have not ended. One statement, by build_open."""
    return list(
        connection.execute(select(_BUILD.key, _BUILD.source_digest, _BUILD.created_at).where(_BUILD.ended_at.is_(None)))
    )


def stray_blocks(connection: Connection, cutoff: datetime, limit: int) -> Sequence[AnyRow]:
    """(node, block_id) of output from before ``cutoff`` whose owner is gone: it came when that was swept already.

    One statement, by log_block_age and primary keys.
    """
    owned = or_(
        *(exists().where(table.c.key == _BLOCK.owner) for table in (schema.execution, schema.build, schema.forgotten))
    )
    return connection.execute(
        select(_BLOCK.node, _BLOCK.block_id).where(_BLOCK.last_at < cutoff, ~owned).limit(limit)
    ).all()


def log_file_used(connection: Connection, job: int, file: str, hour: datetime) -> bool:
    """Whether output lies in this file, which holds that of one hour. One statement, by log_block_job."""
    inside = (_BLOCK.last_at >= hour, _BLOCK.last_at < hour + timedelta(hours=1))
    return bool(connection.scalar(select(exists().where(_BLOCK.job == job, *inside, _BLOCK.file == file))))
