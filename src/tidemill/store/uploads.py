"""Places to send a source archive to: capabilities that work once, and the builds that come of them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from tidemill.model.errors import Conflict, NotFound
from tidemill.model.ids import BuildKey, JobKey
from tidemill.model.region import biggest_in
from tidemill.model.states import BuildState, JobState
from tidemill.store import jobs, schema
from tidemill.store.jobs import Move
from tidemill.store.schema import AnyRow

WAIT: Final = timedelta(minutes=15)
# bytes that began to arrive are waited for this long: 512 MiB over a line of 1.2 Mbit/s
ARRIVAL: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)

_UPLOAD: Final = schema.upload.c
_REVISION: Final = schema.revision.c
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = (
    _UPLOAD.digest,
    _UPLOAD.workspace,
    _UPLOAD.job,
    _UPLOAD.revision,
    _UPLOAD.expires_at,
    _UPLOAD.used_at,
    _UPLOAD.building_s,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """A capability to be kept: its digest, never itself. ``building_s``: how long BUILDING must be seen, 0: not."""

    digest: str
    building_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBuild:
    """What is to be built, and what the build may use.

    With ``image``, one of a registry, that is to be pulled, and ``source_digest`` is empty; ``credentials_sealed`` are
    for that registry, or empty.
    """

    key: BuildKey
    source_digest: str = ""
    size_bytes: int = 0
    memory_mb: int
    timeout_s: int
    image: str = ""
    credentials_sealed: str = field(default="", repr=False)


def add(connection: Connection, upload: NewUpload, row: AnyRow, revision: str, *, now: datetime) -> None:
    """Keep a capability for the staged ``revision`` of the job ``row``. One statement."""
    connection.execute(
        insert(schema.upload).values(
            digest=upload.digest,
            workspace=row.workspace,
            job=row.key,
            revision=revision,
            created_at=now,
            expires_at=now + WAIT,
            building_s=upload.building_s,
        )
    )


def begin(connection: Connection, digest: str, *, now: datetime) -> None:
    """Bytes begin to arrive: the capability must be good, and is waited for. Raises NotFound, Conflict.

    Three statements, by primary keys.
    """
    _usable(connection, digest, now)
    connection.execute(update(schema.upload).where(_UPLOAD.digest == digest).values(expires_at=now + ARRIVAL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Whose source it is. ``by``: the account or service account that was given the capability."""

    workspace: str
    job: str
    by: str


def take(connection: Connection, digest: str, build: NewBuild, *, now: datetime) -> Taken:
    """The source is stored: spend the capability, make the build, move the job to BUILDING. Raises as ``begin``.

    Nine statements, by primary keys.
    """
    upload, job = _usable(connection, digest, now)
    connection.execute(
        update(schema.upload).where(_UPLOAD.digest == digest, _UPLOAD.used_at.is_(None)).values(used_at=now)
    )
    add_build(connection, job, upload.revision, build, now=now)
    message = f"source received, {build.size_bytes} bytes; the build waits for a node"
    jobs.move(connection, job, Move(state=JobState.BUILDING, message=message, revision=upload.revision), now=now)
    until = now + timedelta(seconds=upload.building_s) if upload.building_s else None
    connection.execute(update(schema.job).where(schema.job.c.key == job.key).values(building_until=until))
    by = connection.scalar(
        select(_REVISION.created_by).where(_REVISION.job == job.key, _REVISION.id == upload.revision)
    )
    return Taken(workspace=job.workspace, job=job.name, by=by or "")


def pull(connection: Connection, job: AnyRow, revision: str, build: NewBuild, *, now: datetime) -> None:
    """Nothing has to arrive: make the build of a staged revision, move its job to BUILDING. Six statements."""
    add_build(connection, job, revision, build, now=now)
    message = f"image {build.image} is to be pulled; that waits for a node"
    jobs.move(connection, job, Move(state=JobState.BUILDING, message=message, revision=revision), now=now)


def add_build(connection: Connection, job: AnyRow, revision: str, build: NewBuild, *, now: datetime) -> None:
    """A build that waits for a node. Two statements."""
    biggest = biggest_in(biggest_nodes(connection), "")
    connection.execute(
        insert(schema.build).values(
            key=build.key,
            workspace=job.workspace,
            job=job.key,
            revision=revision,
            source_digest=build.source_digest,
            image=build.image,
            credentials_sealed=build.credentials_sealed,
            state=BuildState.PENDING.value,
            # a build that no node has room for would wait for ever
            memory_mb=build.memory_mb if biggest is None else min(build.memory_mb, biggest),
            timeout_s=build.timeout_s,
            created_at=now,
        )
    )


def forget(connection: Connection, *, now: datetime) -> list[tuple[JobKey, str]]:
    """Delete capabilities that have expired, and used ones after a day; (job, revision) of those without bytes.

    Two statements over a table of recent deploys only.
    """
    expired = connection.execute(
        select(_UPLOAD.job, _UPLOAD.revision).where(_UPLOAD.expires_at <= now, _UPLOAD.used_at.is_(None))
    ).all()
    connection.execute(
        delete(schema.upload).where(
            (_UPLOAD.used_at.is_(None) & (_UPLOAD.expires_at <= now)) | (_UPLOAD.used_at <= now - _KEPT)
        )
    )
    return [(JobKey(row.job), row.revision) for row in expired]


def biggest_nodes(connection: Connection) -> dict[str, int]:
    """Memory (MB) that leases may use on the biggest node ever seen of each region. One statement, few rows."""
    node = schema.node.c
    rows = connection.execute(select(node.region, func.max(node.memory_mb).label("most_mb")).group_by(node.region))
    return {row.region: row.most_mb for row in rows}


def _usable(connection: Connection, digest: str, now: datetime) -> tuple[AnyRow, AnyRow]:
    upload = connection.execute(select(*_COLUMNS).where(_UPLOAD.digest == digest)).one_or_none()
    if upload is None:
        raise NotFound("no such upload; ask for a new one with PUT /v0/jobs/NAME?upload=true")
    if upload.used_at is not None:
        raise Conflict("this upload URL was used already; ask for a new one with PUT /v0/jobs/NAME?upload=true")
    if upload.expires_at <= now:
        raise Conflict("this upload URL has expired; ask for a new one with PUT /v0/jobs/NAME?upload=true")
    job = jobs.row_by_key(connection, JobKey(upload.job))
    if job.staged_revision != upload.revision:
        raise Conflict(f"a newer deploy of job {job.name!r} has taken this upload's place, or the job was deleted")
    return upload, job
