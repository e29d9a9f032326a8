"""Killing is sure: whatever an attempt has done to live on, nothing of it is alive in time, and nothing of it is left.

Everything is found by listing: processes by user, environment and cgroup, whatever their parents and sessions are.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.node.left import Traces, in_groups, listens, mounts, names
from tests.node.rig import NODE, Reader, Rig, until
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import OutcomeKind, TaskLease
from tidemill.node.workdir import TMPFS_ROOTS, tmpfs_name

GRACE_S: Final = 0.3
IN_TIME_S: Final = 10.0
"""From the cancel on. It is grace + 2 s that is promised: a machine that runs other tests meanwhile gets more, but less
than what a chain of forks lives by itself."""
TIMEOUT_S: Final = 2.0
USERS: Final = 64
# in a loop of their own, whatever comes; $READY is what a script makes when all of it is there
FOR_EVER: Final = "trap '' TERM HUP INT; : > $READY; while :; do sleep 1; done"
STUBBORN: Final[Mapping[str, str]] = {
    "ignores SIGTERM": FOR_EVER,
    "a daemon of two forks in a session of its own": f"setsid sh -c \"(sh -c '{FOR_EVER}' &)\" & wait; sleep 600",
    "a daemon without its environment": (
        "setsid env -i READY=$READY PATH=$PATH sh -c \"trap '' TERM; : > \\$READY; while :; do sleep 1; done\" & "
        "trap '' TERM; while :; do sleep 1; done"
    ),
    "is stopped, and so is its child": "(sh -c 'kill -STOP $$; sleep 600' &); : > $READY; kill -STOP $$; sleep 600",
    "stopped, and deaf to SIGTERM": "trap '' TERM; : > $READY; while :; do kill -STOP $$; done",
    "a grandchild holds its output open": f'(setsid sh -c "{FOR_EVER.replace("$", chr(92) + "$")}" &); sleep 600',
    "a new child for each that is killed": (
        "trap '' TERM; child() { trap '' TERM; : > $READY; sleep 600; }; "
        "while :; do for i in 1 2 3; do child & done; wait; done"
    ),
}
# some dozens of processes at most, each alive for a moment, all for no longer than 15 s: a failing test harms nobody
CHAINS: Final = (
    "import os, sys, time\n"
    "end = time.monotonic() + 15\n"
    "open(os.environ['READY'], 'w').close()\n"
    "for _ in range(24):\n"
    "    if os.fork() == 0:\n"
    "        while time.monotonic() < end:\n"
    "            if os.fork():\n"
    "                os._exit(0)\n"
    "        os._exit(0)\n"
    "time.sleep(600)\n"
)


@dataclass(frozen=True, slots=True)
class Way:
    """How a node limits and separates its attempts."""

    changes: Mapping[str, object]
    root: bool = False


WAYS: Final = {
    "groups and users": Way({}, root=True),
    "groups, one user": Way({"task_uid_count": 0}),
    "users, no groups": Way({"limits": "none"}, root=True),
    "neither": Way({"limits": "none", "task_uid_count": 0}),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and what its attempts are known by."""

    rig: Rig
    engine: LocalEngine
    traces: Traces

    def lease(self, script: str, index: int, **changes: Any) -> TaskLease:
        environment = {"LEFT": self.left, "READY": str(self.ready(index))}
        return self.rig.lease(
            self.rig.shell(script), index, memory_mb=64, grace_s=GRACE_S, environment=environment, **changes
        )

    @property
    def left(self) -> str:
        """The name of files that an attempt leaves."""
        return f"left-{os.getpid()}-{self.rig.root.name}"

    def ready(self, index: int) -> Path:
        return self.rig.root / f"ready-{index}"

    def alive(self) -> dict[int, str]:
        found = self.traces.processes()
        return found | {
            pid: "group" for pid in in_groups(self.rig) if pid not in found and Path(f"/proc/{pid}").exists()
        }

    def until_nothing_is_alive(self) -> None:
        """In the time that is promised; it says what lives on."""
        seen: list[dict[int, str]] = []

        def none_left() -> bool:
            seen[:] = [self.alive()]
            return not seen[0]

        try:
            until(none_left, IN_TIME_S)
        except AssertionError:
            raise AssertionError(f"alive after {IN_TIME_S} s: {seen[0]}") from None


def placed(rig: Rig, way: Way) -> Place:
    if way.root and os.geteuid() != 0:
        pytest.skip("only a node of root has users for its tasks")
    first = 1_000_000 + os.getpid() % 10_000 * USERS
    engine = rig.engine(**({"task_uid_first": first, "task_uid_count": USERS, "slots": 16} | {**way.changes}))
    engine.nodes()
    uids = range(first, first + USERS) if way.root else range(0)
    return Place(rig, engine, Traces(f"{rig.root}/ready-", uids))


@pytest.fixture(params=WAYS.values(), ids=[*WAYS])
def place(rig: Rig, request: pytest.FixtureRequest) -> Place:
    return placed(rig, request.param)


