"""What the kernel lets the attempts of a real node use; skipped, saying why, where a machine does not let us say."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.node.rig import NODE, Reader, Rig, alive, read_logs, until
from tidemill.engine.local import LocalEngine
from tidemill.model.errors import EngineUnavailable
from tidemill.model.lease import OutcomeKind
from tidemill.node.limits.facts import LimitFacts
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.groups import Control
from tidemill.node.limits.leftovers import clear, remembered
from tidemill.node.limits.look import look, of_node
from tidemill.node.limits.places import PREFIX, own_places
from tidemill.node.limits.probe import open_groups

MB: Final = 1 << 20
FILES: Final = CgroupFiles()
NOBODY_UID: Final = 65534
HOG: Final = f"{sys.executable} -c \"x = b'x' * (300 << 20)\""
# fills memory before anybody has asked to be told of that
QUICK_HOG: Final = "tail -n 1 /dev/zero"
# forks without end, but into 500 processes at most, so that a limit that does not hold harms nobody
BOMB: Final = (
    "bomb() { if [ $1 -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & wait; else churn; fi; }; "
    "churn() { i=0; while [ $i -lt 5000 ]; do (:) & i=$((i + 1)); done; }; "
    "while :; do bomb 8; done"
)


@pytest.fixture(scope="module")
def facts() -> LimitFacts:
    groups = open_groups(FILES, own_places(FILES), f"{PREFIX}test-{os.getpid()}", (os.getpid(),))
    groups.close(FILES)
    return groups.facts


def need(facts: LimitFacts, control: Control) -> None:
    """Skip where the probe has found that this machine does not have what a test is about."""
    if control in facts.missing:
        why = facts.missing[control]
        pytest.skip(f"no limit of {control} here: {why.reason}; to have it: {why.remedy}")


@pytest.fixture
def limited_memory(facts: LimitFacts) -> None:
    need(facts, Control.MEMORY)


@pytest.fixture
def limited_pids(facts: LimitFacts) -> None:
    need(facts, Control.PIDS)


@pytest.fixture
def limited_cpu(facts: LimitFacts) -> None:
    need(facts, Control.CPU)


def group_folders(rig: Rig) -> list[str]:
    """Where the node of ``rig`` makes its groups."""
    return remembered(rig.data / "node" / "groups")


def groups_of(rig: Rig) -> list[str]:
    """The groups of the node that there are, those that wait for an attempt among them."""
    return [group for folder in group_folders(rig) for group in FILES.children(folder) if not group.endswith("/node")]


def in_groups(rig: Rig) -> list[int]:
    """The processes that are in groups of the node."""
    return [int(pid) for group in groups_of(rig) for pid in FILES.read(f"{group}/cgroup.procs").split()]


memory = pytest.mark.usefixtures("limited_memory")
pids = pytest.mark.usefixtures("limited_pids")
cpu = pytest.mark.usefixtures("limited_cpu")


@memory
def test_a_task_that_needs_more_than_its_limit_is_out_of_memory_with_limit_and_peak(
    rig: Rig, engine: LocalEngine
) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell(f"exec {HOG}"), memory_mb=64))
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert (outcome.exit_code, outcome.signal) == (None, None)
    assert outcome.peak_memory_bytes is not None
    assert 60 * MB < outcome.peak_memory_bytes <= 64 * MB
    assert outcome.message == "needed more than its limit of 64 MB of memory; its peak was 64 MB"
    assert in_groups(rig) == []


@memory
@pytest.mark.parametrize("then", ["echo survived; sleep 600", "exit 0", "exit 137"])
def test_the_whole_tree_ends_when_one_of_it_is_killed_for_memory(rig: Rig, engine: LocalEngine, then: str) -> None:
    daemon = "setsid sh -c 'trap \"\" TERM; sleep 600' & "
    outcome = rig.run(engine, rig.lease(rig.shell(f"{daemon} {HOG}; {then}"), memory_mb=64))
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert in_groups(rig) == []


@memory
def test_who_is_killed_before_the_node_listens_is_out_of_memory_too(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell(f"exec {QUICK_HOG}"), memory_mb=16))
    assert (outcome.kind, outcome.peak_memory_bytes) == (OutcomeKind.OUT_OF_MEMORY, 16 * MB)


@memory
def test_who_is_killed_because_others_have_no_memory_is_lost_and_tried_again(rig: Rig, engine: LocalEngine) -> None:
    rig.run(engine, rig.lease(rig.shell("true"), 1))
    # of all attempts of this node together, as of a container that the node is in
    bounds = [f"{folder}/{name}" for folder in group_folders(rig) for name in ("memory.limit_in_bytes", "memory.max")]
    (bound,) = [path for path in bounds if FILES.has(path)]
    FILES.write(bound, str(50 * MB))
    outcome = rig.run(engine, rig.lease(rig.shell(f"{HOG}; exit 0"), memory_mb=400))
    assert outcome.kind is OutcomeKind.LOST
    assert outcome.peak_memory_bytes is not None
    used = -(-outcome.peak_memory_bytes // MB)
    assert 30 < used < 60, "far below its own limit"
    assert outcome.message == f"the machine ran out of memory when it had used {used} of its 400 MB"


@memory
def test_the_memory_of_all_processes_together_is_limited(rig: Rig, engine: LocalEngine) -> None:
    holds = f"{sys.executable} -c \"x = b'x' * (50 << 20); import time; time.sleep(600)\""
    outcome = rig.run(engine, rig.lease(rig.shell(f"{holds} & {holds} & wait"), memory_mb=80))
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY


@memory
def test_memory_that_is_only_asked_for_is_not_refused(rig: Rig, engine: LocalEngine) -> None:
    asks = f'exec {sys.executable} -c "import mmap; mmap.mmap(-1, 1200 << 20, flags=mmap.MAP_PRIVATE)"'
    outcome = rig.run(engine, rig.lease(rig.shell(asks), memory_mb=64))
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes < 40 * MB


@memory
def test_a_signal_that_somebody_sent_is_a_signal(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell("kill -9 $$"), memory_mb=64))
    assert (outcome.kind, outcome.signal) == (OutcomeKind.SIGNAL, 9)
    outcome = rig.run(engine, rig.lease(rig.shell("exit 137"), 1, memory_mb=64))
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, 137)


@memory
def test_an_attempt_that_was_cancelled_first_is_cancelled_whatever_it_used_then(rig: Rig, engine: LocalEngine) -> None:
    script = f"trap '{QUICK_HOG}; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    lease = rig.lease(rig.shell(script), memory_mb=64, grace_s=30)
    rig.launch(engine, lease)
    read_logs(engine, len)
    engine.cancel(NODE, [lease.attempt], 30, rig.term)
    outcome = Reader(engine).outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.CANCELLED
    assert outcome.peak_memory_bytes == 64 * MB, "it did use too much"


@pids
def test_a_fork_bomb_is_stopped_and_nothing_is_left_of_it(rig: Rig) -> None:
    engine = rig.engine(task_pids=20)
    lease = rig.lease(rig.shell(f"echo ready; {BOMB}"), timeout_s=1.0, grace_s=0.5)
    outcome = rig.run(engine, lease)
    assert outcome.kind in {OutcomeKind.TIMED_OUT, OutcomeKind.EXIT_CODE}
    assert in_groups(rig) == []


@pids
def test_who_fails_of_refused_forks_is_told_so(rig: Rig) -> None:
    engine = rig.engine(task_pids=10)
    forks = "import subprocess; [subprocess.Popen(['sleep', '600']) for _ in range(30)]"
    outcome = rig.run(engine, rig.lease(rig.shell(f'exec {sys.executable} -c "{forks}"')))
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, 1)
    assert outcome.message == "exit code 1; it was at its limit of 10 processes and threads, and was refused more"
    # the next one may fork again
    assert rig.run(engine, rig.lease(rig.shell("sleep 0 & wait"), 1)).kind is OutcomeKind.SUCCEEDED


@cpu
def test_a_share_of_cpu_is_a_bound_where_that_is_asked_for(rig: Rig, facts: LimitFacts) -> None:
    version = facts.active[Control.CPU].split(",")[0]
    file, expected = {"cgroup v1": ("cpu.cfs_quota_us", "25000"), "cgroup v2": ("cpu.max", "25000 100000")}[version]
    engine = rig.engine(cpu_quota=True)
    lease = rig.lease(rig.shell("sleep 600"), memory_mb=64)
    rig.launch(engine, lease)
    Reader(engine).started(lease.attempt)
    found = [path for group in groups_of(rig) if FILES.has(path := f"{group}/{file}")]
    assert [FILES.read(path) for path in found] == [expected]


@memory
def test_two_hundred_tasks_leave_nothing_behind_when_the_node_ends(rig: Rig) -> None:
    engine = rig.engine(slots=16)
    image = rig.shell("setsid sleep 600 & echo $$")
    rig.launch(engine, *(rig.lease(image, index, memory_mb=32) for index in range(200)))
    reader = Reader(engine)
    until(lambda: len({event.attempt for event in reader.read() + reader.seen if event.outcome}) == 200, 400)
    assert in_groups(rig) == []
    assert len(groups_of(rig)) <= 64 * len(group_folders(rig))
    folders = group_folders(rig)
    assert folders
    rig.close()
    assert [folder for folder in folders if FILES.has(folder) and FILES.children(folder) != [f"{folder}/node"]] == []


@memory
def test_what_lives_on_after_a_node_and_its_launcher_is_killed_by_the_next(rig: Rig) -> None:
    engine = rig.engine()
    script = f"setsid sh -c 'trap \"\" TERM; echo $$ > {rig.root}/daemon; sleep 600' & sleep 600"
    rig.launch(engine, rig.lease(rig.shell(script)))
    daemon = rig.pid_from("daemon")
    launchers = Path(f"/proc/{rig.node_pid}/task/{rig.node_pid}/children").read_text().split()
    os.kill(rig.node_pid, signal.SIGSTOP)
    for pid in launchers:
        os.kill(int(pid), signal.SIGKILL)
    rig.kill_node()
    assert alive(daemon)

    def again() -> bool:
        try:
            return bool(engine.nodes())
        except EngineUnavailable:
            return False

    until(again)
    assert not alive(daemon)
    assert groups_of(rig) == []


@memory
def test_groups_of_a_node_that_was_started_elsewhere_are_cleared_too(rig: Rig) -> None:
    engine = rig.engine()
    engine.nodes()
    place = next(place for place in own_places(FILES) if "memory" in place.controllers)
    elsewhere = f"{place.folder}/{PREFIX}elsewhere-{os.getpid()}"
    FILES.make(elsewhere)
    FILES.make(f"{elsewhere}/1")
    with (rig.data / "node" / "groups").open("a") as record:
        record.write(f"{elsewhere}\n")
    rig.kill_node()
    child = subprocess.Popen(["sh", "-c", f"echo 0 > {elsewhere}/1/cgroup.procs; echo in; exec sleep 60"], stdout=-1)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in\n"
        until(lambda: _asked(engine))
        assert child.poll() == -signal.SIGKILL
        assert not FILES.has(f"{elsewhere}/1")
    finally:
        child.kill()
        child.communicate()
        clear(FILES, [elsewhere], 10.0)
        FILES.remove(elsewhere)


def _asked(engine: LocalEngine) -> bool:
    try:
        engine.nodes()
    except EngineUnavailable:
        return False
    return True


@memory
def test_a_group_that_cannot_be_made_costs_another_try_and_not_the_task(rig: Rig, engine: LocalEngine) -> None:
    rig.run(engine, rig.lease(rig.shell("true")))
    (folder,) = [folder for folder in group_folders(rig) if FILES.has(f"{folder}/memory.stat")]
    clear(FILES, [folder], 5.0)
    FILES.remove(folder)
    outcome = rig.run(engine, rig.lease(rig.shell("true"), 1, memory_mb=64))
    assert outcome.kind is OutcomeKind.LOST
    assert outcome.message == "the process could not be started (group): No such file or directory"


@memory
def test_a_node_says_what_it_limits(rig: Rig, engine: LocalEngine, facts: LimitFacts) -> None:
    assert facts.capabilities <= engine.nodes()[0].capabilities
    assert of_node(rig.data / "node") == facts


def test_a_look_says_what_a_node_would_find_and_leaves_nothing(facts: LimitFacts) -> None:
    before = own_places(FILES)
    assert look() == facts
    left = [path for place in own_places(FILES) for path in FILES.children(place.folder)]
    assert [path for path in left if path.endswith(f"look-{os.getpid()}")] == []
    assert own_places(FILES) == before


def test_a_node_without_limits_says_so_and_watches(rig: Rig) -> None:
    engine = rig.engine(limits="none")
    assert not engine.nodes()[0].capabilities & {"memory-limit", "pids-limit", "cpu-share", "group-kill"}
    assert group_folders(rig) == []
    # one that stays as big as it is: a watch sees no peak that comes and goes between two looks
    stays = f"{sys.executable} -c \"import time; x = b'x' * (300 << 20); time.sleep(600)\""
    assert rig.run(engine, rig.lease(rig.shell(stays), memory_mb=64)).kind is OutcomeKind.OUT_OF_MEMORY


def test_whoever_may_not_make_groups_is_told_how_to_have_them() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become a user that nobody has given groups to")
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(NOBODY_UID)
        os.setuid(NOBODY_UID)
        groups = open_groups(FILES, own_places(FILES), f"{PREFIX}test-{os.getpid()}", (os.getpid(),))
        said = [f"{why.reason}|{why.remedy}" for why in groups.facts.missing.values()]
        os.write(write, "\n".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    lines = os.read(read, 1 << 16).decode().splitlines()
    os.close(read)
    os.close(write)
    assert len(lines) == len(Control)
    for line in lines:
        assert "is not ours to change" in line or "no hierarchy" in line or "no cgroup file system" in line
        assert line.partition("|")[2]
