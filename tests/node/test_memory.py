"""What an attempt's whole tree uses of memory, and what becomes of it if that is too much, where no kernel counts."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.node.rig import NODE, Reader, Rig, until
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import OutcomeKind
from tidemill.node.loop import Loop
from tidemill.node.memory import LONGEST_S, SHORTEST_S, Known, Watch, pause_s, rest_s, used_bytes
from tidemill.node.worker import Worker

MB = 1 << 20
NOTHING = Known(0, 1 << 40)
# holds what it has filled until it is killed, or until nobody holds its standard input any more
HOLDS = "import sys; x = b'x' * ({mb} << 20); print('ready', flush=True); sys.stdin.read()"


@dataclass
class Tree:
    """A real process that fills memory, and what it has started."""

    pid: int
    write: int
    read: int


@dataclass
class Trees:
    made: list[Tree] = field(default_factory=list)

    def __call__(self, code: str, ready: int = 1) -> Tree:
        stdin, write = os.pipe()
        read, stdout = os.pipe()
        files = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ, file_actions=files, setsid=True)
        os.close(stdin)
        os.close(stdout)
        tree = Tree(pid, write, read)
        self.made.append(tree)
        said = b""
        while said.count(b"ready") < ready:
            said += os.read(read, 100)
        return tree


@pytest.fixture
def trees() -> Iterator[Trees]:
    trees = Trees()
    yield trees
    for tree in trees.made:
        os.close(tree.write)
        os.close(tree.read)
        os.waitpid(tree.pid, 0)


def test_memory_of_a_process_is_what_it_has_filled(trees: Trees) -> None:
    tree = trees(HOLDS.format(mb=50))
    found = used_bytes({tree.pid: NOTHING})
    assert 50 * MB < found[tree.pid] < 70 * MB


def test_memory_that_is_only_asked_for_is_not_used(trees: Trees) -> None:
    tree = trees("import mmap, sys; x = mmap.mmap(-1, 500 << 20); print('ready', flush=True); sys.stdin.read()")
    assert used_bytes({tree.pid: NOTHING})[tree.pid] < 20 * MB


def test_pages_of_files_are_nobodys_memory(trees: Trees, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 * MB)
    code = (
        f"import mmap, sys; f = open({str(big)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ);"
        "n = sum(m[i] for i in range(0, len(m), 4096)); print('ready', flush=True); sys.stdin.read()"
    )
    assert used_bytes({(tree := trees(code)).pid: NOTHING})[tree.pid] < 20 * MB


def test_children_and_grandchildren_count_and_what_they_share_counts_once(trees: Trees) -> None:
    apart = (
        "import subprocess, sys\n"
        f"code = {HOLDS.format(mb=40)!r}\n"
        "for _ in range(2): subprocess.Popen([sys.executable, '-c', code])\n"
        "print('', flush=True); sys.stdin.read()"
    )
    shared = (
        "import gc, os, sys\n"
        "x = b'x' * (60 << 20)\n"
        "gc.disable()\n"
        "for _ in range(3): os.fork()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    two, eight = trees(apart, ready=2), trees(shared, ready=8)
    found = used_bytes({two.pid: NOTHING, eight.pid: NOTHING})
    assert 80 * MB < found[two.pid] < 130 * MB
    assert 60 * MB < found[eight.pid] < 110 * MB


def test_an_orphan_counts_as_long_as_it_stays_in_the_session(trees: Trees) -> None:
    code = (
        "import os, sys\n"
        "if (child := os.fork()) == 0:\n"
        "    if os.fork(): os._exit(0)\n"
        "    x = b'x' * (40 << 20)\n"
        "    print('ready', flush=True)\n"
        "else:\n"
        "    os.waitpid(child, 0)\n"
        "sys.stdin.read()"
    )
    tree = trees(code)
    assert used_bytes({tree.pid: NOTHING})[tree.pid] > 40 * MB


def test_a_tree_below_what_is_known_of_it_is_not_looked_at_closely(trees: Trees) -> None:
    tree = trees(HOLDS.format(mb=10))
    # its resident pages, those of files among them: never less than what it uses
    assert 10 * MB < used_bytes({tree.pid: Known(10**12, 10**12)})[tree.pid] < 60 * MB


def test_a_process_that_is_gone_uses_nothing() -> None:
    assert used_bytes({2**22 + 1: NOTHING}) == {2**22 + 1: 0}


@pytest.mark.parametrize(
    ("room_bytes", "expected_s"), [(10**12, LONGEST_S), (10**9, 0.5), (0, SHORTEST_S), (-(10**9), SHORTEST_S)]
)
def test_the_nearer_to_its_limit_the_sooner_the_next_look(room_bytes: int, expected_s: float) -> None:
    assert pause_s(room_bytes) == pytest.approx(expected_s)


@pytest.mark.parametrize(("took_s", "expected_s"), [(0.0, SHORTEST_S), (0.01, 0.2), (9.0, LONGEST_S)])
def test_the_longer_a_look_took_the_longer_the_rest_until_the_next(took_s: float, expected_s: float) -> None:
    assert rest_s(took_s) == pytest.approx(expected_s)


class Noted(Worker):
    """Notes when a look was asked for, and ends the loop with the first."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, "noted")
        self.loop = loop
        self.at: list[float] = []

    def submit(self, _work: object, _done: object) -> None:
        self.at.append(self.loop.monotonic)
        self.loop.stop()


