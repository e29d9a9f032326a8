"""What a request may do to a job's spec: merge, defaults, limits, secrets. Pure but for the key ring's cryptography."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tidemill import secrets
from tidemill.model.callback import secret_about
from tidemill.model.errors import Invalid
from tidemill.model.ids import JobKey, new_key
from tidemill.model.job import (
    DEFAULT_GENERATION,
    DEFAULT_MAX_CONCURRENT_TASKS,
    DEFAULT_MAX_RETRIES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIMEOUT_S,
    MASK,
    MAX_CONCURRENT_TASKS,
    MAX_ENV_BYTES,
    MAX_ENVS_BYTES,
    MAX_RETRIES,
    MAX_TIMEOUT_S,
    MIN_MEMORY_MB,
    Env,
    JobSpec,
    Network,
    Runtime,
)
from tidemill.model.quoted import quoted
from tidemill.model.region import Regions, biggest_in
from tidemill.model.retry import MAX_FACTOR, MAX_WAIT_S, RetryPolicy
from tidemill.secrets import KeyRing
from tidemill.service import rollouts
from tidemill.service.rollouts import NO_CHANGE, RolloutChange
from tidemill.service.wishes import UNSET, Unset, Wish, chosen
from tidemill.store.callbacks import NewSecret

GENERATIONS: Final = ("mk2", "mk3")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvChange:
    """One entry of a request's ``envs``; the mask as value keeps what is there. ``secret`` None: as it is."""

    name: str
    value: str = field(repr=False)
    secret: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChange:
    """Of ``spec.runtime`` all but the image. A None in ``extra`` removes that member."""

    memory_mb: Wish[int] = UNSET
    timeout_s: Wish[int] = UNSET
    max_retries: Wish[int] = UNSET
    max_concurrent_tasks: Wish[int] = UNSET
    retry: Wish[RetryPolicy] = UNSET
    generation: Wish[str] = UNSET
    network: Wish[Network] = UNSET
    envs: Wish[tuple[EnvChange, ...]] = UNSET
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChange:
    """What a request says about ``spec``. A None in ``extra`` removes that member."""

    enabled: Wish[bool] = UNSET
    region: Wish[str] = UNSET
    runtime: RuntimeChange = field(default_factory=RuntimeChange)
    rollout: RolloutChange = NO_CHANGE
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """A SpecEditor of the store: one request's change, the server's regions, and the key ring for what it seals."""

    change: SpecChange
    regions: Regions
    keyring: KeyRing

    def edit(self, spec: JobSpec | None, biggest_nodes: Mapping[str, int]) -> JobSpec:
        """The spec merged with the change. Raises Invalid naming the field, its value and the limit."""
        change = self.change
        region = self._region(self.regions.default if spec is None else spec.region)
        biggest_node_mb = biggest_in(biggest_nodes, self.regions.placed(region))
        base = spec or JobSpec(region=region, runtime=Runtime(memory_mb=_default_memory_mb(biggest_node_mb)))
        return replace(
            base,
            enabled=chosen(change.enabled, base.enabled, default=True),
            region=region,
            runtime=_merged_runtime(base.runtime, change.runtime, biggest_node_mb),
            rollout=rollouts.merged(base.rollout, change.rollout),
            extra=_merged(base.extra, change.extra),
        )

    def _region(self, kept: str) -> str:
        """What the request asks for must be a region now; one that is kept may be from other settings."""
        wish = self.change.region
        region = chosen(wish, kept, self.regions.default)
        if wish is not UNSET and region not in self.regions.accepted:
            raise Invalid(f"spec.region is {quoted(region)}; the regions are {', '.join(self.regions.accepted)}")
        return region

    def open(self, spec: JobSpec, job: JobKey, revision: str) -> JobSpec:
        """With secret values in plain text. Raises KeyRingError."""
        return opened(spec, job, revision, self.keyring)

    def seal(self, spec: JobSpec, job: JobKey, revision: str) -> JobSpec:
        """With secret values sealed for that revision."""
        envs = tuple(
            replace(env, value=self.keyring.seal(env.value, _about(job, revision, env.name))) if env.secret else env
            for env in spec.runtime.envs
        )
        return replace(spec, runtime=replace(spec.runtime, envs=envs))

    def new_secret(self, now: datetime) -> NewSecret:
        """What a callback is signed with from now on."""
        key, secret = new_key(int(now.timestamp() * 1000)), secrets.new_callback_secret()
        return NewSecret(key=key, secret=secret, sealed=self.keyring.seal(secret, secret_about(key)))


