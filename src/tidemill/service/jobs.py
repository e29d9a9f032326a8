"""Jobs: made, read, listed, changed, deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from tidemill import secrets
from tidemill.model.errors import Forbidden, Invalid, NotFound
from tidemill.model.ids import JOB_NAME, REVISION_ID, JobKey, new_key
from tidemill.model.job import MASK, Job, JobSpec, Revision
from tidemill.model.principal import Principal, Role
from tidemill.model.states import JobState
from tidemill.service import callbacks, pulls, specs
from tidemill.service.parts import Parts
from tidemill.service.specs import Editor, SpecChange
from tidemill.store import job_writes, jobs, workspaces
from tidemill.store import revisions as stored_revisions
from tidemill.store.job_writes import JobWrite, MetadataChange
from tidemill.store.jobs import JobPage
from tidemill.store.schema import AnyRow
from tidemill.store.uploads import NewUpload

# the official command line believes a deploy only when two of its looks, 3 s apart, have seen BUILDING (contract 5.5)
_CLI_BUILDING_S: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job as a request describes it. ``upload``: bytes follow. ``watched``: by the official command line.

    ``image`` and ``revision`` are empty for no wish. ``docker_config`` holds credentials for the image's registry, as
    JSON text, or is empty. ``from_manifest`` names members left to the archive's blaxel.toml.
    """

    name: str
    metadata: MetadataChange
    spec: SpecChange
    image: str = ""
    docker_config: str = field(default="", repr=False)
    revision: str = ""
    from_manifest: tuple[str, ...] = ()
    upload: bool = False
    watched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A job after a request. ``capability`` is the path of its upload, empty when no bytes are to follow."""

    job: Job
    capability: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A page of jobs, and ``text`` (lower case) that their name, display name or labels must hold; empty for any."""

    page: JobPage
    text: str = ""


def create(parts: Parts, principal: Principal, request: JobRequest, *, now: datetime) -> Written:
    """Make a job. One unit: ``job_writes.create``. Raises Invalid, AlreadyExists."""
    if JOB_NAME.fullmatch(request.name) is None:
        raise Invalid(
            f"metadata.name is {_cut(request.name)!r}; it must have 1 to 49 of a-z, 0-9 and -, "
            "and begin and end with a letter or digit"
        )
    if request.revision and REVISION_ID.fullmatch(request.revision) is None:
        raise Invalid(
            f"spec.revision.active is {_cut(request.revision)!r}; the id of a job's first revision must have "
            "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
        )
    capability, write = _write(parts, principal, request, now)
    job = parts.database.write(lambda connection: job_writes.create(connection, write, now=now))
    return Written(job=masked(job), capability=capability)


def put(parts: Parts, principal: Principal, request: JobRequest, *, now: datetime) -> Written:
    """Change a job. One unit: ``job_writes.put``. Raises NotFound, Invalid, Conflict while it is being deleted."""
    capability, write = _write(parts, principal, request, now)
    job = parts.database.write(lambda connection: job_writes.put(connection, write, now=now))
    return Written(job=masked(job), capability=capability)


def get(parts: Parts, principal: Principal, name: str, *, show_secrets: bool, now: datetime) -> Job:
    """The job, secrets masked unless ``show_secrets``. Two statements. Raises NotFound, Forbidden for non-admins."""
    if show_secrets and principal.role is not Role.ADMIN:
        raise Forbidden("show_secrets=true needs the role admin in this workspace")
    job = parts.database.read(lambda connection: jobs.find(connection, principal.workspace, name, now=now))
    if job is None:
        raise NotFound(f"no job {_cut(name)!r} in workspace {principal.workspace!r}")
    if not show_secrets:
        return masked(job)
    revision = job.active_revision or job.staged_revision
    return replace(job, spec=specs.opened(job.spec, job.key, revision, parts.keyring))


