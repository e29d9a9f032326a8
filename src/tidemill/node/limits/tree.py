"""A group and the groups in it, the same in both versions: made with its limits, killed, removed."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from signal import SIGKILL

from tidemill.node.limits.files import CgroupFiles, processes


def make_group(files: CgroupFiles, folder: str, limit: Callable[[str], None]) -> str:
    """A group that ``limit`` gives its limits, or none; the file that a process joins it by. Raises OSError."""
    files.make(folder)
    try:
        limit(folder)
    except BaseException:
        files.remove(folder)
        raise
    return f"{folder}/cgroup.procs"


def kill_listed(files: CgroupFiles, folder: str) -> None:
    """One SIGKILL to each process in a group and the groups in it."""
    for child in files.children(folder):
        kill_listed(files, child)
    for pid in processes(files, folder):
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


def remove_tree(files: CgroupFiles, folder: str) -> bool:
    """Whether a group and the groups in it are gone: False while a process is in one. Raises OSError."""
    try:
        files.remove(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    else:
        return True
    # for some milliseconds after its last process is gone a group is busy with nothing in it
    children = files.children(folder)
    left = [child for child in children if not remove_tree(files, child)]
    return bool(children) and not left and remove_tree(files, folder)
