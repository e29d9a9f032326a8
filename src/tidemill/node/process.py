"""The node as a process: one a data directory, in its own session, alive longer than its server."""

import fcntl
import hashlib
import logging
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.model.lease import PROTOCOL_VERSION, Outcome, OutcomeKind
from tidemill.node.arguments import ArgumentsServer
from tidemill.node.build.delivery import own_tree
from tidemill.node.calls import Calls, Parts
from tidemill.node.channel.server import ChannelServer
from tidemill.node.discovery import Card, Places, read_card, remove_socket, socket_path, take_lock
from tidemill.node.events import Events
from tidemill.node.holding import OWN_PROCESSES, Holding
from tidemill.node.images import Images
from tidemill.node.interpreters import Interpreters
from tidemill.node.isolation import findings
from tidemill.node.isolation.fencing import open_fence
from tidemill.node.isolation.level import IsolationError
from tidemill.node.isolation.opening import Found, look, open_isolation, own_mounts
from tidemill.node.isolation.protocol import Isolation
from tidemill.node.journal import Ending, Journal, Past, Running, read_journal, remove_results
from tidemill.node.launcher import launcher_path
from tidemill.node.limits import findings as limit_findings
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.keeper import Keeper
from tidemill.node.limits.leftovers import clear, remember, remembered
from tidemill.node.limits.look import FACTS_FILE
from tidemill.node.limits.places import PREFIX, own_places
from tidemill.node.limits.probe import Groups, open_groups, turned_off
from tidemill.node.loop import Loop
from tidemill.node.memory import Watch, used_bytes
from tidemill.node.output.blocks import Blocks
from tidemill.node.output.spool import Spool
from tidemill.node.rooms import Rooms, held
from tidemill.node.run import Tools
from tidemill.node.settings import NodeSettings, default_settings, node_environment
from tidemill.node.spawn import Spawner, boot_id, start_time
from tidemill.node.supervisor import Capacity, Supervisor, Workplace
from tidemill.node.workdir import NOT_EVERYBODYS, TMPFS_ROOTS, WorkRoots, open_work_roots, remove_work_roots
from tidemill.node.worker import Worker

# what only looks whether the lock is free holds it for an instant
LOCK_PATIENCE_S: Final = 2.0
# how long launchers of a predecessor may take to end their trees; they need milliseconds
REAP_PATIENCE_S: Final = 30.0
IDLE_CHECK_S: Final = 1.0
LOCKED: Final = 3
NOT_ISOLATED: Final = 4

_POLL_S: Final = 0.01
_NICE_OF_OUR_SESSION: Final = -10

log = logging.getLogger(__name__)


def command(*, data_dir: Path) -> int:
    """Run the tasks of this machine until a server says stop, or none calls for ten minutes.

    Parameters
    ----------
    data_dir
        The data directory of the server whose tasks these are.
    """
    return run(default_settings(data_dir.absolute()), lambda _problem: None)