def revisions(parts: Parts, principal: Principal, name: str) -> list[Revision]:
    """All revisions that the job keeps, newest first. Two statements. Raises NotFound."""
    found = parts.database.read(lambda connection: stored_revisions.find_all(connection, principal.workspace, name))
    if found is None:
        raise NotFound(f"no job {_cut(name)!r} in workspace {principal.workspace!r}")
    return found


def find_page(parts: Parts, search: Search, *, now: datetime) -> list[Job]:
    """Up to ``search.page.limit`` jobs, secrets masked. See ``store.jobs.find_page`` and ``search_page``."""
    if search.text:
        holds = partial(_holds, search.text)
        return [
            masked(job)
            for job in parts.database.read(partial(jobs.search_page, page=search.page, holds=holds, now=now))
        ]
    return [masked(job) for job in parts.database.read(partial(jobs.find_page, page=search.page, now=now))]


def position(job: Job, page: JobPage) -> datetime | str:
    """Where the job stands in the page's order: what ``JobPage.after`` takes."""
    return job.created_at if page.order is jobs.JobOrder.CREATED else job.name


def total(parts: Parts, workspace: str) -> int:
    """How many jobs the workspace has. One statement."""
    found = parts.database.read(lambda connection: workspaces.find(connection, workspace))
    return 0 if found is None else found.jobs_total


def delete(parts: Parts, principal: Principal, name: str, *, now: datetime) -> Job:
    """Delete a job: DELETING until its executions, cancelled by force, have ended. One unit per 200 live executions.

    Raises NotFound.
    """
    job, more = parts.database.write(
        lambda connection: job_writes.remove(connection, principal.workspace, name, now=now)
    )
    while more and job.state is JobState.DELETING:
        job, more = parts.database.write(
            lambda connection: job_writes.remove(connection, principal.workspace, name, now=now)
        )
    return masked(job)


def finish_deletes(parts: Parts, *, now: datetime) -> None:
    """Go on with the deletes that a stop of the server cut short. One statement, and ``delete`` for each."""
    for workspace, name in parts.database.read(job_writes.unfinished_deletes):
        delete(parts, Principal(id="server", workspace=workspace, role=Role.ADMIN), name, now=now)


def masked(job: Job) -> Job:
    """The job as anybody of its workspace may see it."""
    spec: JobSpec = job.spec
    envs = tuple(replace(env, value=MASK) if env.secret else env for env in spec.runtime.envs)
    return replace(job, spec=replace(spec, runtime=replace(spec.runtime, envs=envs)))


def _write(parts: Parts, principal: Principal, request: JobRequest, now: datetime) -> tuple[str, JobWrite]:
    callbacks.check(parts.guard, request.spec.extra)
    capability = secrets.new_capability() if request.upload else ""
    upload = None
    if capability:
        building_s = _CLI_BUILDING_S if request.watched else 0
        upload = NewUpload(digest=secrets.capability_digest(capability), building_s=building_s)
    # the bytes of an upload are the image
    image = "" if upload is not None else request.image
    pull = pulls.new_pull(parts, image, request.docker_config, now=now)
    return capability, JobWrite(
        key=JobKey(new_key(int(now.timestamp() * 1000))),
        workspace=principal.workspace,
        name=request.name,
        by=principal.id,
        metadata=request.metadata,
        editor=Editor(change=request.spec, regions=parts.regions, keyring=parts.keyring),
        upload=upload,
        pull=pull,
        image=request.image if pull is None else pull.image,
        from_manifest=request.from_manifest,
        revision=request.revision,
        canary=request.spec.rollout.named,
    )


def _holds(text: str, row: AnyRow) -> bool:
    labels: Mapping[str, str] = row.labels
    return any(text in part.lower() for part in (row.name, row.display_name, *labels, *labels.values()))


def _cut(text: str) -> str:
    """A caller's text as a message may repeat it."""
    return text if len(text) <= 64 else f"{text[:64]}..."
