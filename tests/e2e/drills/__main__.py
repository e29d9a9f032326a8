"""make drills: all of them at length but the soak, which has to be named (`python -m tests.e2e.drills [NAME]`).

KILLS, TASKS, CUTS, FULL, SECONDS and MINUTES in the environment change how many; SEED repeats a run's choices.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.e2e.drills import freeze, full, kills, power, soak
from tests.e2e.drills.ground import DrillError

# by `make soak`: half an hour
NAMED = {"soak"}


def number(name: str, default: int) -> int:
    return int(os.environ.get(name, str(default)))


def drills(chance: random.Random) -> Mapping[str, Callable[[Path], str]]:
    tasks, cuts = number("TASKS", 2000), number("CUTS", 200)
    return {
        "kills": lambda folder: kills.drill(folder, kills=number("KILLS", 200), tasks=tasks, chance=chance),
        "freeze": lambda folder: freeze.drill(folder, seconds=number("SECONDS", 60), tasks=tasks),
        "power": lambda folder: power.drill(
            folder, freezes=max(1, cuts // 20), cuts=20, acknowledged=50, chance=chance
        ),
        "soak": lambda folder: soak.drill(folder, seconds=60 * number("MINUTES", 30), chance=chance),
        "full": lambda folder: (
            full.why_not() or full.drill(folder, rounds=number("FULL", 50), tasks=tasks, seconds=3, chance=chance)
        ),
    }


def main() -> None:
    seed = number("SEED", random.SystemRandom().randrange(10**6))
    print(f"SEED={seed}")
    wanted = sys.argv[1:]
    failed = False
    for name, drill in drills(random.Random(seed)).items():
        if name not in wanted and (wanted or name in NAMED):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tidemill-drill-") as folder:
            Path(folder).chmod(0o755)
            try:
                said = drill(Path(folder))
            except DrillError as error:
                said, failed = f"FAILED: {error}", True
        print(f"{name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
