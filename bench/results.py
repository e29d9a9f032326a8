"""What was measured, kept as it was measured (docs/benchmarks.json): a part can be measured again by itself."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, TypedDict

import psutil

Round = dict[str, float]
"""Numbers by what they are of, with the unit in the name; what a round has not measured is not in it."""

RESULTS: Final = Path(__file__).parents[1] / "docs" / "benchmarks.json"


class Section(TypedDict):
    """One thing that was measured: when, how (in words, for the page), and the numbers of each round."""

    taken: str
    how: str
    rounds: list[Round]
    words: dict[str, str]


class Results(TypedDict):
    """``machine`` is the one of the last section that was measured."""

    machine: dict[str, str]
    sections: dict[str, Section]


def load(file: Path) -> Results:
    """What ``file`` holds; nothing measured where there is none."""
    if not file.exists():
        return Results(machine={}, sections={})
    found: Results = json.loads(file.read_text())
    return found


def save(file: Path, results: Results) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def machine() -> dict[str, str]:
    """What the numbers are of, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def middle(rounds: Sequence[Mapping[str, float]], name: str) -> float | None:
    """The median over the rounds that have measured it; None when none has."""
    found = [each[name] for each in rounds if name in each]
    return median(found) if found else None


def ratio(rounds: Sequence[Mapping[str, float]], above: str, below: str) -> float | None:
    """The median of what two numbers of the same round are to each other."""
    found = [each[above] / each[below] for each in rounds if above in each and each.get(below)]
    return median(found) if found else None
