"""How the process of a build ends: what it leaves, what it says, and its exit codes."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

CANNOT_BUILD: Final = 1
CANNOT_NOW: Final = 75  # EX_TEMPFAIL of sysexits.h
TERMINATED: Final = 128 + signal.SIGTERM


def write_whole(path: Path, text: str) -> None:
    """Under a temporary name first. Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def fail(why: str, code: int) -> int:
    """Say why, as the last line of stderr, and return ``code``."""
    sys.stdout.flush()
    # one line, whatever the error's text holds: the last line is what the job's event says
    sys.stderr.write(f"error: {' '.join(why.split())}\n")
    return code


def terminate(_number: int, _frame: FrameType | None) -> None:
    """The handler of SIGTERM."""
    raise SystemExit(TERMINATED)
