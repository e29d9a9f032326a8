"""What a request does to a job: make it, change it at once, stage a deploy of it, delete it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection, insert, select, update

from tidemill.model.callback import callbacks_of, ids
from tidemill.model.errors import AlreadyExists, Conflict, Invalid, NotFound
from tidemill.model.ids import BuildKey, ExecutionKey, JobKey, new_revision_id
from tidemill.model.image import IMAGE_REF, LATEST, image_ref
from tidemill.model.job import Job, JobSpec, JsonObject
from tidemill.model.quoted import quoted
from tidemill.model.states import JobState
from tidemill.store import callbacks, canaries, deploys, jobs, ledger, rollbacks, schema, specs, triggers, uploads
from tidemill.store.callbacks import NewSecret
from tidemill.store.deploys import NewRevision
from tidemill.store.jobs import Move
from tidemill.store.schema import AnyRow
from tidemill.store.uploads import NewBuild, NewUpload

CANCEL_BATCH: Final = 200
IMAGES_SAID: Final = (
    "it must be job/NAME:TAG, an image built here, or one of a registry with its host: docker.io/library/python:3.12"
)

_JOB: Final = schema.job.c
_REVISION: Final = schema.revision.c


class SpecEditor(Protocol):
    """What a request does to a spec. Its methods run inside the unit that stores what they make: no I/O, no parsing."""

    def edit(self, spec: JobSpec | None, biggest_nodes: Mapping[str, int]) -> JobSpec:
        """The spec after the request; ``spec`` is None for a job without one. Secrets are plain. Raises Invalid.

        ``biggest_nodes`` has the memory (MB) of the biggest node of each region.
        """
        ...

    def open(self, spec: JobSpec, job: JobKey, revision: str) -> JobSpec:
        """The spec of a stored revision with its secret values in plain text."""
        ...

    def seal(self, spec: JobSpec, job: JobKey, revision: str) -> JobSpec:
        """The inverse: as the row of ``revision`` may keep it."""
        ...

    def new_secret(self, now: datetime) -> NewSecret:
        """What a callback is signed with from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataChange:
    """New values of a job's metadata; None keeps what is there, empty goes back to the default."""

    display_name: str | None = None
    external_id: str | None = None
    labels: Mapping[str, str] | None = None
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWrite:
    """A request to make or change a job. ``upload`` is set when bytes follow: then the spec is staged.

    ``pull`` is what fetches ``image`` when that is one of a registry: then too, unless the job runs it already.

    ``key`` is for a job that is made. ``image`` is the reference that the request asks for, empty for no wish.
    ``from_manifest`` names members that it left out and that the archive's blaxel.toml may set. ``revision`` and
    ``canary`` are its ``revision.active`` and ``revision.canary``, empty for no wish.
    """

    key: JobKey
    workspace: str
    name: str
    by: str
    metadata: MetadataChange
    editor: SpecEditor
    upload: NewUpload | None
    pull: NewBuild | None = None
    image: str = ""
    from_manifest: tuple[str, ...] = ()
    revision: str = ""
    canary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A stored revision with its secrets in plain text."""

    id: str
    spec: JobSpec
    digest: str
    from_manifest: Sequence[str]


def create(connection: Connection, write: JobWrite, *, now: datetime) -> Job:
    """Make a job. Raises AlreadyExists while the name is taken, Invalid for what its spec may not be.

    Secrets of its callbacks are in the answer, this once. About seventeen statements, by primary keys and job_name.
    """
    taken = jobs.row_of(connection, write.workspace, write.name)
    if taken is not None:
        why = " and is being deleted" if taken.state == JobState.DELETING else ""
        raise AlreadyExists(f"job {write.name!r} exists already in workspace {write.workspace!r}{why}")
    spec = write.editor.edit(None, uploads.biggest_nodes(connection))
    _check_canary(connection, write.key, write)
    spec = _with_canary(write, spec, changed=True)
    _insert(connection, write, spec, now)
    row = jobs.row_by_key(connection, write.key)
    triggers.keep(connection, row, spec.extra.get("triggers"), now=now)
    if write.upload is None and write.pull is None:
        _activate(connection, row, write, _imaged(connection, write, spec, None), now)
    else:
        _stage(connection, row, write, spec, now)
    return _secured(connection, row, write, now)


def put(connection: Connection, write: JobWrite, *, now: datetime) -> Job:
    """Change a job. Raises NotFound, Conflict while it is being deleted, Invalid for what its spec may not become.

    A change that is not a deploy reaches the revision in work too, else its activation would undo it. Secrets of new
    callbacks are in the answer, this once. About twenty-three statements, by primary keys and job_name.
    """
    row = _writable(connection, write.workspace, write.name)
    back = rollbacks.target(connection, row, write.revision)
    if back is not None and write.upload is not None:
        raise Invalid(
            f"spec.revision.active is {back!r}, but the bytes of an upload are a new revision: send one or the other"
        )
    _check_canary(connection, row.key, write)
    _change_metadata(connection, row, write, now)
    row = jobs.row_by_key(connection, JobKey(row.key))
    biggest = uploads.biggest_nodes(connection)
    active = _opened(connection, row, row.active_revision, write.editor)
    staged = _opened(connection, row, row.staged_revision, write.editor)
    base = active or staged
    if back is not None and active is not None:
        _roll_back(connection, row, write, active, back, now)
        return _secured(connection, row, write, now)
    spec = write.editor.edit(base.spec if base else None, biggest)
    if write.upload is not None or _is_pulled(write, active):
        spec = _with_canary(write, spec, changed=True)
        _stage(connection, row, write, spec, now)
        return _secured(connection, row, write, now)
    if staged is not None:
        edited = write.editor.edit(staged.spec, biggest)
        _change_staged(connection, row, write, replace(staged, spec=_own_canary(write, edited, staged.spec)))
    if active is not None or staged is None or write.image:
        _activate(connection, row, write, _imaged(connection, write, spec, active), now, active)
    return _secured(connection, row, write, now)


def remove(connection: Connection, workspace: str, name: str, *, now: datetime) -> tuple[Job, bool]:
    """Begin, or go on with, the delete of a job: nothing is deployed, its executions are cancelled by force.

    The job, and whether executions are left to be cancelled: the caller repeats it until none is. Ten statements, and
    those of up to 200 cancels. Raises NotFound.
    """
    row = jobs.row_of(connection, workspace, name)
    if row is None:
        raise NotFound(f"no job {name!r} in workspace {workspace!r}")
    if row.state != JobState.DELETING:
        triggers.drop(connection, row.key, now)
        _drop_staged(connection, row, now)
        jobs.move(connection, row, Move(state=JobState.DELETING, message="delete was asked for"), now=now)
    live = jobs.live_executions(connection, row, CANCEL_BATCH + 1)
    for key in live[:CANCEL_BATCH]:
        ledger.cancel_execution(connection, ExecutionKey(key), force=True, now=now)
    if not live:
        jobs.settle(connection, JobKey(row.key), now)
    return _seen(connection, row, now), len(live) > CANCEL_BATCH


def unfinished_deletes(connection: Connection) -> list[tuple[str, str]]:
    """(workspace, name) of the jobs in DELETING: a restart goes on with them. One statement, a scan of the jobs."""
    rows = connection.execute(select(_JOB.workspace, _JOB.name).where(_JOB.state == JobState.DELETING.value))
    return [(row.workspace, row.name) for row in rows]


def image_digest(connection: Connection, workspace: str, reference: str) -> tuple[str, str]:
    """The full reference and the digest of ``job/NAME[:TAG]``; no tag, or ``latest``, is the newest one.

    One statement, by primary key. Raises Invalid when the workspace has no such image.
    """
    match = IMAGE_REF.fullmatch(reference)
    if match is None:
        raise Invalid(f"spec.runtime.image is {quoted(reference)}; {IMAGES_SAID}")
    table = schema.image.c
    wanted = [table.workspace == workspace, table.name == match["name"]]
    if match["tag"] not in {None, LATEST}:
        wanted.append(table.tag == match["tag"])
    found = connection.execute(
        select(table.tag, table.digest).where(*wanted).order_by(table.created_at.desc(), table.tag).limit(1)
    ).one_or_none()
    if found is None:
        raise Invalid(f"spec.runtime.image is {reference!r}; workspace {workspace!r} has no such image")
    return image_ref(match["name"], found.tag), found.digest


def _insert(connection: Connection, write: JobWrite, spec: JobSpec, now: datetime) -> None:
    metadata = write.metadata
    connection.execute(
        insert(schema.job).values(
            key=write.key,
            workspace=write.workspace,
            name=write.name,
            state=(JobState.DEPLOYING if write.upload is None else JobState.UPLOADING).value,
            display_name=metadata.display_name or "",
            external_id=metadata.external_id or "",
            labels=dict(metadata.labels or {}),
            enabled=int(spec.enabled),
            extra={"metadata": dict(metadata.extra), "spec": dict(spec.extra)},
            created_at=now,
            created_by=write.by,
            updated_at=now,
            updated_by=write.by,
        )
    )
    connection.execute(
        update(schema.workspace)
        .where(schema.workspace.c.name == write.workspace)
        .values(jobs_total=schema.workspace.c.jobs_total + 1)
    )


def _change_metadata(connection: Connection, row: AnyRow, write: JobWrite, now: datetime) -> None:
    change = write.metadata
    kept = row.extra.get("metadata", {})
    connection.execute(
        update(schema.job)
        .where(_JOB.key == row.key)
        .values(
            display_name=row.display_name if change.display_name is None else change.display_name,
            external_id=row.external_id if change.external_id is None else change.external_id,
            labels=row.labels if change.labels is None else dict(change.labels),
            extra={**row.extra, "metadata": {**kept, **change.extra}},
            updated_at=now,
            updated_by=write.by,
        )
    )


def _opened(connection: Connection, row: AnyRow, revision: str, editor: SpecEditor) -> _Opened | None:
    if not revision:
        return None
    found = connection.execute(
        select(_REVISION.spec, _REVISION.image_digest, _REVISION.from_manifest).where(
            _REVISION.job == row.key, _REVISION.id == revision
        )
    ).one()
    spec = specs.decode(found.spec)
    if revision == row.active_revision:
        spec = jobs.live_spec(row, spec)
    opened = editor.open(spec, JobKey(row.key), revision)
    return _Opened(id=revision, spec=opened, digest=found.image_digest, from_manifest=found.from_manifest)


def _imaged(connection: Connection, write: JobWrite, spec: JobSpec, active: _Opened | None) -> tuple[JobSpec, str]:
    """The spec with its full image reference, and the image's digest. Raises Invalid without an image."""
    if active is not None and write.image in {"", active.spec.runtime.image}:
        return spec, active.digest
    if not write.image:
        raise Invalid(
            f"job {write.name!r} has no image: deploy its source (?upload=true), or name one in spec.runtime.image"
        )
    reference, digest = image_digest(connection, write.workspace, write.image)
    return replace(spec, runtime=replace(spec.runtime, image=reference)), digest


