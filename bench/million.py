"""make bench-million: one execution of a million tasks, asked about while it runs (`python -m bench.million`).

Everything is measured from outside, through the public API of a real server on a fresh data directory, at level
process. To run a million tasks takes an hour and more, so that most of them are settled without having run
(bench/settled.py), between two windows in which the rate is measured, unless ``--whole`` is said. The results are kept
as those of bench.run are.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import ground
from bench.ground import JOB, OTHER_JOB, Ground, Json
from bench.processes import forget_peak, peak_mb
from bench.results import RESULTS, Round
from bench.run import keep, taken
from bench.settled import settle
from bench.starts import percentiles
from tests.e2e.drive import until

TASKS: Final = 1_000_000
PAGE: Final = 200
LOOKS: Final = 200
_POLL_S: Final = 1.0
_MB: Final = 1 << 20
# the longest that a window may take, at ten tasks a second
_WINDOW_S: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``window`` is over how many tasks a rate is measured; the first is around 1 % of the tasks, the last around 90 %.

    ``looks``: how often each answer is asked for. ``whole``: every task is run.
    """

    tasks: int
    looks: int
    whole: bool

    @property
    def window(self) -> int:
        return self.tasks // 100

    @property
    def early(self) -> int:
        """How many have succeeded when the first window begins."""
        return self.window // 2

    @property
    def late(self) -> int:
        return self.tasks * 9 // 10 - self.window // 2


def body(tasks: int) -> bytes:
    """A request with ``tasks`` arguments of 60 bytes, each its own."""
    return b'{"tasks":[' + b",".join(_arguments(number) for number in range(tasks)) + b"]}"


def _arguments(number: int) -> bytes:
    return b'{"number":%07d,"source":"corpus/part-%07d.jsonl","k":10}' % (number + 1_000_000, number)


class Run:
    """The execution that is measured."""

    def __init__(self, there: Ground, path: str) -> None:
        self._there = there
        self.path = path

    def get(self, path: str) -> Json:
        return self._there.http.get(path, timeout=120).raise_for_status().json()

    def succeeded(self) -> int:
        found: int = self.get(self.path)["stats"]["success"]
        return found

    def reach(self, wanted: int, *, seconds: float) -> tuple[float, int]:
        """When so many had succeeded, looked at once a second, and how many it were then."""
        deadline = time.monotonic() + seconds
        while (found := self.succeeded()) < wanted:
            assert time.monotonic() < deadline, f"{found} of {wanted} tasks had succeeded after {seconds:.0f} s"
            time.sleep(_POLL_S)
        return time.perf_counter(), found

    def rate(self, begin: int, window: int, *, seconds: float) -> float:
        """Tasks a second over a window, while nobody asks for anything else."""
        begun, first = self.reach(begin, seconds=seconds)
        ended, last = self.reach(first + window, seconds=_WINDOW_S)
        return (last - first) / (ended - begun)

    def times(self, path: str, looks: int) -> Round:
        """Of an answer, in milliseconds."""
        return percentiles([_ms(lambda: self.get(path)) for _ in range(looks)])

    def middle(self, tasks: int) -> str:
        """The page in the middle; all before it are walked through, for a page is found by the one before it."""
        cursor = ""
        for _ in range(tasks // 2 // PAGE):
            cursor = self.get(f"{self.path}/tasks?limit={PAGE}&cursor={cursor}")["meta"]["nextCursor"]
        return f"{self.path}/tasks?limit={PAGE}&cursor={cursor}"


def _ms(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def asked(run: Run, plan: Plan) -> Round:
    """How long single answers take while tasks run."""
    pages: Mapping[str, str] = {
        "get": run.path,
        "list": f"/jobs/{JOB}/executions",
        "first": f"{run.path}/tasks?limit={PAGE}",
        "middle": run.middle(plan.tasks),
        "last": f"{run.path}/tasks?limit={PAGE}&sort=name:desc",
        "search": f"{run.path}/tasks?limit={PAGE}&q=99",
        "running": f"{run.path}/tasks?limit={PAGE}&status=running",
        "pending": f"{run.path}/tasks?limit={PAGE}&status=pending",
        "explain": f"{run.path}/explain",
    }
    found: Round = {}
    for name, path in pages.items():
        found |= {f"{name}_{what}": value for what, value in run.times(path, plan.looks).items()}
    return found


def measured(there: Ground, plan: Plan) -> Round:
    """One round."""
    request = body(plan.tasks)
    forget_peak(there.pids[0])
    begun = time.perf_counter()
    execution = there.submit(request)
    found: Round = {"submit_s": time.perf_counter() - begun, "request_mb": len(request) / _MB}
    run = Run(there, f"/jobs/{JOB}/executions/{execution}")
    found["early_a_second"] = run.rate(plan.early, plan.window, seconds=_WINDOW_S)
    found |= asked(run, plan)
    others = percentiles([there.start_ms(job=OTHER_JOB) for _ in range(plan.looks // 4)])
    found |= {f"other_{what}": value for what, value in others.items()}
    peaks = [peak_mb(there.pids[0])]
    if not plan.whole:
        found["settled"] = shorten(there, run, plan)
    # a server that has just begun is not yet what it is
    seconds = plan.tasks if plan.whole else _WINDOW_S
    found["late_a_second"] = run.rate(plan.late, plan.window, seconds=seconds)
    found |= _end(there, run, plan)
    found["peak_mb"] = max(*peaks, peak_mb(there.pids[0]))
    size = sum(file.stat().st_size for file in there.server.data.glob("tidemill.db*"))
    found["database_mb"] = size / _MB
    return found


def shorten(there: Ground, run: Run, plan: Plan) -> int:
    """Stop the server, settle what lies before the last window, and start it again; how many tasks that was."""
    (node,) = run.get("/nodes")
    left = plan.late - plan.window - run.succeeded()
    there.server.stop()
    count = settle(there.server.data, node["id"], left)
    there.server.start()
    there.http.base_url = f"{there.server.url}/v0"
    return count


def _end(there: Ground, run: Run, plan: Plan) -> Round:
    """To its end; cancelled where it would take too long."""
    if plan.whole:
        until(lambda: run.get(run.path)["status"] == "succeeded", seconds=plan.tasks)
        return {}
    cancel_ms = _ms(lambda: there.http.delete(f"{run.path}?force=true").raise_for_status())
    begun = time.perf_counter()
    until(lambda: run.get(run.path)["status"] == "cancelled", seconds=120)
    return {"cancel_ms": cancel_ms, "cancelled_after_ms": (time.perf_counter() - begun) * 1000}


def how(plan: Plan) -> str:
    """In words, for the page."""
    told = f"one execution of {plan.tasks:,} tasks, the rates over {plan.window:,} of them"
    if plan.whole:
        return f"{told}, all of them run"
    return (
        f"{told}; between both windows the server was stopped, and its scheduler and ledger settled those in between "
        "as succeeded, by the fake engine, which runs nothing; cancelled after the last window"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=TASKS, help="[1,000,000]")
    parser.add_argument("--looks", type=int, default=LOOKS, help="at each answer; a fourth as many other starts [200]")
    parser.add_argument("--whole", action="store_true", help="run every task: an hour and more")
    parser.add_argument("--results", type=Path, default=RESULTS, help="[docs/benchmarks.json]")
    given = parser.parse_args()
    plan = Plan(tasks=given.tasks, looks=given.looks, whole=given.whole)
    with ground.running() as there:
        found = measured(there, plan)
        there.server.stop()
        print(there.server.cli("doctor", "--ledger").splitlines()[-1])
    keep(given.results, "million", taken(how(plan), [found]))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
