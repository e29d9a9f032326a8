"""From a staged revision to the active one, or to nothing: what becomes of a build, or of an upload that never came."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from tidemill.model.ids import BuildKey, JobKey, new_image_tag
from tidemill.model.image import image_ref, registry_ref
from tidemill.model.job import KEPT_REVISIONS, MAX_CONCURRENT_TASKS, JobSpec, Network
from tidemill.model.states import JobState
from tidemill.store import callbacks, canaries, jobs, schema, specs, triggers, uploads
from tidemill.store.jobs import Move
from tidemill.store.schema import AnyRow

CONCURRENCY_MEMBER: Final = "maxConcurrentTasks"
NETWORK_MEMBER: Final = "network"

_JOB: Final = schema.job.c
_REVISION: Final = schema.revision.c
_LONGEST_MESSAGE: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRevision:
    """A revision to be kept; secret values in ``spec`` are sealed for it. An empty ``digest`` means staged."""

    id: str
    spec: JobSpec
    digest: str
    by: str
    from_manifest: Iterable[str] = ()


def add_revision(connection: Connection, row: AnyRow, revision: NewRevision, *, now: datetime) -> None:
    """Keep a revision of the job ``row``. Two statements."""
    number = connection.execute(
        update(schema.job)
        .where(_JOB.key == row.key)
        .values(revisions_total=_JOB.revisions_total + 1)
        .returning(_JOB.revisions_total)
    ).scalar_one()
    connection.execute(
        insert(schema.revision).values(
            job=row.key,
            id=revision.id,
            number=number,
            spec=specs.encode(revision.spec),
            image_digest=revision.digest,
            from_manifest=list(revision.from_manifest),
            created_at=now,
            created_by=revision.by,
        )
    )


def activate(connection: Connection, row: AnyRow, revision: str, spec: JobSpec, *, now: datetime) -> None:
    """New executions run this revision from now on, but for the share of the canary in ``spec.rollout``.

    A canary that is not kept any longer, or that is the revision itself, has ended. The triggers are those of ``spec``.
    Four statements at most, and see ``triggers.keep``, ``callbacks.point`` and ``prune``.
    """
    triggers.keep(connection, row, spec.extra.get("triggers"), now=now)
    rollout = spec.rollout
    if rollout.canary and (rollout.canary == revision or not canaries.is_kept(connection, row.key, rollout.canary)):
        rollout = canaries.ended(rollout)
    if rollout.canary != row.canary_revision:
        canaries.forget_choices(connection, row.key)
    previous = row.previous_revision if row.active_revision == revision else row.active_revision
    values: dict[str, object] = {
        "active_revision": revision,
        "previous_revision": previous,
        "enabled": int(spec.enabled),
        "extra": {**row.extra, "spec": dict(spec.extra)},
        "updated_at": now,
    }
    connection.execute(update(schema.job).where(_JOB.key == row.key).values(values | canaries.values_of(rollout)))
    callbacks.point(connection, JobKey(row.key), spec.extra.get("triggers"))
    prune(connection, [row.key])


def prune(connection: Connection, keys: Sequence[int]) -> None:
    """Forget revisions of these jobs but the last five, the active and the staged one, the canary, and executions' own.

    One statement, by primary key and execution_revision.
    """
    execution, newer = schema.execution.c, schema.revision.alias("newer")
    pinned = exists().where(execution.job == _REVISION.job, execution.revision == _REVISION.id)
    used = exists().where(
        _JOB.key == _REVISION.job,
        or_(*(column == _REVISION.id for column in (_JOB.active_revision, _JOB.staged_revision, _JOB.canary_revision))),
    )
    # deploys that failed have no image, or no row any more: they drive none out that served
    oldest_kept = (
        select(newer.c.number)
        .where(newer.c.job == _REVISION.job, newer.c.image_digest != "")
        .order_by(newer.c.number.desc())
        .limit(1)
        .offset(KEPT_REVISIONS - 1)
        .correlate(schema.revision)
        .scalar_subquery()
    )
    connection.execute(
        delete(schema.revision).where(
            _REVISION.job.in_(keys), _REVISION.image_digest != "", _REVISION.number < oldest_kept, ~used, ~pinned
        )
    )


def rest(connection: Connection, row: AnyRow, *, message: str, revision: str, now: datetime) -> None:
    """Move a job with nothing under way to the state that it stays in. Five statements at most."""
    state = jobs.resting(connection, row, enabled=bool(row.enabled)) if row.active_revision else JobState.FAILED
    jobs.move(connection, row, Move(state=state, message=message, revision=revision), now=now)


def drop_staged(connection: Connection, row: AnyRow) -> None:
    """Forget the staged revision of the job ``row``. Two statements."""
    connection.execute(delete(schema.revision).where(_REVISION.job == row.key, _REVISION.id == row.staged_revision))
    connection.execute(update(schema.job).where(_JOB.key == row.key).values(staged_revision=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """What a build has left in the blob store; ``reference`` is what a pull says it has pulled."""

    digest: str
    size_bytes: int
    reference: str = ""


def build_started(connection: Connection, build: BuildKey, now: datetime) -> None:
    """A node has begun to build. Four statements at most; nothing happens when the deploy was superseded."""
    row = _building(connection, build)
    if row is not None:
        event = Move(state=JobState.BUILDING, message="the build has started", revision=row.staged_revision)
        jobs.tell(connection, JobKey(row.key), event, now=now)


def finish_build(
    connection: Connection,
    build: BuildKey,
    *,
    image: StoredImage,
    manifest: Mapping[str, object],
    now: datetime,
) -> None:
    """The image of a staged revision is stored: the revision becomes the active one. About thirteen statements.

    ``manifest`` is the ``[runtime]`` table of the archive's blaxel.toml: it sets what the request left out
    (docs/wire.md, JobRuntime). Nothing happens when a newer deploy, or a delete, has taken the build's place.
    """
    row = _building(connection, build)
    if row is None:
        return
    revision = row.staged_revision
    document, members = connection.execute(
        select(_REVISION.spec, _REVISION.from_manifest).where(_REVISION.job == row.key, _REVISION.id == revision)
    ).one()
    wanted = connection.scalar(select(schema.build.c.image).where(schema.build.c.key == build))
    named = _pulled(image, wanted) if wanted else _named(connection, row, image, now)
    spec = _from_manifest(specs.decode(document), members, manifest)
    spec = replace(spec, runtime=replace(spec.runtime, image=named))
    connection.execute(
        update(schema.revision)
        .where(_REVISION.job == row.key, _REVISION.id == revision)
        .values(spec=specs.encode(spec), image_digest=image.digest)
    )
    jobs.move(
        connection,
        row,
        Move(state=JobState.DEPLOYING, message=f"{'pulled' if wanted else 'built'} {named}", revision=revision),
        now=now,
    )
    connection.execute(update(schema.job).where(_JOB.key == row.key).values(staged_revision=""))
    activate(connection, jobs.row_by_key(connection, JobKey(row.key)), revision, spec, now=now)
    after = jobs.row_by_key(connection, JobKey(row.key))
    message = f"revision {revision} is active{canaries.story(row.canary_revision, canaries.rollout_of(after))}"
    rest(connection, after, message=message, revision=revision, now=now)


def _pulled(image: StoredImage, wanted: str) -> str:
    """What was asked for, with the digest that it had."""
    # what a build says of itself is believed as far as it fits
    return image.reference if image.reference.startswith(wanted) and registry_ref(image.reference) else wanted


def _named(connection: Connection, row: AnyRow, image: StoredImage, now: datetime) -> str:
    """Give an image that was built here its name. One statement."""
    tag = new_image_tag()
    values = {"workspace": row.workspace, "name": row.name, "tag": tag, "digest": image.digest, "created_at": now}
    connection.execute(insert(schema.image).values(size_bytes=image.size_bytes, **values))
    return image_ref(row.name, tag)


def fail_build(connection: Connection, build: BuildKey, *, message: str, now: datetime) -> None:
    """A build has failed for good: its staged revision goes, the active one serves on. Six statements at most."""
    row = _building(connection, build)
    if row is None:
        return
    drop_staged(connection, row)
    text = message[:_LONGEST_MESSAGE] or "the build failed"
    jobs.move(connection, row, Move(state=JobState.FAILED, message=text, revision=row.staged_revision), now=now)


def drop_expired(connection: Connection, now: datetime) -> int:
    """Drop staged revisions whose bytes did not come within 15 minutes; how many. Six statements each."""
    dropped = 0
    for job, revision in uploads.forget(connection, now=now):
        row = jobs.row_by_key(connection, job)
        if row.staged_revision == revision and row.state == JobState.UPLOADING:
            drop_staged(connection, row)
            rest(
                connection, row, message="no source archive came within 15 minutes: dropped", revision=revision, now=now
            )
            dropped += 1
    return dropped


def _building(connection: Connection, build: BuildKey) -> AnyRow | None:
    """The job that waits for this build; None when it waits for another one, or for none. Two statements."""
    table = schema.build.c
    job, revision = connection.execute(select(table.job, table.revision).where(table.key == build)).one()
    row = jobs.row_by_key(connection, JobKey(job))
    return row if row.staged_revision == revision and row.state == JobState.BUILDING else None


def _from_manifest(spec: JobSpec, members: Iterable[str], manifest: Mapping[str, object]) -> JobSpec:
    runtime = spec.runtime
    concurrency, network = (
        manifest.get(member) if member in members else None for member in (CONCURRENCY_MEMBER, NETWORK_MEMBER)
    )
    if isinstance(concurrency, int) and 1 <= concurrency <= MAX_CONCURRENT_TASKS:
        runtime = replace(runtime, max_concurrent_tasks=concurrency)
    if network is not None:
        # a build refuses any other word (tidemill.manifest), and what is not understood must not be a way out
        runtime = replace(runtime, network=Network.ON if network == Network.ON else Network.NONE)
    return replace(spec, runtime=runtime)