def _activate(
    connection: Connection,
    row: AnyRow,
    write: JobWrite,
    wanted: tuple[JobSpec, str],
    now: datetime,
    active: _Opened | None = None,
) -> None:
    spec, digest = wanted
    changed = active is None or _revisioned(spec) != _revisioned(active.spec)
    if active is not None and not changed:
        if write.canary == active.id != write.revision:
            raise Invalid(f"spec.revision.canary is {active.id!r}, the active revision itself; name another kept one")
        revision = active.id
        message = "changed without a new revision"
    else:
        revision = (write.revision if not row.active_revision else "") or new_revision_id()
        message = f"revision {revision} is active"
        sealed = write.editor.seal(spec, JobKey(row.key), revision)
        new = NewRevision(id=revision, spec=sealed, digest=digest, by=write.by)
        deploys.add_revision(connection, row, new, now=now)
    spec = _with_canary(write, spec, changed=changed)
    deploys.activate(connection, row, revision, spec, now=now)
    if not row.staged_revision:
        _rest(connection, row, message, revision, now)


def _roll_back(connection: Connection, row: AnyRow, write: JobWrite, active: _Opened, back: str, now: datetime) -> None:
    """Make the kept revision ``back`` the active one; a deploy that is under way is dropped. Raises Invalid."""
    target = _opened(connection, row, back, write.editor)
    assert target is not None  # it was found a moment ago, in this unit
    biggest = uploads.biggest_nodes(connection)
    wanted = write.editor.edit(active.spec, biggest)
    if not _same(write, wanted, active) and not _same(write, write.editor.edit(target.spec, biggest), target):
        raise Invalid(
            f"spec.revision.active is {back!r}, another revision than the active one, and spec is changed besides; "
            "a rollback takes the spec of its revision: leave out what you want to change, and send it afterwards"
        )
    kept = {name: value for name, value in wanted.extra.items() if name in jobs.UNREVISIONED}
    frozen = {name: value for name, value in target.spec.extra.items() if name not in jobs.UNREVISIONED}
    spec = replace(target.spec, enabled=wanted.enabled, rollout=wanted.rollout, extra={**frozen, **kept})
    spec = _with_canary(write, spec, changed=True)
    dropped = "; the deploy that was under way is dropped" if row.staged_revision else ""
    _drop_staged(connection, row, now)
    deploys.activate(connection, jobs.row_by_key(connection, JobKey(row.key)), target.id, spec, now=now)
    did = "canary promoted: revision" if target.id == row.canary_revision else "rolled back to revision"
    _rest(connection, row, f"{did} {target.id}{dropped}", target.id, now)


