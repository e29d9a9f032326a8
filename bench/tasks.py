"""Throughput: one execution of many times /bin/true, next to both C programs, in turn; and what it takes of the CPU."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import floor
from bench.ground import Ground
from bench.processes import cpu_s
from bench.results import Round

_WARM: Final = 50


def rounds(ground: Ground, *, tasks: int, count: int) -> list[Round]:
    """Of each: tasks a second, and CPU milliseconds a task; the server's with node and tasks."""

    def ours(number: int) -> floor.Took:
        before = cpu_s(ground.pids)
        took = ground.run(number)
        return floor.Took(took, cpu_s(ground.pids) - before)

    with tempfile.TemporaryDirectory() as folder, floor.opened(ground, Path(folder)) as floors:
        ways: dict[str, Callable[[int], floor.Took]] = {"tidemill": ours, "equal": floors.equal, "bare": floors.bare}
        for way in ways.values():
            way(_WARM)
        return [_round(ways, tasks) for _ in range(count)]


def _round(ways: dict[str, Callable[[int], floor.Took]], tasks: int) -> Round:
    found: Round = {}
    for name, way in ways.items():
        took = way(tasks)
        found[f"{name}_a_second"] = tasks / took.wall_s
        found[f"{name}_cpu_ms"] = took.cpu_s / tasks * 1000
    return found
