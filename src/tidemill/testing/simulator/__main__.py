"""``python -m tidemill.testing.simulator SEEDS [FIRST [triggers]]``: plays seeds, says what broke and what happened."""

import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from tidemill.testing.simulator.run import Report, Simulator


@dataclass(slots=True)
class Tally:
    """What came of many seeds."""

    seeds: int = 0
    broken: list[int] = field(default_factory=list)
    executions: int = 0
    attempts: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.executions += report.executions
        self.attempts += report.attempts
        self.passed += report.passed
        self.deaths += report.deaths
        self.faults += report.faults
        if report.broken:
            self.broken.append(report.seed)

    def __str__(self) -> str:
        spared = sorted(point for point in self.passed if not self.deaths[point])
        lines = [
            f"{self.seeds} seeds, {self.executions} executions asked for, {self.attempts} attempts started",
            f"{self.deaths.total()} deaths of servers at {len(self.deaths)} of {len(self.passed)} points",
            *([f"no server died {', '.join(spared)}"] if spared else []),
            "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())),
            f"seeds that broke a promise: {', '.join(map(str, self.broken)) or 'none'}",
        ]
        return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """0 when no promise was broken."""
    seeds = int(arguments[0]) if arguments else 100
    first = int(arguments[1]) if len(arguments) > 1 else 1
    triggers = "triggers" in arguments[2:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    tally, began = Tally(), time.monotonic()
    with TemporaryDirectory() as folder:
        simulator = Simulator(Path(folder))
        for seed in range(first, first + seeds):
            report = simulator.run(seed, triggers=triggers)
            tally.add(report)
            if report.broken:
                sys.stdout.write(f"{report}\n\n")
        simulator.close()
    took_s = time.monotonic() - began
    sys.stdout.write(f"{tally}\n{took_s:.0f} s, {seeds / took_s:.1f} seeds a second\n")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