def _rest(connection: Connection, before: AnyRow, message: str, revision: str, now: datetime) -> None:
    """Move a job to where it stays, and tell what has become of it since ``before``. Twelve statements at most."""
    row = jobs.row_by_key(connection, JobKey(before.key))
    if row.enabled and (before.active_revision != revision or not before.enabled):
        did = f"revision {revision} takes its place" if before.enabled else "enabled again"
        jobs.move(connection, row, Move(state=JobState.DEPLOYING, message=did, revision=revision), now=now)
    story = (
        "" if before.canary_revision == revision else canaries.story(before.canary_revision, canaries.rollout_of(row))
    )
    deploys.rest(connection, row, message=f"{message}{story}", revision=revision, now=now)


def _check_canary(connection: Connection, job: int, write: JobWrite) -> None:
    """Raises Invalid for a canary that is not kept. The first revision may name itself: that is none."""
    if write.canary != write.revision:
        canaries.check_named(connection, job, write.canary)


def _with_canary(write: JobWrite, spec: JobSpec, *, changed: bool) -> JobSpec:
    """The spec with the canary that it has once its revision is active; ``changed``: that is another one than now.

    A canary is tried beside one active revision. It ends with it, unless the same request names it. The one that is
    made active is promoted: no canary any more.
    """
    promoted = write.canary != "" and write.canary == write.revision
    if promoted or (changed and not write.canary):
        return replace(spec, rollout=canaries.ended(spec.rollout))
    return spec