def run(settings: NodeSettings, report: Callable[[str], None], company: Sequence[int] = ()) -> int:
    """Be the node of ``settings.data_dir``.

    ``report`` is called once: with "" when calls are answered, else with the reason why there will be none. ``company``
    are processes, as the server that started it, that may be moved to another cgroup with the node (docs/limits.md).
    Returns the exit code: 0, 3 when another node holds the lock, or 4 when attempts cannot be isolated as the settings
    ask for.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.umask(0o077)
    places = Places(settings.data_dir)
    places.make()
    # never closed: it is free when this process is gone, and not a moment before
    if take_lock(places.lock, LOCK_PATIENCE_S) is None:
        report(f"another node holds {places.lock}")
        return LOCKED
    try:
        found = look(settings, launcher_path())
    except IsolationError as error:
        report(str(error))
        return NOT_ISOLATED
    with suppress(OSError):
        os.chdir("/")
    _go_before_tasks()
    # three descriptors a task: the usual soft limit of 1,024 would end at some 340 of them
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        node = _Node(settings, places, found, (os.getpid(), *company))
    except IsolationError as error:
        report(str(error))
        return NOT_ISOLATED
    node.run(report)
    return 0


def _go_before_tasks() -> None:
    """Have our session get some ten times as much of the processors as each session of a task gets, as root may.

    Without groups a tree of hundreds of sessions would leave us too little to kill it in time. Kernels that do not
    share by sessions have no such file.
    """
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE_OF_OUR_SESSION))


class _Node:
    """All parts of a running node."""

    def __init__(self, settings: NodeSettings, places: Places, found: Found, movable: Sequence[int]) -> None:
        self._settings = settings
        self._places = places
        self._loop = loop = Loop()
        self._incarnation = secrets.token_hex(8)
        if (old := read_card(places.card)) is not None:
            remove_socket(settings.data_dir, Path(old.socket))
        alive = _open_alive(places.own / "alive.lock", found)
        past = read_journal(places.own / "journal")
        _kill_left(past)
        self._files = CgroupFiles()
        self._groups = _open_groups(self._files, settings, places, movable)
        endings = _inherit(past, loop.now)
        spawner = Spawner(launcher_path(), alive)
        # before the first thread: the others would keep the old /proc
        mounts = own_mounts(found)
        isolation = open_isolation(found, spawner, mounts=mounts)
        self._fencing = open_fence(settings, isolation.users)
        self._journal = Journal(places.own / "journal", past)
        self._disk = Worker(loop, "disk")
        self._chores = Worker(loop, "chores")
        self._spool = Spool(places.logs, self._incarnation, settings.log_spool_bytes)
        self._blocks = Blocks(loop, self._spool, settings.log_block_bytes, settings.log_block_s)
        self._arguments = ArgumentsServer(loop)
        self._roots = _work_roots(settings, isolation)
        if isolation.users.own:
            # closed for all but builds, which must get there
            places.cache.parent.chmod(0o711)
        own_tree(places.cache, isolation.users.builder)
        images = Images(settings.data_dir / "images", self._chores)
        # the order of construction is the order at the end of a turn: what starts is journaled by the events after it
        self._events = Events(loop, self._journal, self._disk, places.results)
        self._memory = Worker(loop, "memory")
        self._keeper = keeper = Keeper(loop, self._groups, pids=settings.task_pids, cpu_quota=settings.cpu_quota)
        self._tools = tools = Tools(
            loop=loop,
            spawner=spawner,
            isolation=isolation,
            arguments=self._arguments,
            blocks=self._blocks,
            events=self._events,
            memory=Watch(loop, self._memory, used_bytes),
            disk=Watch(loop, self._memory, held),
            rooms=Rooms(self._chores, mounts=mounts),
            keeper=keeper,
            holding=Holding(isolation, self._groups.facts, self._fencing.capabilities),
        )
        place = Workplace(
            roots=self._roots,
            cache=places.cache,
            images=images,
            interpreters=Interpreters(map(Path, (*settings.task_read_paths, *settings.task_write_paths))),
            arguments=self._arguments,
            worker=self._chores,
            variables=node_environment(os.environ),  # noqa: TID251  # what builds are given
            no_roots=found.containers.problem,
        )
        capacity = Capacity(memory_mb=settings.memory_mb, slots=settings.slots)
        self._supervisor = Supervisor(tools, place, capacity)
        remove_results(places.results, [ending.file for ending in endings if ending.file])
        self._events.replay(endings)
        self._supervisor.know_ended([ending.attempt for ending in endings])
        self._calls = Calls(
            Parts(
                settings=settings,
                incarnation=self._incarnation,
                capabilities=isolation.capabilities | self._groups.facts.capabilities | self._fencing.capabilities,
                level=isolation.level,
                protections=findings.state(found, self._fencing)
                + limit_findings.state(self._groups.facts, own_processes=OWN_PROCESSES in isolation.capabilities),
                images=images,
                journal=self._journal,
                events=self._events,
                spool=self._spool,
                supervisor=self._supervisor,
                stop=self._stop,
            )
        )
        self._stopping = False
        self._leaving = False

    def run(self, report: Callable[[str], None]) -> None:
        path = socket_path(self._settings.data_dir)
        self._socket_path = path
        self._channel = channel = ChannelServer(self._loop, path, self._calls.answer)
        channel.on_connections = self._calls.connections
        self._events.on_shown = channel.notice
        self._spool.on_put = channel.notice
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.call_from_thread(lambda: self._stop(True)))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._loop.call_later(IDLE_CHECK_S, self._check_idle)
        self._loop.at_turn_end(self._leave_when_done)
        self._card(path).write(self._places.card)
        log.info("node %s serves %s", self._incarnation, self._settings.data_dir)
        report("")
        self._loop.run()
        self._close()

    def _card(self, path: Path) -> Card:
        return Card(
            pid=os.getpid(),
            incarnation=self._incarnation,
            socket=str(path),
            protocol_version=PROTOCOL_VERSION,
            settings=self._settings.digest(),
        )

    def _stop(self, stop_tasks: bool) -> None:
        """End when nothing runs any more; with ``stop_tasks`` see to that, the second time at once."""
        if stop_tasks:
            self._supervisor.stop_all(at_once=self._stopping)
            self._stopping = True
        self._supervisor.drain()
        self._leaving = True

    def _check_idle(self) -> None:
        self._loop.call_later(IDLE_CHECK_S, self._check_idle)
        if self._supervisor.busy == 0 and self._channel.quiet_s() > self._settings.idle_exit_s:
            log.info("no server has called for %g s, and nothing runs", self._settings.idle_exit_s)
            self._leaving = True

    def _leave_when_done(self) -> None:
        if self._leaving and self._supervisor.busy == 0:
            self._loop.stop()

    def _close(self) -> None:
        self._blocks.flush()
        self._disk.close()
        self._loop.run_posted()
        self._events.close()
        self._channel.close()
        self._arguments.close()
        self._chores.close()
        self._memory.close()
        self._journal.close()
        self._tools.rooms.close()
        remove_work_roots(self._roots)
        self._keeper.let_go()
        self._groups.close(self._files)
        self._fencing.close()
        self._places.card.unlink(missing_ok=True)
        remove_socket(self._settings.data_dir, self._socket_path)
        log.info("node %s has ended", self._incarnation)


def _work_roots(settings: NodeSettings, isolation: Isolation) -> WorkRoots:
    candidates = NOT_EVERYBODYS if isolation.shares_memory else TMPFS_ROOTS
    return open_work_roots(settings.data_dir, candidates, passable=isolation.users.own)


def _open_alive(path: Path, found: Found) -> int:
    """The lock that a node shares with its launchers. Waits until those of the predecessor have ended their trees."""
    # first: a container that was made and not started waits, and holds the lock, for ever
    found.containers.clear(found.machine.settings.data_dir)
    fd = take_lock(path, REAP_PATIENCE_S)
    if fd is None:
        log.error("processes of the node before this one do not end; they may still be alive")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # above what the launcher is given its descriptors as (spawn.py)
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16)
    os.close(fd)
    return high


def _open_groups(files: CgroupFiles, settings: NodeSettings, places: Places, movable: Sequence[int]) -> Groups:
    """The groups that attempts are in, of which those that a predecessor has left are killed and removed first."""
    name = f"{PREFIX}{hashlib.sha256(os.fsencode(settings.data_dir)).hexdigest()[:16]}"
    record = places.own / "groups"
    here = own_places(files)
    clear(files, {f"{place.folder}/{name}" for place in here} | {*remembered(record)}, REAP_PATIENCE_S)
    groups = turned_off() if settings.limits == "none" else open_groups(files, here, name, movable)
    remember(record, groups.folders)
    (places.own / FACTS_FILE).write_text(groups.facts.to_json())
    for control, why in groups.facts.missing.items():
        log.info("no limit of %s by the kernel: %s", control, why.reason)
    return groups


def _kill_left(past: Past) -> None:
    """End what still runs of a predecessor: only where pid, start time and boot say that it is the same process."""
    if past.boot != boot_id():
        return
    left = [running for running in past.running.values() if _is_alive(running)]
    for running in left:
        log.warning("process %d of the node before this one is killed", running.pid)
        with suppress(OSError):
            os.killpg(running.pid, signal.SIGKILL)
    deadline = time.monotonic() + REAP_PATIENCE_S
    while any(_is_alive(running) for running in left) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _is_alive(running: Running) -> bool:
    return running.pid > 0 and start_time(running.pid) == running.start_time


def _inherit(past: Past, now: float) -> list[Ending]:
    """Turn what a predecessor's journal holds into the beginning of this one's: its outcomes, then its losses."""
    endings = list(past.endings.values())
    for attempt, running in past.running.items():
        message = "its node died while it ran"
        outcome = Outcome(kind=OutcomeKind.LOST, message=message, ended_at=now, protections=running.protections)
        endings.append(Ending(attempt, outcome))
    past.boot = boot_id()
    past.running.clear()
    past.endings = dict(enumerate(endings, start=1))
    return endings