def opened(spec: JobSpec, job: JobKey, revision: str, keyring: KeyRing) -> JobSpec:
    """The spec of a stored revision with its secret values in plain text. Raises KeyRingError."""
    envs = tuple(
        replace(env, value=keyring.open(env.value, _about(job, revision, env.name))) if env.secret else env
        for env in spec.runtime.envs
    )
    return replace(spec, runtime=replace(spec.runtime, envs=envs))


def _about(job: JobKey, revision: str, name: str) -> str:
    return f"revision/{job}/{revision}/{name}"


def _default_memory_mb(biggest_node_mb: int | None) -> int:
    if biggest_node_mb is None:
        return DEFAULT_MEMORY_MB
    return max(MIN_MEMORY_MB, min(DEFAULT_MEMORY_MB, biggest_node_mb // 2))


def _merged_runtime(base: Runtime, change: RuntimeChange, biggest_node_mb: int | None) -> Runtime:
    memory_mb = chosen(change.memory_mb or None if change.memory_mb is not UNSET else UNSET, base.memory_mb, None)
    if memory_mb is None:
        memory_mb = _default_memory_mb(biggest_node_mb)
    elif change.memory_mb is not UNSET:
        _check_memory(memory_mb, biggest_node_mb)
    generation = chosen(change.generation, base.generation, DEFAULT_GENERATION) or DEFAULT_GENERATION
    if generation not in GENERATIONS:
        raise Invalid(f"spec.runtime.generation is {quoted(generation)}; it must be one of {', '.join(GENERATIONS)}")
    return replace(
        base,
        memory_mb=memory_mb,
        timeout_s=_number("timeout", _nonzero(change.timeout_s), base.timeout_s, _TIMEOUT),
        max_retries=_number("maxRetries", change.max_retries, base.max_retries, _RETRIES),
        max_concurrent_tasks=_number(
            "maxConcurrentTasks", _nonzero(change.max_concurrent_tasks), base.max_concurrent_tasks, _CONCURRENCY
        ),
        retry=_checked_retry(chosen(change.retry, base.retry, None)),
        generation=generation,
        network=chosen(change.network, base.network, Network.ON),
        envs=_merged_envs(base.envs, change.envs),
        extra=_merged(base.extra, change.extra),
    )


def _nonzero(wish: Wish[int]) -> Wish[int]:
    """For members where 0 is no legal value: it means back to the default."""
    return None if wish == 0 else wish


@dataclass(frozen=True, slots=True)
class _Range:
    low: int
    high: int
    default: int


_TIMEOUT: Final = _Range(1, MAX_TIMEOUT_S, DEFAULT_TIMEOUT_S)
_RETRIES: Final = _Range(0, MAX_RETRIES, DEFAULT_MAX_RETRIES)
_CONCURRENCY: Final = _Range(1, MAX_CONCURRENT_TASKS, DEFAULT_MAX_CONCURRENT_TASKS)


def _number(name: str, wish: Wish[int], kept: int, accepted: _Range) -> int:
    value = chosen(wish, kept, accepted.default)
    if not accepted.low <= value <= accepted.high:
        raise Invalid(f"spec.runtime.{name} is {quoted(value)}; it must be {accepted.low} to {accepted.high}")
    return value


def _checked_retry(policy: RetryPolicy | None) -> RetryPolicy | None:
    if policy is None:
        return None
    where = "spec.runtime.retryPolicy"
    for name, value, low, high in (
        ("initialSeconds", policy.initial_s, 0, MAX_WAIT_S),
        ("factor", policy.factor, 1, MAX_FACTOR),
        ("maxSeconds", policy.max_s, 0, MAX_WAIT_S),
    ):
        if not low <= value <= high:
            raise Invalid(f"{where}.{name} is {value:g}; it must be {low:g} to {high:.0f}")
    if policy.max_s < policy.initial_s:
        raise Invalid(
            f"{where}.maxSeconds is {policy.max_s:g}; it must be initialSeconds, {policy.initial_s:g}, or more"
        )
    return policy


def _check_memory(memory_mb: int, biggest_node_mb: int | None) -> None:
    if memory_mb < MIN_MEMORY_MB:
        raise Invalid(f"spec.runtime.memory is {quoted(memory_mb)}; it must be {MIN_MEMORY_MB} or more (MB)")
    if biggest_node_mb is not None and memory_mb > biggest_node_mb:
        raise Invalid(
            f"spec.runtime.memory is {quoted(memory_mb)}; it must be {MIN_MEMORY_MB} to {biggest_node_mb}, "
            "what the biggest node has for tasks (MB)"
        )


def _merged(base: Mapping[str, object], change: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in {**base, **change}.items() if value is not None}


def _merged_envs(base: tuple[Env, ...], wish: Wish[tuple[EnvChange, ...]]) -> tuple[Env, ...]:
    """A list that is present replaces the list, but an empty one keeps secret entries."""
    if isinstance(wish, Unset):
        return base
    if not wish:
        return tuple(env for env in base if env.secret)
    kept = {env.name: env for env in base}
    merged = {
        change.name: _merged_env(f"spec.runtime.envs[{index}]", kept.get(change.name), change)
        for index, change in enumerate(wish)
    }
    check_size("spec.runtime.envs", ((env.name, env.value) for env in merged.values()))
    if len(merged) < len(wish):
        names = [change.name for change in wish]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise Invalid(f"spec.runtime.envs has {quoted(twice)} twice; each name may be there once")
    return tuple(merged.values())


def _merged_env(where: str, kept: Env | None, change: EnvChange) -> Env:
    check_variable(f"{where}.name", f"{where}.value", change.name, change.value)
    secret = (kept is not None and kept.secret) if change.secret is None else change.secret
    if change.value != MASK:
        return Env(name=change.name, value=change.value, secret=secret)
    if kept is None:
        raise Invalid(f"{where}.value is the mask {MASK}, but {quoted(change.name)} has no value to keep; send one")
    if kept.secret and not secret:
        # else whoever may change the job could read what only admins may
        raise Invalid(f"{where}.value is the mask {MASK}; to make {quoted(change.name)} plain send its value")
    return replace(kept, secret=secret)


def check_size(where: str, variables: Iterable[tuple[str, str]]) -> None:
    """Whether variables fit into a program's environment together. Raises Invalid."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables)
    if size > MAX_ENVS_BYTES:
        raise Invalid(f"{where} has {size} bytes in all; it may have up to {MAX_ENVS_BYTES}")


def check_variable(name_at: str, value_at: str, name: str, value: str) -> None:
    """Whether a program's environment can hold it. ``name_at`` and ``value_at`` are the paths of both members.

    Raises Invalid; never repeats the value, nor what follows ``=`` in a name, which is a value sent the wrong way.
    """
    if not name or "=" in name or "\0" in name:
        shown = quoted(name.partition("=")[0] + "=...") if "=" in name else quoted(name)
        raise Invalid(f"{name_at} is {shown}; a variable's name must not be empty or hold = or NUL")
    if "\0" in value:
        raise Invalid(f"{value_at} holds a NUL character, which no environment can hold")
    size = len(name.encode()) + len(value.encode())
    if size > MAX_ENV_BYTES:
        raise Invalid(f"{value_at} has {size} bytes with its name; the system takes up to {MAX_ENV_BYTES}")
