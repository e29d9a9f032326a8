"""Jobs on the wire (docs/wire.md, Job)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from tidemill.api.wire import Body, Json, Text, present, timestamp
from tidemill.api.wire_retry import RetryPolicyBody, retry_policy, retry_view
from tidemill.api.wire_revision import RevisionBody, active_wish, configuration_view, rollout_change
from tidemill.api.wire_triggers import TriggerBody, trigger_views, triggers_of
from tidemill.model.errors import Invalid
from tidemill.model.job import Env, Job, JobEvent, Network
from tidemill.model.quoted import quoted
from tidemill.model.states import JobState
from tidemill.model.volume import plain_path
from tidemill.service.jobs import JobRequest
from tidemill.service.specs import EnvChange, RuntimeChange, SpecChange
from tidemill.service.wishes import UNSET
from tidemill.store.deploys import CONCURRENCY_MEMBER, NETWORK_MEMBER
from tidemill.store.job_writes import MetadataChange

GENERATED_LABEL: Final = "x-blaxel-auto-generated"

ExternalId = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9-]*$")]
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_PROTOCOLS: Final = ("HTTP", "TCP", "UDP", "TLS")


def _repository(value: str) -> str:
    if _REPOSITORY.fullmatch(value) is None:
        raise ValueError("text of the form owner/repo")
    return value


def _known_protocol(value: str | None) -> str | None:
    if value is not None and value.upper() not in _PROTOCOLS:
        raise ValueError("no such protocol")
    return value


def _known_network(value: str | None) -> str | None:
    if value is not None and value not in list(Network):
        raise ValueError("no such network")
    return value


def _does_not_climb(value: str) -> str:
    if ".." in value.split("/"):
        raise ValueError("it climbs")
    return value


class MetadataBody(Body):
    name: Text = None
    display_name: Annotated[str | None, Field(max_length=63, description="text of up to 63 characters")] = None
    external_id: Annotated[
        ExternalId | None, Field(description="text of up to 64 of A-Z, a-z, 0-9 and -, and of nothing else")
    ] = None
    labels: dict[str, str | None] | None = None
    # read-only: accepted as `bl get -o yaml` prints them, and dropped
    created_at: Json = None
    updated_at: Json = None
    created_by: Json = None
    updated_by: Json = None
    plan: Json = None
    url: Json = None
    workspace: Json = None


class EnvBody(Body):
    name: str
    value: str | None = None
    secret: bool | None = None


class PortBody(Body):
    target: Annotated[int, Field(ge=1, le=65_535, description="a whole number from 1 to 65535")]
    name: str | None = None
    protocol: Annotated[
        Text, AfterValidator(_known_protocol), Field(description=f"one of {', '.join(_PROTOCOLS)}, in any case")
    ] = None


class RuntimeBody(Body):
    image: Text = None
    memory: int | None = None
    timeout: int | None = None
    max_retries: int | None = None
    max_concurrent_tasks: int | None = None
    retry_policy: RetryPolicyBody | None = None
    generation: Text = None
    network: Annotated[
        Text, AfterValidator(_known_network), Field(description='"on", or "none" for no network but its own loopback')
    ] = None
    envs: list[EnvBody] | None = None
    ports: list[PortBody] | None = None
    disk_percent: int | None = None
    docker_config: Text = None
    skip_build: Json = None


class VolumeBody(Body):
    name: Annotated[str, Field(min_length=1, description="text that is not empty")]
    mount_path: Annotated[
        str,
        AfterValidator(_does_not_climb),
        Field(
            pattern=r"^/[^\x00]*$", description="an absolute path: text that begins with / and holds no NUL, and no .."
        ),
    ]
    type: Annotated[Literal["ephemeral"], Field(description='"ephemeral", the only kind of volume')]
    size_mb: Annotated[int, Field(ge=1, description="a whole number from 1 on (MB)")]
    read_only: bool | None = None


class RunnerBody(Body):
    repositories: list[Annotated[str, AfterValidator(_repository)]] | None = None


class SpecBody(Body):
    enabled: bool | None = None
    region: Text = None
    runtime: RuntimeBody | None = None
    triggers: list[TriggerBody] | None = None
    volumes: list[VolumeBody] | None = None
    policies: list[str] | None = None
    github_runner: RunnerBody | None = None
    revision: RevisionBody | None = None


class JobBody(Body):
    metadata: MetadataBody | None = None
    spec: SpecBody | None = None
    # what a file or an answer carries besides: accepted and dropped
    api_version: Json = None
    kind: Json = None
    status: Json = None
    events: Json = None


def job_request(body: JobBody, *, name: str, upload: bool, watched: bool) -> JobRequest:
    """What the body asks for, of the job ``name``. Raises Invalid for what no job of this server can be."""
    spec = body.spec or SpecBody()
    runtime = spec.runtime or RuntimeBody()
    return JobRequest(
        name=name,
        metadata=_metadata(body.metadata or MetadataBody()),
        spec=_spec(spec, runtime),
        image=runtime.image or "",
        docker_config=runtime.docker_config or "",
        revision=active_wish(spec.revision),
        from_manifest=tuple(_left_to_manifest(runtime)),
        upload=upload,
        watched=watched,
    )


def _left_to_manifest(runtime: RuntimeBody) -> Iterator[str]:
    """Members of ours that the official command line leaves out of its requests, but not out of the archive."""
    if not runtime.max_concurrent_tasks:
        yield CONCURRENCY_MEMBER
    if not runtime.has("network"):
        yield NETWORK_MEMBER


def job_view(job: Job, base_url: str, plan: str) -> dict[str, Json]:
    """A Job object. ``base_url`` is the origin under which its executions can be started."""
    metadata = {
        **job.extra,
        "name": job.name,
        "displayName": job.display_name or job.name,
        "externalId": job.external_id or None,
        "workspace": job.workspace,
        "labels": dict(job.labels),
        "plan": plan,
        "url": f"{base_url}/{job.workspace}/jobs/{job.name}",
        "createdAt": timestamp(job.created_at),
        "updatedAt": timestamp(job.updated_at),
        "createdBy": job.created_by,
        "updatedBy": job.updated_by,
    }
    return {
        "metadata": present(metadata),
        "spec": _spec_view(job),
        "events": [_event_view(event) for event in job.events],
        "status": job.state.value,
    }


def parse_states(text: str) -> frozenset[JobState]:
    """A comma list of job states in any case. Raises Invalid for an unknown one."""
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    known = {state.value for state in JobState} | {"BUILT"}
    for word in words:
        if word not in known:
            raise Invalid(f"status has {word[:64]!r}; it must be of {', '.join(sorted(known))}")
    return frozenset(JobState(word) for word in words if word != "BUILT")


def _metadata(body: MetadataBody) -> MetadataChange:
    labels = None
    if body.has("labels"):
        given = body.labels or {}
        labels = {name: value or "" for name, value in given.items() if name != GENERATED_LABEL}
    return MetadataChange(
        display_name=(body.display_name or "") if body.has("display_name") else None,
        external_id=(body.external_id or "") if body.has("external_id") else None,
        labels=labels,
        extra=body.model_extra or {},
    )


def _spec(spec: SpecBody, runtime: RuntimeBody) -> SpecChange:
    return SpecChange(
        enabled=_wish(spec, "enabled", spec.enabled),
        region=_wish(spec, "region", spec.region),
        runtime=RuntimeChange(
            memory_mb=_wish(runtime, "memory", runtime.memory),
            timeout_s=_wish(runtime, "timeout", runtime.timeout),
            max_retries=_wish(runtime, "max_retries", runtime.max_retries),
            max_concurrent_tasks=_wish(runtime, "max_concurrent_tasks", runtime.max_concurrent_tasks),
            retry=_wish(runtime, "retry_policy", retry_policy(runtime.retry_policy)),
            generation=_wish(runtime, "generation", runtime.generation),
            network=_wish(runtime, "network", None if runtime.network is None else Network(runtime.network)),
            envs=_wish(runtime, "envs", None if runtime.envs is None else tuple(_env(env) for env in runtime.envs)),
            extra=_runtime_extra(runtime),
        ),
        rollout=rollout_change(spec.revision, present=spec.has("revision")),
        extra=_spec_extra(spec),
    )


def _wish(body: Body, name: str, value: Any) -> Any:
    return value if body.has(name) else UNSET


def _env(env: EnvBody) -> EnvChange:
    return EnvChange(name=env.name, value=env.value or "", secret=env.secret)


def _runtime_extra(runtime: RuntimeBody) -> dict[str, Json]:
    """Members that this server keeps and returns; a None removes one."""
    extra = dict(runtime.model_extra or {})
    if runtime.has("ports"):
        extra["ports"] = _plain(runtime.ports)
    if runtime.has("disk_percent"):
        percent = runtime.disk_percent or None
        if percent is not None and not 10 <= percent <= 95:
            raise Invalid(f"spec.runtime.diskPercent is {quoted(percent)}; it must be 10 to 95")
        extra["diskPercent"] = percent
    return extra


def _spec_extra(spec: SpecBody) -> dict[str, Json]:
    extra = dict(spec.model_extra or {})
    _check_apart(spec.volumes or ())
    for name, member, value in (
        ("volumes", "volumes", spec.volumes),
        ("policies", "policies", spec.policies),
        ("github_runner", "githubRunner", spec.github_runner),
    ):
        if spec.has(name):
            extra[member] = _plain(value)
    if spec.has("triggers"):
        extra["triggers"] = None if spec.triggers is None else triggers_of(spec.triggers)
    if spec.has("revision"):
        extra["revision"] = (spec.revision.model_extra if spec.revision is not None else None) or None
    return extra


def _check_apart(volumes: Sequence[VolumeBody]) -> None:
    """Raises Invalid for two volumes at one path: the second would hide the first."""
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        path = plain_path(volume.mount_path)
        if path in seen:
            raise Invalid(
                f"spec.volumes[{index}].mountPath is {quoted(volume.mount_path)}; each path may be there once"
            )
        seen.add(path)


def _plain(value: Json) -> Json:
    """Bodies as they were sent, in the words of the wire."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.model_dump(by_alias=True, exclude_unset=True) if isinstance(value, Body) else value


