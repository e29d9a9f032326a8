"""How soon a task starts: from the POST of an execution of one task to its process, on a server that is idle."""

import time
from statistics import quantiles
from typing import Final

from bench.ground import Ground
from bench.results import Round

# the server has gone to sleep by then
_REST_S: Final = 0.05


def rounds(ground: Ground, *, starts: int, count: int) -> list[Round]:
    """Median and 99th percentile of each round."""
    return [_round(ground, starts) for _ in range(count)]


def _round(ground: Ground, starts: int) -> Round:
    times = []
    for _ in range(starts):
        time.sleep(_REST_S)
        times.append(ground.start_ms())
    return percentiles(times)


def percentiles(times_ms: list[float]) -> Round:
    """What a page says of times."""
    cuts = quantiles(times_ms, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}