def test_nothing_of_what_is_cancelled_is_alive_in_time(place: Place) -> None:
    leases = [place.lease(script, index) for index, script in enumerate(STUBBORN.values())]
    place.rig.launch(place.engine, *leases)
    for index in range(len(leases)):
        until(place.ready(index).exists)
    assert len(place.alive()) >= len(leases)
    place.engine.cancel(NODE, [lease.attempt for lease in leases], GRACE_S, place.rig.term)
    place.until_nothing_is_alive()
    reader = Reader(place.engine)
    assert {reader.outcome(lease.attempt).kind for lease in leases} == {OutcomeKind.CANCELLED}


def test_nothing_of_what_runs_out_of_time_is_alive_in_time(place: Place) -> None:
    scripts = [*STUBBORN.values(), chains(place.rig)]
    leases = [place.lease(script, index, timeout_s=TIMEOUT_S) for index, script in enumerate(scripts)]
    place.rig.launch(place.engine, *leases)
    reader = Reader(place.engine)
    for index in range(len(leases)):
        until(place.ready(index).exists)
    outcomes = [reader.outcome(lease.attempt) for lease in leases]
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.TIMED_OUT}
    assert place.alive() == {}, "an end was told before all had ended"


def test_what_forks_without_end_is_alive_no_longer_than_others(place: Place) -> None:
    lease = place.lease(chains(place.rig), 0)
    place.rig.launch(place.engine, lease)
    until(place.ready(0).exists)
    place.engine.cancel(NODE, [lease.attempt], GRACE_S, place.rig.term)
    place.until_nothing_is_alive()
    assert Reader(place.engine).outcome(lease.attempt).kind is OutcomeKind.CANCELLED


def chains(rig: Rig) -> str:
    program = rig.root / "chains.py"
    program.write_text(CHAINS)
    program.chmod(0o644)
    return f"trap '' TERM; {sys.executable} -S {program}"


LEAVES: Final = (
    "import os, socket, sys, time\n"
    "listener = socket.create_server(('127.0.0.1', 0))\n"
    "def tries(act):\n"
    "    try:\n"
    "        act()\n"
    "    except OSError:\n"
    "        pass\n"
    "work = os.environ['TIDEMILL_WORK_DIR']\n"
    "tries(lambda: open(work + '/left', 'w').close())\n"
    "tries(lambda: os.mkdir(work + '/closed', 0))\n"
    "tries(lambda: open('/dev/shm/' + os.environ['LEFT'], 'w').close())\n"
    "tries(lambda: open('/tmp/' + os.environ['LEFT'], 'w').close())\n"
    "for line in open('/proc/self/cgroup'):\n"
    "    _, controllers, path = line.strip().split(':', 2)\n"
    "    folder = '/sys/fs/cgroup/' + controllers.removeprefix('name=') + path\n"
    "    tries(lambda: os.mkdir(folder + '/left'))\n"
    "import ctypes\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.unshare(0x20000)\n"
    "libc.mount(b'left', work.encode(), b'tmpfs', 0, None)\n"
    "said = os.environ['READY']\n"
    "open(said + '.new', 'w').write(str(listener.getsockname()[1]))\n"
    "os.rename(said + '.new', said)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "time.sleep(600)\n"
)


def test_neither_port_nor_mount_nor_group_nor_file_is_left(place: Place) -> None:
    program = place.rig.root / "leaves.py"
    program.write_text(LEAVES)
    program.chmod(0o644)
    lease = place.lease(f"exec {sys.executable} -S {program}", 0)
    before, of_the_node = mounts(os.getpid()), mounts(place.rig.node_pid)
    place.rig.launch(place.engine, lease)
    port = int(until(lambda: place.ready(0).exists() and place.ready(0).read_text()))
    assert listens(port)
    place.engine.cancel(NODE, [lease.attempt], GRACE_S, place.rig.term)
    place.until_nothing_is_alive()
    assert Reader(place.engine).outcome(lease.attempt).kind is OutcomeKind.CANCELLED
    assert not listens(port)
    assert (mounts(os.getpid()), mounts(place.rig.node_pid)) == (before, of_the_node)
    until(lambda: work_directories(place.rig) == [])
    assert not Path("/tmp", place.left).exists()
    if place.traces.uids:
        until(lambda: names(Path("/dev/shm"), place.traces.uids.__contains__) == [])
    else:
        # docs/isolation.md, Not yet
        Path("/dev/shm", place.left).unlink(missing_ok=True)
    assert in_groups(place.rig) == []


def work_directories(rig: Rig) -> list[str]:
    """Private directories of attempts that there are."""
    roots = [*(root / tmpfs_name(rig.data) for root in TMPFS_ROOTS), rig.data / "work", rig.data / "node" / "work"]
    return [name for root in roots if root.is_dir() for name in names(root, lambda _uid: True)]
