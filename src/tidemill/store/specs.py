"""Specs of revisions as JSON documents, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tidemill.model.canary import Rollout
from tidemill.model.execution import Reason
from tidemill.model.job import Env, JobSpec, Network, Runtime
from tidemill.model.retry import RetryPolicy


def encode(spec: JobSpec) -> dict[str, object]:
    """The document that a revision's row keeps. Secret values must be sealed already."""
    runtime = spec.runtime
    return {
        "enabled": spec.enabled,
        "region": spec.region,
        "rollout": asdict(spec.rollout),
        "extra": dict(spec.extra),
        "runtime": {
            "image": runtime.image,
            "memory_mb": runtime.memory_mb,
            "timeout_s": runtime.timeout_s,
            "max_retries": runtime.max_retries,
            "retry": encode_retry(runtime.retry),
            "max_concurrent_tasks": runtime.max_concurrent_tasks,
            "generation": runtime.generation,
            "network": runtime.network.value,
            "envs": [[env.name, env.value, env.secret] for env in runtime.envs],
            "extra": dict(runtime.extra),
        },
    }


def decode(document: Mapping[str, Any]) -> JobSpec:
    """The inverse of ``encode``; values are Any because a JSON column enters here."""
    runtime = dict(document["runtime"])
    envs = tuple(Env(name=name, value=value, secret=secret) for name, value, secret in runtime.pop("envs"))
    retry = decode_retry(runtime.pop("retry", {}))
    network = Network(runtime.pop("network", Network.ON))
    return JobSpec(
        enabled=document["enabled"],
        region=document["region"],
        rollout=Rollout(**document.get("rollout", {})),
        extra=document["extra"],
        runtime=Runtime(envs=envs, retry=retry, network=network, **runtime),
    )


def encode_retry(policy: RetryPolicy | None) -> dict[str, object]:
    """The document that an execution's row keeps of its retry policy; empty for None, the default."""
    if policy is None:
        return {}
    return {
        "initial_s": policy.initial_s,
        "factor": policy.factor,
        "max_s": policy.max_s,
        "never_on": list(policy.never_on),
        "extra": dict(policy.extra),
    }


def decode_retry(document: Mapping[str, Any]) -> RetryPolicy | None:
    """The inverse of ``encode_retry``."""
    if not document:
        return None
    never_on = tuple(word if isinstance(word, int) else Reason(word) for word in document["never_on"])
    return RetryPolicy(**{**document, "never_on": never_on})
