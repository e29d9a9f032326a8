"""The launcher: the small C program that starts, owns and ends the process tree of one attempt."""

import os
from pathlib import Path
from typing import Final

LAUNCHER: Final = Path(__file__).with_name("tidemill-launcher")
SOURCES: Final = Path(__file__).parent


def launcher_path() -> Path | None:
    """Where the launcher is; None when it has not been built. ``python -m tidemill.node.launcher.build`` builds it."""
    return LAUNCHER if os.access(LAUNCHER, os.X_OK) else None
