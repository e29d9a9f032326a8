"""Ray: a remote function, on a cluster of this machine with two CPUs."""

import logging

import ray
from work import run_true

STORE_BYTES = 100 << 20

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES, logging_level=logging.ERROR)
true = ray.remote(run_true)


def run(tasks: int) -> None:
    ray.get([true.remote() for _ in range(tasks)])