def _spec_view(job: Job) -> dict[str, Json]:
    spec, runtime = job.spec, job.spec.runtime
    unknown: Mapping[str, Json] = spec.extra.get("revision") or {}  # type: ignore[assignment]  # written by _spec_extra
    # ours besides: they are there where they change something
    ours: dict[str, Json] = {} if runtime.retry is None else {"retryPolicy": retry_view(runtime.retry)}
    if runtime.network is not Network.ON:
        ours["network"] = runtime.network.value
    extra = dict(spec.extra)
    if "triggers" in extra:
        extra["triggers"] = trigger_views(extra["triggers"], job.callback_secrets)
    return {
        **extra,
        "enabled": spec.enabled,
        "region": spec.region,
        "revision": configuration_view(job.active_revision, spec.rollout, unknown),
        "runtime": {
            **runtime.extra,
            **ours,
            "image": runtime.image,
            "memory": runtime.memory_mb,
            "timeout": runtime.timeout_s,
            "maxRetries": runtime.max_retries,
            "maxConcurrentTasks": runtime.max_concurrent_tasks,
            "generation": runtime.generation,
            "envs": [_env_view(env) for env in runtime.envs],
        },
    }


def _env_view(env: Env) -> dict[str, Json]:
    return {"name": env.name, "value": env.value, "secret": env.secret}


def _event_view(event: JobEvent) -> dict[str, Json]:
    view = {
        "time": timestamp(event.at),
        "type": event.type,
        "status": event.status,
        "message": event.message,
        "revision": event.revision,
        "canaryRevision": event.canary or None,
    }
    return present(view)