def test_what_ends_before_it_could_have_filled_its_memory_is_never_looked_at() -> None:
    loop = Loop()
    worker = Noted(loop)
    watch = Watch(loop, worker, used_bytes)
    short = watch.add(1, MB, lambda: None)
    long = watch.add(1, 600 * MB, lambda: None)
    watch.remove(short)
    loop.run()
    assert short.due < long.due
    assert worker.at[0] >= long.due
    worker.close()
    loop.close()


def test_who_is_over_its_limit_is_told_once_with_its_peak(trees: Trees) -> None:
    loop = Loop()
    worker = Worker(loop, "memory")
    watch = Watch(loop, worker, used_bytes)
    over: list[str] = []
    small, big = trees(HOLDS.format(mb=10)), trees(HOLDS.format(mb=80))

    def too_much(name: str) -> None:
        over.append(name)
        loop.stop()

    fine = watch.add(small.pid, 500 * MB, lambda: too_much("small"))
    bad = watch.add(big.pid, 50 * MB, lambda: too_much("big"))
    gone = watch.add(big.pid, 50 * MB, lambda: too_much("gone"))
    watch.remove(gone)
    loop.run()
    assert over == ["big"]
    assert bad.peak_bytes > 80 * MB
    assert 10 * MB < fine.peak_bytes < 50 * MB
    watch.remove(fine)
    watch.remove(bad)
    worker.close()
    loop.close()


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return rig.engine(limits="none")


def python(code: str) -> str:
    return f'exec {sys.executable} -c "{code}"'


def test_a_task_that_outgrows_its_limit_is_out_of_memory_with_limit_and_peak(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(
        engine, rig.lease(rig.shell(python("x = b'x' * (300 << 20); import time; time.sleep(600)")), memory_mb=128)
    )
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert (outcome.exit_code, outcome.signal) == (None, None)
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes > 128 * MB
    used = -(-outcome.peak_memory_bytes // MB)
    assert outcome.message == f"used {used} MB of memory, more than its limit of 128 MB"


def test_the_limit_holds_for_the_whole_tree_of_a_task(rig: Rig, engine: LocalEngine) -> None:
    holds = f"{sys.executable} -c \"x = b'x' * (90 << 20); print('ready', flush=True); import time; time.sleep(600)\""
    lease = rig.lease(rig.shell(f"{holds} & {holds} & wait"), memory_mb=128)
    outcome = rig.run(engine, lease)
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes > 128 * MB


def test_exit_137_is_an_exit_code_whatever_was_used(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell("exit 137"), memory_mb=16))
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, 137)


def test_a_task_within_its_limit_is_left_alone_and_watched(rig: Rig, engine: LocalEngine) -> None:
    go = rig.root / "go"
    code = f"import os, time; x = b'x' * (60 << 20)\nwhile not os.path.exists('{go}'): time.sleep(0.02)"
    lease = rig.lease(rig.shell(python(code)), memory_mb=70)
    other = rig.lease(rig.shell(python("x = b'x' * (300 << 20); import time; time.sleep(600)")), index=1, memory_mb=128)
    rig.launch(engine, lease)
    reader = Reader(engine)
    reader.started(lease.attempt)
    # somebody was looked at meanwhile
    rig.launch(engine, other)
    assert reader.outcome(other.attempt).kind is OutcomeKind.OUT_OF_MEMORY
    assert lease.attempt in engine.inventory(NODE).attempts
    go.touch()
    until(lambda: reader.outcome(lease.attempt))
    assert reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
