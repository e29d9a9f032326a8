"""kill -9 of server and node, at random, under a running execution."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from tests.e2e.drills.ground import Ground, ground
from tests.e2e.drive import until


def drill(folder: Path, *, kills: int, tasks: int, chance: random.Random) -> str:
    """Kill up to ``kills`` times; what happened. Raises DrillError unless every task ended once, and as it should."""
    with ground(folder) as on:
        execution = on.submit(tasks)
        victims = {"server": 0, "node": 0}
        for _ in range(kills):
            if not _goes_on(on, execution):
                break
            victim = chance.choice(("server", "node"))
            victims[victim] += 1
            if victim == "server":
                on.server.kill()
                on.server.start()
            else:
                with suppress(ProcessLookupError):
                    os.kill(on.server.node_pid, signal.SIGKILL)
        on.end(execution, tasks, seconds=600)
    return f"{victims['server']} kills of the server, {victims['node']} of the node, {tasks} of {tasks} tasks succeeded"


def _goes_on(on: Ground, execution: str) -> bool:
    """Wait until something more has ended; False when all has."""
    done = on.stats(execution)["success"]
    until(lambda: on.stats(execution)["success"] > done or on.status(execution) != "running", seconds=120)
    return on.status(execution) == "running"