def _own_canary(write: JobWrite, edited: JobSpec, staged: JobSpec) -> JobSpec:
    """A canary named beside what is active now is none for what is being built; that no canary is wanted counts."""
    if not write.canary:
        return edited
    return replace(edited, rollout=replace(edited.rollout, canary=staged.rollout.canary))


def _same(write: JobWrite, spec: JobSpec, revision: _Opened) -> bool:
    """Whether the request asks for nothing that the revision does not have; ``spec`` is what it makes of it."""
    return _revisioned(spec) == _revisioned(revision.spec) and write.image in {"", revision.spec.runtime.image}


def _is_pulled(write: JobWrite, active: _Opened | None) -> bool:
    """A job that is read and written back names what it runs, by its digest: that is not pulled again."""
    return write.pull is not None and (active is None or write.image != active.spec.runtime.image)


def _stage(connection: Connection, row: AnyRow, write: JobWrite, spec: JobSpec, now: datetime) -> None:
    """Keep the spec until its source is built, or its image pulled; it takes the place of one that waits already."""
    _drop_staged(connection, row, now)
    first = write.revision if not row.revisions_total else ""
    revision = first or new_revision_id()
    sealed = write.editor.seal(spec, JobKey(row.key), revision)
    new = NewRevision(id=revision, spec=sealed, digest="", by=write.by, from_manifest=write.from_manifest)
    deploys.add_revision(connection, row, new, now=now)
    connection.execute(
        update(schema.job).where(_JOB.key == row.key).values(staged_revision=revision, building_until=None)
    )
    if write.upload is None:
        assert write.pull is not None
        uploads.pull(connection, row, revision, write.pull, now=now)
        return
    uploads.add(connection, write.upload, row, revision, now=now)
    waiting = Move(state=JobState.UPLOADING, message="waiting for the source archive", revision=revision)
    jobs.move(connection, row, waiting, now=now)


