"""Specs of revisions as JSON documents, and back."""

from collections.abc import Mapping
from typing import Any

from tidemill.model.job import Env, JobSpec, Runtime


def encode(spec: JobSpec) -> dict[str, object]:
    """The document that a revision's row keeps. Secret values must be sealed already."""
    runtime = spec.runtime
    return {
        "enabled": spec.enabled,
        "region": spec.region,
        "extra": dict(spec.extra),
        "runtime": {
            "image": runtime.image,
            "memory_mb": runtime.memory_mb,
            "timeout_s": runtime.timeout_s,
            "max_retries": runtime.max_retries,
            "max_concurrent_tasks": runtime.max_concurrent_tasks,
            "generation": runtime.generation,
            "envs": [[env.name, env.value, env.secret] for env in runtime.envs],
            "extra": dict(runtime.extra),
        },
    }


def decode(document: Mapping[str, Any]) -> JobSpec:
    """The inverse of ``encode``; values are Any because a JSON column enters here."""
    runtime = dict(document["runtime"])
    envs = tuple(Env(name=name, value=value, secret=secret) for name, value, secret in runtime.pop("envs"))
    return JobSpec(
        enabled=document["enabled"],
        region=document["region"],
        extra=document["extra"],
        runtime=Runtime(envs=envs, **runtime),
    )
