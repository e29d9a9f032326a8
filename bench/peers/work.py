"""What a task of every peer does: start /bin/true and keep what it prints. And where Redis is, for those with one."""

import os
import subprocess


def run_true() -> str:
    return subprocess.run(["/bin/true"], capture_output=True, check=True, text=True).stdout


def redis_url(database: int) -> str:
    """Of one of its numbered databases."""
    return f"{os.environ['PEER_REDIS']}/{database}"  # noqa: TID251 - the benchmark has started it, and says where
