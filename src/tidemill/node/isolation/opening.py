"""From a node's settings to its isolation, or to the reason why there is none."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation import reach, uids
from tidemill.node.isolation.level import IsolationError, Level, choose
from tidemill.node.isolation.process import Ground, ProcessIsolation
from tidemill.node.isolation.protections import Protections, probe
from tidemill.node.isolation.uids import UidPool
from tidemill.node.settings import NodeSettings
from tidemill.node.spawn import Spawner

USERS_MIN: Final = 2

_NOT_YET: Final = "this version has no such level"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at this machine found: the level to work at, and what level ``process`` can do."""

    level: Level
    protections: Protections
    problems: Mapping[Level, str]

    def has_users(self, settings: NodeSettings) -> bool:
        """Whether each task runs as a user of its own."""
        return self.protections.own_uid and settings.task_uid_count > 0


def look(settings: NodeSettings, launcher: Path | None) -> Found:
    """Probe this machine, some milliseconds. Raises IsolationError when it cannot do what the settings ask for."""
    try:
        other = settings.task_uid_first if os.geteuid() == 0 else None
        protections = probe(launcher, other)
    except (OSError, subprocess.SubprocessError) as error:
        raise IsolationError(f"the launcher does not run on this machine: {error}") from error
    problems = {level: protections.problem if level is Level.PROCESS else _NOT_YET for level in Level}
    found = Found(
        level=choose(settings.isolation, settings.minimum_isolation, problems),
        protections=protections,
        problems=problems,
    )
    for path in settings.task_write_paths:
        # what there is to read may come later; a task that may write nowhere has been promised too much
        if not Path(path).exists():
            raise IsolationError(f"task_write_paths has {path}, which does not exist: make it, or leave it out")
    if found.has_users(settings):
        _check_users(settings, protections)
    return found


def _check_users(settings: NodeSettings, protections: Protections) -> None:
    if settings.task_uid_count < USERS_MIN:
        raise IsolationError("task_uid_count is 1, but builds take one user and tasks another: make it 2 or more, or 0")
    if protections.view:
        # the launcher shows what is hidden
        return
    if (found := _ground(settings).closed()) is not None:
        place, closed = found
        raise IsolationError(
            f"tasks run as users of their own, which cannot reach {place}: let them through (chmod o+x {closed}), "
            "choose another place, or set task_uid_count to 0 to run them as the server's user"
        )


def _ground(settings: NodeSettings) -> Ground:
    return Ground(
        data_dir=settings.data_dir,
        programs=(Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2]),
        read=tuple(map(Path, settings.task_read_paths)),
        write=tuple(map(Path, settings.task_write_paths)),
    )


def open_isolation(settings: NodeSettings, found: Found, spawner: Spawner) -> ProcessIsolation:
    """The isolation of a node that may run. Hides processes from each other where it can: call it before any thread.

    Raises IsolationError.
    """
    pool: UidPool | None = None
    if found.has_users(settings):
        try:
            pool = uids.open_pool(settings.task_uid_first, settings.task_uid_count)
        except OSError as error:
            raise IsolationError(f"tasks cannot run as users of their own: {error.strerror}") from error
    return ProcessIsolation(
        spawner, found.protections, _ground(settings), pool, hides_processes=_hide_processes(found, pool)
    )


def _hide_processes(found: Found, pool: UidPool | None) -> bool:
    if pool is None or not found.protections.view:
        return False
    try:
        reach.hide_processes()
    except OSError as error:
        log.warning("tasks see which processes this machine runs: /proc cannot be mounted anew: %s", error)
        return False
    return True
