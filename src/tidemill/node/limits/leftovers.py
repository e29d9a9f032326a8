"""What a node that was killed has left: groups with its name, and perhaps processes in them."""

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.node.limits.cgroup2 import LEAF
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.places import PREFIX
from tidemill.node.limits.tree import kill_listed, remove_tree

_POLL_S: Final = 0.005

log = logging.getLogger(__name__)


def clear(files: CgroupFiles, folders: Iterable[str], patience_s: float) -> list[str]:
    """Kill all groups in ``folders`` and remove them. Blocks until they are gone, for ``patience_s`` at most.

    Returns those that are still there. A folder that does not exist is fine; the leaf that a node was moved to stays.
    """
    left = [child for folder in folders for child in files.children(folder) if not child.endswith(f"/{LEAF}")]
    deadline = time.monotonic() + patience_s
    if left:
        log.warning("%d groups of the node before this one are killed", len(left))
    while left := [group for group in left if not _end(files, group)]:
        if time.monotonic() > deadline:
            log.error("groups of the node before this one do not end: %s", ", ".join(left))
            return left
        time.sleep(_POLL_S)
    return []


def remove_folders(files: CgroupFiles, folders: Sequence[str], patience_s: float) -> None:
    """Clear what a node that was killed has left, and remove its folders: where no node comes after it.

    A folder that something is in, which cannot be killed, stays.
    """
    clear(files, folders, patience_s)
    for folder in folders:
        with suppress(OSError):
            remove_tree(files, folder)


def _end(files: CgroupFiles, group: str) -> bool:
    """Kill all that is in ``group`` and remove it; whether it is gone."""
    with suppress(OSError):
        if files.has(f"{group}/pids.max"):
            files.write(f"{group}/pids.max", "0")
    with suppress(OSError):
        if files.has(f"{group}/cgroup.kill"):
            files.write(f"{group}/cgroup.kill", "1")
    with suppress(OSError):
        kill_listed(files, group)
        return remove_tree(files, group)
    return False


def remember(record: Path, folders: Sequence[str]) -> None:
    """Write down where groups are made now: the next node may be started in other groups of the machine."""
    record.write_text("".join(f"{folder}\n" for folder in folders))


def remembered(record: Path) -> list[str]:
    """The folders of the node before this one; none where that was never said, or not by a node."""
    try:
        lines = record.read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    return [line for line in lines if line.startswith("/") and line.rpartition("/")[2].startswith(PREFIX)]
