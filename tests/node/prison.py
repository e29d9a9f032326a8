"""A node with something worth stealing: secrets in its data directory, a victim that runs, and a way in."""

import os
import platform
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import tidemill
from tests.node.rig import Reader, Rig, until
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import BlobRef, Outcome, TaskLease
from tidemill.node.channel.frames import Frame, encode
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import look
from tidemill.node.launcher import LAUNCHER, launcher_path
from tidemill.node.settings import NodeSettings

NOBODY: Final = 65534
# the interpreter of the system can be reached by anybody, that of the tests perhaps not
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
_NUMBERS: Final = {
    "x86_64": {"PTRACE": 101, "MOUNT": 165, "UMOUNT": 166, "CHROOT": 161, "INIT_MODULE": 175, "SYSLOG": 103}
    | {"CLOCK_SETTIME": 227, "SETHOSTNAME": 170},
    "aarch64": {"PTRACE": 117, "MOUNT": 40, "UMOUNT": 39, "CHROOT": 51, "INIT_MODULE": 105, "SYSLOG": 116}
    | {"CLOCK_SETTIME": 112, "SETHOSTNAME": 161},
}


class Node(Enum):
    """Who the node is, and so what it can keep its tasks from."""

    ROOT = "root, with a user for each task"
    ROOT_ALONE = "root, whose tasks are root too"
    CONTAINED = "root of a container, with a user for each task, that may not mount"
    ORDINARY = "an ordinary user"


PRISONS: Final = [*((kind, Level.PROCESS) for kind in Node), (Node.ROOT, Level.SANDBOX), (Node.ORDINARY, Level.SANDBOX)]
"""Nodes of every kind, and at both levels those two that differ there."""


