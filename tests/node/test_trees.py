"""Directories that were made to be neither measured nor removed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.node.prison import Node, Prison, as_nobody, nobodys_environment, prison, why_not
from tests.node.rig import until
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.system import leave_no_shared_memory
from tidemill.node.workdir import TMPFS_ROOTS, tmpfs_name

MB = 1 << 20
# each in the private directory of a task, in one that has 16 MB
HIDING: Final = {
    "in a closed directory": "mkdir d; chmod 300 d; dd if=/dev/zero of=d/file bs=64k count=500 2>/dev/null",
    "in a directory that nobody may pass": (
        "mkdir d; exec 9> d/file; chmod 000 d; dd if=/dev/zero bs=64k count=500 >&9 2>/dev/null"
    ),
    "deeper than a path can say": (
        "n=$(printf '%0200d' 0); for i in $(seq 30); do mkdir $n; cd -P ./$n; done; "
        "dd if=/dev/zero of=file bs=64k count=500 2>/dev/null"
    ),
    "in files with nothing in them": "for i in $(seq 50); do mkdir $i; (cd $i; touch $(seq 100)); done",
}
UNWILLING: Final = {
    "a closed directory": "mkdir -p d/e; touch d/e/file; chmod 000 d/e d",
    "deeper than a path can say": "n=$(printf '%0200d' 0); for i in $(seq 30); do mkdir $n; cd -P ./$n; done; : > file",
    "deep and closed": (
        "n=$(printf '%0200d' 0); for i in $(seq 30); do mkdir $n; cd -P ./$n; done; mkdir d; : > d/file; chmod 0 d ."
    ),
}


def left_by(cell: Prison) -> list[Path]:
    """Private directories of attempts that are there, but for the victim's."""
    roots = [*(root / tmpfs_name(cell.rig.data) for root in TMPFS_ROOTS), cell.rig.data / "work"]
    roots.append(cell.rig.data / "node" / "work")
    works = [work for root in roots if root.is_dir() for work in root.iterdir()]
    return [work for work in works if str(work) != cell.variables["VICTIM_WORK"]]


@pytest.fixture(scope="module", params=[Node.ORDINARY, Node.CONTAINED], ids=lambda kind: str(kind.name.lower()))
def cell(request: pytest.FixtureRequest) -> Iterator[Prison]:
    """Of nodes that look after directories, for they may not mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can start nodes of several users")
    if why := why_not(request.param):
        pytest.skip(why)
    with prison(request.param, Level.PROCESS) as found:
        yield found


@pytest.mark.parametrize("way", HIDING)
def test_what_is_hidden_counts_too(cell: Prison, way: str) -> None:
    outcome = cell.try_inside(f"cd $TIDEMILL_WORK_DIR; {HIDING[way]}; sleep 15", disk_mb=16)
    assert (outcome.kind, outcome.signal) == (OutcomeKind.SIGNAL, 9)
    assert "runtime.diskPercent" in outcome.message
    until(lambda: left_by(cell) == [])


@pytest.mark.parametrize("way", UNWILLING)
def test_what_does_not_want_to_be_removed_is(cell: Prison, way: str) -> None:
    assert cell.try_inside(f"cd $TIDEMILL_WORK_DIR; {UNWILLING[way]}").kind is OutcomeKind.SUCCEEDED
    until(lambda: left_by(cell) == [])


def test_many_levels_are_removed_with_few_descriptors() -> None:
    """As an ordinary user, for whom modes count."""
    script = (
        "import os, resource, sys, tempfile; from pathlib import Path; from tidemill.node.trees import remove_tree\n"
        "top = tempfile.mkdtemp(dir='/dev/shm'); here = os.open(top, os.O_RDONLY)\n"
        "for _ in range(3000):\n"
        "    os.mkdir('d', 0o700, dir_fd=here); below = os.open('d', os.O_RDONLY, dir_fd=here)\n"
        "    os.close(os.open('file', os.O_CREAT | os.O_WRONLY, dir_fd=here)); os.chmod(here, 0); os.close(here)\n"
        "    here = below\n"
        "os.close(here); resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
        "sys.exit(not remove_tree(Path(top)) or os.path.lexists(top))\n"
    )
    words = [sys.executable, "-c", script]
    if os.geteuid() == 0:
        if why := why_not(Node.ORDINARY):
            pytest.skip(why)
        words = as_nobody("/usr/bin/python3", "-c", script)
    done = subprocess.run(words, env=nobodys_environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only a node of root has users whose shared memory it removes")
def test_who_makes_and_removes_shared_memory_does_not_keep_others_from_their_end() -> None:
    churn = (
        "import os, time\n"
        "end = time.monotonic() + 20\n"
        "name = f'/dev/shm/tidemill-churn-{os.getpid()}-'\n"
        "while time.monotonic() < end and os.getppid() != 1:\n"
        "    for i in range(8):\n"
        "        os.close(os.open(name + str(i), os.O_CREAT | os.O_WRONLY))\n"
        "    for i in range(8):\n"
        "        os.unlink(name + str(i))\n"
    )
    writer = subprocess.Popen([sys.executable, "-S", "-c", churn])
    uid = 3_100_000_000
    own = Path(f"/dev/shm/tidemill-own-{os.getpid()}")
    try:
        until(lambda: [*Path("/dev/shm").glob(f"tidemill-churn-{writer.pid}-*")])
        for _ in range(1000):
            own.touch()
            os.chown(own, uid, uid)
            leave_no_shared_memory(uid)
            assert not own.exists()
    finally:
        writer.terminate()
        writer.wait()
        for path in (own, *Path("/dev/shm").glob(f"tidemill-churn-{writer.pid}-*")):
            path.unlink(missing_ok=True)