def _change_staged(connection: Connection, row: AnyRow, write: JobWrite, staged: _Opened) -> None:
    sealed = write.editor.seal(staged.spec, JobKey(row.key), staged.id)
    left_out = [member for member in staged.from_manifest if member in write.from_manifest]
    connection.execute(
        update(schema.revision)
        .where(_REVISION.job == row.key, _REVISION.id == staged.id, _REVISION.image_digest == "")
        .values(spec=specs.encode(sealed), from_manifest=left_out)
    )


def _drop_staged(connection: Connection, row: AnyRow, now: datetime) -> None:
    if not row.staged_revision:
        return
    build = schema.build.c
    for key in connection.scalars(
        select(build.key).where(build.job == row.key, build.revision == row.staged_revision, build.ended_at.is_(None))
    ).all():
        ledger.drop_build(connection, BuildKey(key), now=now)
    deploys.drop_staged(connection, row)


def _writable(connection: Connection, workspace: str, name: str) -> AnyRow:
    row = jobs.row_of(connection, workspace, name)
    if row is None:
        raise NotFound(f"no job {name!r} in workspace {workspace!r}")
    if row.state == JobState.DELETING:
        raise Conflict(f"job {name!r} is being deleted")
    return row


def _revisioned(spec: JobSpec) -> tuple[object, ...]:
    """What tasks run, as far as a spec says it: two equal ones need one revision."""
    extra = {name: value for name, value in spec.extra.items() if name not in jobs.UNREVISIONED}
    return spec.region, spec.runtime, extra


def _secured(connection: Connection, row: AnyRow, write: JobWrite, now: datetime) -> Job:
    """The job with the secrets that this request has made. Those of a deploy stand in its triggers as they will be."""
    made = callbacks.secure(connection, JobKey(row.key), partial(write.editor.new_secret, now), now=now)
    job = _seen(connection, row, now)
    if made.keys() - ids(callbacks_of(job.spec.extra.get("triggers"))):
        extra = {**job.spec.extra, "triggers": callbacks.staged(connection, job.key)}
        job = replace(job, spec=replace(job.spec, extra=extra))
    return replace(job, callback_secrets=made)


def _seen(connection: Connection, row: AnyRow, now: datetime) -> Job:
    return jobs.find_by_key(connection, JobKey(row.key), now=now)