class Prison:
    """Runs scripts as tasks beside a victim."""

    def __init__(self, rig: Rig, engine: LocalEngine, shared: Path) -> None:
        """``shared`` is a folder that every task may write to."""
        self.rig = rig
        self.engine = engine
        self.shared = shared
        self.reader = Reader(engine)
        self._index = 0
        other = rig.image("sh", "-c", "true", files={"other": "another image"})
        self._run(rig.lease(other))
        # in a file of its own, and whole when it is there
        report = f"echo $TIDEMILL_WORK_DIR > {shared}/new; mv {shared}/new {shared}/work; exec sleep 600"
        self.victim = rig.lease(rig.shell(report), self._next(), environment={"SECRET": "known"}, timeout_s=600)
        rig.launch(engine, self.victim)
        until((shared / "work").exists)
        pid = until(lambda: pid_of("sleep", "600", below=rig.node_pid))
        cgroups = [str(path) for path in map(Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")) if path.is_dir()]
        self.variables = {
            "PYTHON": str(SYSTEM_PYTHON),
            "DATA": str(rig.data),
            "OTHER_IMAGE": str(rig.data / "images" / other.digest),
            "VICTIM_PID": str(pid),
            "VICTIM_WORK": (shared / "work").read_text().strip(),
            "NODE_PID": str(rig.node_pid),
            "SERVER_PID": str(os.getpid()),
            "SETUID_ID": str(shared / "setuid-id"),
            "SERVICE": str(rig.root / "service"),
            "CGROUP": next(iter(cgroups), "/sys"),
            "QUESTION": encode(Frame({"call": "inventory"})).hex(),
            **{name: str(number) for name, number in _NUMBERS[platform.machine()].items()},
        }
        self._trials = rig.image("sh", "-c", 'eval "$TRIAL"', files={"program": "#!/bin/sh\n"})

    def try_inside(self, script: str, **changes: Any) -> Outcome:
        """Run ``script`` as a task of its own, with ``changes`` of its lease; how it ended."""
        environment = {**self.variables, "TRIAL": script}
        return self._run(self.rig.lease(self._trials, self._next(), environment=environment, **changes))

    def try_outside(self, script: str, folder: Path, *, nobody: bool) -> int:
        """Run ``script`` as an ordinary process of ours, or of user nobody, held back by nothing; its exit code."""
        (folder / "program").write_text("#!/bin/sh\n")
        words = ("sh", "-c", script)
        done = subprocess.run(
            # a mount that succeeds is nobody else's, and ends with it
            ["unshare", "--mount", "--propagation", "private", *(as_nobody(*words) if nobody else words)],
            env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", **self.variables},
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode

    def launch(self, image: BlobRef, **changes: Any) -> TaskLease:
        """Start a task of ``image``; ``changes`` to its lease."""
        lease = self.rig.lease(image, self._next(), **changes)
        self.rig.launch(self.engine, lease)
        return lease

    def run(self, script: str, **changes: Any) -> Outcome:
        """How a task that runs ``script`` ended."""
        return self.reader.outcome(self.launch(self.rig.shell(script), **changes).attempt)

    def alive(self) -> set[int]:
        """All processes of attempts, by their numbers in our own list."""
        return {each.pid for each in psutil.Process(self.rig.node_pid).children(recursive=True)}

    def _run(self, lease: TaskLease) -> Outcome:
        self.rig.launch(self.engine, lease)
        return self.reader.outcome(lease.attempt)

    def _next(self) -> int:
        self._index += 1
        return self._index


def pid_of(*words: str, below: int) -> int | None:
    """The process with these ``words`` that descends from process ``below``, by its number in our own list."""
    for each in psutil.Process(below).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if each.cmdline() == [*words]:
                return int(each.pid)
    return None


# in front of the words of a node that is not started by its engine
_PREFIXES: Final = {
    Node.ORDINARY: ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"),
    Node.CONTAINED: ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--"),
}


@contextmanager
def prison_at(kind: Node, level: Level) -> Iterator[Prison]:
    """``prison``, or a skip that says why there can be none here."""
    if os.geteuid() != 0:
        pytest.skip("only root can start nodes of several users")
    if why := why_not(kind) or why_not_at(level):
        pytest.skip(why)
    with prison(kind, level) as found:
        yield found


@contextmanager
def prison(kind: Node, level: Level) -> Iterator[Prison]:
    """One of its own, with a node of this kind that works at ``level``."""
    # not among the folders of the tests, through which only their user may pass
    root = Path(tempfile.mkdtemp(prefix="tidemill-prison-", dir="/tmp"))
    rig = Rig(root)
    shared = root / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    setuid = Path(shutil.copy(shutil.which("id") or "/usr/bin/id", shared / "setuid-id"))
    setuid.chmod(0o4755)
    count = 0 if kind is Node.ROOT_ALONE else rig.settings.task_uid_count
    rig.settings = replace(
        rig.settings,
        task_uid_count=count,
        task_read_paths=(),
        task_write_paths=(str(shared),),
        slots=4,
        isolation=level,
    )
    by_hand = _start_as(rig, kind) if kind in _PREFIXES else None
    try:
        engine = rig.engine()
        engine.nodes()
        for name in ("keyring.json", "tidemill.db"):
            (rig.data / name).write_text("secret")
            (rig.data / name).chmod(0o600)
            shutil.chown(rig.data / name, rig.data.stat().st_uid)
        with socket.socket(socket.AF_UNIX) as service:
            service.bind(str(root / "service"))
            service.listen()
            (root / "service").chmod(0o600)
            shutil.chown(root / "service", rig.data.stat().st_uid)
            yield Prison(rig, engine, shared)
    finally:
        rig.close()
        if by_hand is not None:
            by_hand.wait(20)
        shutil.rmtree(root, ignore_errors=True)


def as_nobody(*words: str) -> list[str]:
    return [*_PREFIXES[Node.ORDINARY], *words]


def nobodys_environment() -> dict[str, str]:
    """For an interpreter that anybody can run, with what the tests import."""
    folders = [str(Path(tidemill.__file__).parents[1]), sysconfig.get_path("purelib")]
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1"}


def why_not(kind: Node) -> str:
    """Why no node of this kind can be tried here; "" when one can."""
    if kind not in _PREFIXES:
        return ""
    with suppress(OSError):
        words = as_nobody(str(SYSTEM_PYTHON), "-c", "import tidemill.node.process")
        done = subprocess.run(words, env=nobodys_environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"user {NOBODY} cannot import the node: {done.stderr.strip()[-200:]}"
        return "" if os.access(LAUNCHER, os.X_OK) else "the launcher is not built"
    return "setpriv does not run here"


def why_not_at(level: Level) -> str:
    """Why no task can be tried at this level here; "" when one can."""
    settings = NodeSettings(data_dir=Path("/nowhere"), memory_mb=64, slots=1, isolation=level)
    try:
        look(settings, launcher_path())
    except IsolationError as error:
        return str(error)
    return ""


def _start_as(rig: Rig, kind: Node) -> subprocess.Popen[bytes]:
    for path in (rig.root, *rig.root.rglob("*")) if kind is Node.ORDINARY else ():
        if path.stat().st_mode & 0o4000 == 0:
            shutil.chown(path, NOBODY, NOBODY)
    return start_behind(rig, _PREFIXES[kind])


def start_behind(rig: Rig, prefix: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the node of ``rig`` with ``prefix`` in front of its words; it answers calls by then."""
    ready, theirs = os.pipe()
    with os.fdopen(ready, "rb") as said:
        process = subprocess.Popen(
            [*prefix, str(SYSTEM_PYTHON), "-m", "tidemill.node", rig.settings.to_json(), str(theirs)],
            env=nobodys_environment(),
            pass_fds=[theirs],
            cwd="/",
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        line = said.readline()
    assert line == b"ready\n", line
    return process
