"""From a node's settings to its isolation, or to the reason why there is none."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation import process, protections, reach, uids
from tidemill.node.isolation.container import making
from tidemill.node.isolation.container import offer as container
from tidemill.node.isolation.container.offer import ContainerOffer
from tidemill.node.isolation.ground import Ground
from tidemill.node.isolation.level import AUTO, IsolationError, Level, choose
from tidemill.node.isolation.protections import Protections
from tidemill.node.isolation.protocol import Isolation, Machine, Offer, Site
from tidemill.node.isolation.sandbox import probe as sandbox
from tidemill.node.isolation.users import Users
from tidemill.node.settings import NodeSettings
from tidemill.node.spawn import Spawner

USERS_MIN: Final = 2

_NOT_YET: Final = "this version has no such level"

# a level that is not here is one that this version has not
_PROBES: Final[Mapping[Level, Callable[[Machine], Offer]]] = {
    Level.SANDBOX: sandbox.probe,
    Level.CONTAINER: container.probe,
    Level.PROCESS: process.probe,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at this machine found: the level to work at, and what each level that mattered has to offer.

    ``problems`` says why a level does not work, "" of one that does and of one that did not matter. ``containers`` is
    what runs images of registries, whatever the level; ``no_dockerfiles`` says why no Dockerfile is built, "" where
    nothing is known to be in the way.
    """

    machine: Machine
    level: Level
    offers: Mapping[Level, Offer]
    problems: Mapping[Level, str]
    containers: ContainerOffer
    no_dockerfiles: str

    @property
    def protections(self) -> Protections:
        return self.machine.protections

    @property
    def has_users(self) -> bool:
        """Whether each task runs as a user of its own."""
        return self.machine.has_users


def look(settings: NodeSettings, launcher: Path | None) -> Found:
    """Probe this machine, some milliseconds. Raises IsolationError when it cannot do what the settings ask for."""
    try:
        other = settings.task_uid_first if os.geteuid() == 0 else None
        has = protections.probe(launcher, other)
    except (OSError, subprocess.SubprocessError) as error:
        raise IsolationError(f"the launcher does not run on this machine: {error}") from error
    machine = Machine(settings=settings, ground=_ground(settings), launcher=launcher, protections=has)
    for path in settings.task_write_paths:
        # what there is to read may come later; a task that may write nowhere has been promised too much
        if not Path(path).exists():
            raise IsolationError(f"task_write_paths has {path}, which does not exist: make it, or leave it out")
    if machine.has_users:
        _check_users(machine)
    offers = _offers(machine)
    problems = {level: _problem(level, offers) for level in Level}
    level = choose(settings.isolation, settings.minimum_isolation, problems)
    probed = offers.get(Level.CONTAINER)
    containers = probed if isinstance(probed, ContainerOffer) else container.guess(machine)
    return Found(
        machine=machine,
        level=level,
        offers=offers,
        problems=problems,
        containers=containers,
        no_dockerfiles=making.what_lacks(machine, containers),
    )


def _offers(machine: Machine) -> dict[Level, Offer]:
    """What the levels have to offer that the settings let in, the strongest first; none behind one that works."""
    wanted = machine.settings.isolation
    offers = dict[Level, Offer]()
    for level, probe in ((level, _PROBES[level]) for level in Level if level in _PROBES):
        if wanted in {AUTO, level}:
            offers[level] = probe(machine)
            if not offers[level].problem:
                break
    return offers


def _problem(level: Level, offers: Mapping[Level, Offer]) -> str:
    if level not in _PROBES:
        return _NOT_YET
    return offers[level].problem if level in offers else ""


def _check_users(machine: Machine) -> None:
    settings = machine.settings
    if settings.task_uid_count < USERS_MIN:
        raise IsolationError("task_uid_count is 1, but builds take one user and tasks another: make it 2 or more, or 0")
    if machine.protections.view:
        # the launcher shows what is hidden
        return
    if (found := machine.ground.closed()) is not None:
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


def own_mounts(found: Found) -> bool:
    """Whether this process may mount what nobody outside sees, from here on. Call it before any thread."""
    if os.geteuid() != 0 or not found.protections.view:
        return False
    try:
        reach.own_mounts()
    except OSError as error:
        log.warning("directories of tasks have no sizes, and tasks see all processes: mounts are refused: %s", error)
        return False
    return True


def open_isolation(found: Found, spawner: Spawner, *, mounts: bool = False) -> Isolation:
    """The isolation of a node that may run; with ``mounts`` (see ``own_mounts``) processes are hidden from each other.

    Raises IsolationError.
    """
    settings = found.machine.settings
    users = Users()
    if found.has_users:
        try:
            pool = uids.open_pool(settings.task_uid_first, settings.task_uid_count)
        except OSError as error:
            raise IsolationError(f"tasks cannot run as users of their own: {error.strerror}") from error
        users = Users(pool, None if found.no_dockerfiles else _numbers(settings))
    hides_processes = mounts and _hide_processes(users)
    site = Site(machine=found.machine, users=users, spawner=spawner, hides_processes=hides_processes)
    isolation = found.offers[found.level].open(site)
    return isolation if found.level is Level.CONTAINER else found.containers.beside(isolation, site)


def _numbers(settings: NodeSettings) -> uids.UidRange | None:
    tasks = uids.reserved(settings.task_uid_first, settings.task_uid_count)
    try:
        return uids.open_range(settings.dockerfile_uid_first, tasks)
    except OSError as error:
        log.warning("no Dockerfile is built: %s", error.strerror)
        return None


def _hide_processes(users: Users) -> bool:
    if not users.own:
        return False
    try:
        reach.hide_processes()
    except OSError as error:
        log.warning("tasks see which processes this machine runs: /proc cannot be mounted anew: %s", error)
        return False
    return True
