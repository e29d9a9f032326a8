"""The node is stopped for a while and goes on, as on a laptop that was closed: nothing is lost, nothing runs twice."""

import json
import os
import signal
import time
from pathlib import Path

from tests.e2e.drills.ground import DrillError, ground
from tests.e2e.drive import select_pause, until


def drill(folder: Path, *, seconds: float, tasks: int) -> str:
    """Stop the node in the middle of an execution; what happened. Raises DrillError."""
    with ground(folder) as on:
        execution = on.submit(tasks)
        until(lambda: on.stats(execution)["success"] > tasks // 4, seconds=120)
        node = on.server.node_pid
        os.kill(node, signal.SIGSTOP)
        try:
            over = time.monotonic() + seconds
            while time.monotonic() < over:
                select_pause()
        finally:
            os.kill(node, signal.SIGCONT)
        on.end(execution, tasks, seconds=300)
        if on.server.node_pid != node:
            raise DrillError("another node has taken over")
        lines = [json.loads(line) for line in on.server.cli("results", "drill", execution).splitlines()]
        if [line["attempts"] for line in lines] != [1] * tasks:
            raise DrillError("a task ran more than once")
    return f"stopped for {seconds:.0f} s; {tasks} of {tasks} tasks succeeded in their first attempt"
