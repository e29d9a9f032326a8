"""make bench: the table of docs/benchmarks.md, measured and written (`python -m bench.run [--only NAME...]`).

Everything is measured through the public API of a real server, with its node, at level process. Each part is kept in
the results as soon as it was measured, and the page is written anew: a part can be measured again by itself.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import ground, idle, peering, report, small, starts, tasks
from bench.ground import Ground
from bench.results import RESULTS, Round, Section, load, machine, save


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much is measured."""

    tasks: int
    rounds: int
    starts: int
    executions: int
    seconds: float
    peer_tasks: int


Measured = tuple[list[Round], dict[str, str]]
"""The rounds, and words by what they are on; where there is nothing more to say there are none."""


@dataclass(frozen=True, slots=True)
class Part:
    """``measure`` makes the rounds; ``how`` says in words what they are."""

    measure: Callable[[Ground, Counts], Measured]
    how: Callable[[Counts], str]


PARTS: Final[Mapping[str, Part]] = {
    "starts": Part(
        lambda ground, counts: (starts.rounds(ground, starts=counts.starts, count=counts.rounds), {}),
        lambda counts: f"{counts.rounds} rounds of {counts.starts:,} starts, 50 ms apart",
    ),
    "idle": Part(
        lambda ground, counts: (idle.rounds(ground, seconds=counts.seconds, count=counts.rounds), {}),
        lambda counts: f"{counts.rounds} rounds of {counts.seconds:.0f} s; bare: a FastAPI server with one route",
    ),
    "tasks": Part(
        lambda ground, counts: (tasks.rounds(ground, tasks=counts.tasks, count=counts.rounds), {}),
        lambda counts: f"{counts.rounds} rounds of {counts.tasks:,} tasks, the three in turn",
    ),
    "small": Part(
        lambda ground, counts: (small.rounds(ground, executions=counts.executions, count=counts.rounds), {}),
        lambda counts: f"{counts.rounds} rounds of {counts.executions:,} executions, {small.CLIENTS} connections",
    ),
    "peers": Part(
        lambda ground, counts: peering.rounds(ground, tasks=counts.peer_tasks, count=counts.rounds),
        lambda counts: f"{counts.rounds} rounds of {counts.peer_tasks:,} tasks",
    ),
}


def taken(how: str, rounds: list[Round], words: Mapping[str, str] | None = None) -> Section:
    """A section as of today."""
    today = datetime.now(UTC).date().isoformat()  # noqa: TID251 - the day on which it was measured
    return Section(taken=today, how=how, rounds=rounds, words=dict(words or {}))


def keep(file: Path, name: str, section: Section) -> None:
    """Put it into the results, and write the page."""
    results = load(file)
    results["machine"] = machine()
    results["sections"][name] = section
    save(file, results)
    report.write(results, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--tasks", type=int, default=10_000, help="of an execution [10,000]")
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--starts", type=int, default=200, help="a round [200]")
    parser.add_argument("--executions", type=int, default=1_000, help="of one task each, a round [1,000]")
    parser.add_argument("--seconds", type=float, default=30, help="of idleness, a round [30]")
    parser.add_argument("--peer-tasks", type=int, default=2_000, help="of each peer, a round [2,000]")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="page and chart are beside it [docs/benchmarks.json]"
    )
    given = parser.parse_args()
    counts = Counts(
        tasks=given.tasks,
        rounds=given.rounds,
        starts=given.starts,
        executions=given.executions,
        seconds=given.seconds,
        peer_tasks=given.peer_tasks,
    )
    with ground.running() as there:
        for name, part in PARTS.items():
            if name in given.only:
                section = taken(part.how(counts), *part.measure(there, counts))
                keep(given.results, name, section)
                print(name, *section["rounds"], sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
