"""kill -9 of server and node, at random, under a running execution."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from tests.e2e.drills.ground import Ground, ground
from tests.e2e.drive import until


def drill(folder: Path, *, kills: int, tasks: int, chance: random.Random) -> str:
    """Kill that often, under executions of ``tasks`` one after the other; what happened.

    Raises DrillError unless every task of each ended once, and as it should.
    """
    victims = {"server": 0, "node": 0}
    executions = 0
    with ground(folder) as on:
        while sum(victims.values()) < kills:
            execution = on.submit(tasks)
            executions += 1
            while sum(victims.values()) < kills and _goes_on(on, execution):
                victim = chance.choice(("server", "node"))
                victims[victim] += 1
                _kill(on, victim)
            on.end(execution, tasks, seconds=600)
    said = f"{victims['server']} kills of the server, {victims['node']} of the node"
    return f"{said}; executions: {executions}, all of their {executions * tasks} tasks succeeded"


def _kill(on: Ground, victim: str) -> None:
    if victim == "server":
        on.server.kill()
        on.server.start()
    else:
        with suppress(ProcessLookupError):
            os.kill(on.server.node_pid, signal.SIGKILL)


def _goes_on(on: Ground, execution: str) -> bool:
    """Wait until something more has ended; False when all has."""
    done = on.stats(execution)["success"]
    until(lambda: on.stats(execution)["success"] > done or on.status(execution) != "running", seconds=120)
    return on.status(execution) == "running"
