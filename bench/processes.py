"""What processes have used, as the kernel counts it for each of them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_NANO: Final = 1e-9
_RESET_PEAK: Final = "5"


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of all children that they have collected, to 10 ms."""
    total = 0
    for pid in pids:
        # the fields after the name, which may hold spaces: utime, stime, cutime and cstime are 14 to 17, from 1
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS_A_SECOND


@dataclass(frozen=True, slots=True)
class Counted:
    """``cpu_s`` of a process without its children; ``waits``: how often its threads went to sleep, to be woken."""

    cpu_s: float
    waits: int


def counted(pid: int) -> Counted:
    """Of a process that lives. CPU time to a microsecond where the kernel counts so, else to 10 ms."""
    cpu, waits = 0.0, 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            cpu += int((thread / "schedstat").read_text().split()[0]) * _NANO
        except FileNotFoundError:
            fields = (thread / "stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
        waits += _number(thread / "status", "voluntary_ctxt_switches:")
    return Counted(cpu, waits)


def peak_mb(pid: int) -> float:
    """The most memory that a process had at once since it began, or since ``forget_peak``."""
    return _number(Path(f"/proc/{pid}/status"), "VmHWM:") / 1024


def forget_peak(pid: int) -> None:
    """From here on ``peak_mb`` is of what comes."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def _number(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
