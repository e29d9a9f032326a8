"""Groups of this machine's own kernel: what they limit, count and kill. Skipped, saying why, where there are none."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.node.rig import PATIENCE_S, alive, until
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.groups import Control, Group, GroupLimits, Hierarchy, Kill, Usage
from tidemill.node.limits.keeper import SPARE_MAX, Keeper, Kept
from tidemill.node.limits.leftovers import clear
from tidemill.node.limits.places import PREFIX, own_places
from tidemill.node.limits.probe import Groups, open_groups, prove
from tidemill.node.loop import Loop

MB = 1 << 20
FILES = CgroupFiles()
NAME = f"{PREFIX}test-{os.getpid()}"
LIMITS = GroupLimits(memory_bytes=64 * MB, pids=30)
JOIN = 'for f in {files}; do echo 0 > "$f" || exit 99; done; '
# forks without end, but into 500 processes at most, so that a limit that does not hold harms nobody
BOMB = (
    "bomb() { if [ $1 -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & wait; else churn; fi; }; "
    "churn() { i=0; while [ $i -lt 5000 ]; do (:) & i=$((i + 1)); done; }; "
    "echo $$; while :; do bomb 8; done"
)
# ends with the memory of its parent shell untouched
HOG = f"{sys.executable} -c \"x = b'x' * (300 << 20)\""


@pytest.fixture(scope="module")
def groups() -> Iterator[Groups]:
    groups = open_groups(FILES, own_places(FILES), NAME, (os.getpid(),))
    try:
        yield groups
    finally:
        clear(FILES, groups.folders, 10.0)
        groups.close(FILES)


def need(groups: Groups, *controls: Control) -> None:
    """Skip where the probe has found that this machine does not have what a test is about."""
    for control in controls:
        if control in groups.facts.missing:
            why = groups.facts.missing[control]
            pytest.skip(f"no limit of {control} here: {why.reason}; to have it: {why.remedy}")


@dataclass
class Trees:
    """Processes that are in groups of their own, and those groups."""

    groups: Groups
    made: list[Group] = field(default_factory=list)
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def group(self, limits: GroupLimits = LIMITS) -> Group:
        group = self.groups.make(f"a{len(self.made)}", limits)
        assert group is not None
        self.made.append(group)
        return group

    def start(self, group: Group, script: str) -> "subprocess.Popen[bytes]":
        join = JOIN.format(files=" ".join(group.join))
        child = subprocess.Popen(["sh", "-c", join + script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.children.append(child)
        return child


@pytest.fixture
def trees(groups: Groups) -> Iterator[Trees]:
    need(groups, Control.MEMORY, Control.PIDS)
    trees = Trees(groups)
    yield trees
    for group in trees.made:
        group.kill()
    for child in trees.children:
        child.wait(10)
        assert child.stdout is not None
        child.stdout.close()
    for group in trees.made:
        until(group.remove)
    assert groups.left() == []


def said(child: "subprocess.Popen[bytes]") -> bytes:
    assert child.stdout is not None
    return child.stdout.readline()


def test_the_probe_finds_each_control_or_says_why_not(groups: Groups) -> None:
    print(groups.facts)
    assert set(groups.facts.active) | set(groups.facts.missing) == set(Control)
    assert not set(groups.facts.active) & set(groups.facts.missing)
    for why in groups.facts.missing.values():
        assert why.reason
        assert why.remedy
    assert groups.left() == [], "the probe leaves nothing"


def test_who_uses_more_than_its_limit_is_killed_and_counted_with_its_peak(trees: Trees) -> None:
    group = trees.group()
    assert trees.start(group, f"exec {HOG}").wait(30) == -SIGKILL
    usage = group.usage()
    assert usage.oom_kills > 0
    assert usage.peak_bytes is not None
    assert 60 * MB < usage.peak_bytes <= 64 * MB


def test_a_process_that_is_killed_otherwise_is_not_counted_as_out_of_memory(trees: Trees) -> None:
    group = trees.group()
    assert trees.start(group, "kill -9 $$").wait(30) == -SIGKILL
    assert group.usage().oom_kills == 0
    assert trees.start(group, "exit 137").wait(30) == 137
    assert group.usage().oom_kills == 0


def test_pages_of_files_are_taken_back_instead(trees: Trees, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 * MB)
    group = trees.group()
    assert trees.start(group, f"cat {big} > /dev/null").wait(60) == 0
    assert group.usage().oom_kills == 0


def test_a_fork_bomb_is_stopped_at_its_limit_and_killed_whole(trees: Trees) -> None:
    group = trees.group(GroupLimits(memory_bytes=256 * MB, pids=20))
    child = trees.start(group, BOMB)
    assert int(said(child)) == child.pid
    until(lambda: group.usage().pids_refused > 0)
    procs = Path(group.join[0])
    # a shell that may not fork ends: by now there may be none of them
    assert len(procs.read_text().split()) <= 20

    def dead() -> bool:
        group.kill()
        return not procs.read_text()

    until(dead)
    child.wait(10)
    until(group.remove)
    trees.made.remove(group)


@pytest.mark.parametrize("way", ["exec setsid", "trap '' TERM HUP; setsid"])
def test_what_has_left_its_session_is_killed_with_its_group(trees: Trees, way: str) -> None:
    group = trees.group()
    child = trees.start(group, f"{way} sh -c 'trap \"\" TERM; (sleep 600 & echo $!) & wait; sleep 600'")
    pid = int(said(child))
    assert alive(pid)
    group.kill()
    until(lambda: not alive(pid))
    child.wait(10)


def test_stopped_processes_are_killed_too(trees: Trees) -> None:
    group = trees.group()
    child = trees.start(group, "echo $$; kill -STOP $$; echo never")
    pid = int(said(child))
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    group.kill()
    assert child.wait(10) == -SIGKILL


def test_cpu_time_is_that_of_the_whole_tree(trees: Trees) -> None:
    group = trees.group()
    busy = f'{sys.executable} -c "import time\nwhile time.process_time() < 0.3: pass"'
    assert trees.start(group, f"{busy} & {busy} & wait").wait(60) == 0
    cpu_s = group.usage().cpu_s
    if cpu_s is None:
        pytest.skip("no group of this machine counts CPU time, so the launcher does")
    assert 0.5 < cpu_s < 30


def test_two_hundred_groups_leave_nothing_behind(trees: Trees) -> None:
    made = [trees.group() for _ in range(200)]
    children = [trees.start(group, "sleep 600 & echo ready; wait") for group in made[::10]]
    assert [said(child) for child in children] == [b"ready\n"] * 20
    for group in made:
        group.kill()
    for child in children:
        assert child.wait(10) == -SIGKILL
    for group in made:
        until(group.remove)
    assert trees.groups.left() == []
    trees.made.clear()


def test_a_group_with_a_process_stays_until_that_is_dead(trees: Trees) -> None:
    group = trees.group()
    child = trees.start(group, "echo ready; sleep 600")
    said(child)
    assert not group.remove()
    assert child.poll() is None
    group.kill()
    child.wait(10)
    until(group.remove)
    trees.made.remove(group)


def test_groups_that_are_not_removed_are_cleared_with_what_is_in_them(trees: Trees) -> None:
    children = [trees.start(trees.group(), "sleep 600 & echo ready; wait") for _ in range(3)]
    for child in children:
        said(child)
    assert clear(FILES, trees.groups.folders, 10.0) == []
    assert trees.groups.left() == []
    assert [child.wait(10) for child in children] == [-SIGKILL] * 3


def test_a_hierarchy_that_cannot_kill_at_once_refuses_forks_first(trees: Trees) -> None:
    found = [each for each in trees.groups._hierarchies if each.surest_kill is Kill.FORKLESS]
    if not found:
        pytest.skip("the processes of this machine are counted by cgroup v2, which kills at once")
    group = Group("forkless", GroupLimits(memory_bytes=256 * MB, pids=60), found[:1])
    child = trees.start(group, BOMB)
    said(child)
    until(lambda: group.usage().pids_refused > 0)

    def gone() -> bool:
        group.kill()
        return group.remove()

    until(gone)
    child.wait(10)


class Deaf:
    """A hierarchy in which nothing is ever killed."""

    def __init__(self, real: Hierarchy) -> None:
        self._real = real
        self.folder, self.controls, self.surest_kill = real.folder, real.controls, real.surest_kill
        self.make, self.usage, self.oom_event, self.remove = real.make, real.usage, real.oom_event, real.remove
        self.left, self.is_empty, self.renew = real.left, real.is_empty, real.renew

    def kill(self, name: str) -> None:
        pass


def test_the_probe_refuses_a_hierarchy_that_does_not_kill(trees: Trees) -> None:
    with pytest.raises(OSError, match="was not killed with its group"):
        prove(FILES, Deaf(trees.groups._hierarchies[0]), 1.0)


@dataclass
class Keeping:
    """Kept groups with the loop that keeps them, as in a node."""

    loop: Loop
    keeper: Keeper
    trees: Trees
    made: list[Kept] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def group(self, memory_bytes: int = 64 * MB) -> Kept:
        kept = self.keeper.make(memory_bytes)
        assert kept is not None
        self.made.append(kept)

        def out_of_memory() -> None:
            self.told.append("out of memory")
            kept.kill()

        kept.when_out_of_memory(out_of_memory)
        return kept

    def start(self, kept: Kept, script: str) -> "subprocess.Popen[bytes]":
        return self.trees.start(kept._group, script)

    def run(self, done: Callable[[], object]) -> None:
        """The loop, until ``done``."""
        left = 2000

        def look() -> None:
            nonlocal left
            left -= 1
            if done() or not left:
                self.loop.stop()
            else:
                self.loop.call_later(PATIENCE_S / 2000, look)

        self.loop.call_later(0, look)
        self.loop.run()
        assert left, "what was waited for did not happen"

    def run_until_removed(self) -> None:
        self.keeper.let_go()
        self.run(lambda: self.trees.groups.left() == [])


@pytest.fixture
def keeping(trees: Trees) -> Iterator[Keeping]:
    loop = Loop()
    keeping = Keeping(loop, Keeper(loop, trees.groups, pids=30, cpu_quota=False), trees)
    yield keeping
    for kept in keeping.made:
        kept.kill()
    keeping.keeper.let_go()
    loop.close()


def test_a_tree_that_lost_a_process_to_its_limit_is_ended_whole(keeping: Keeping) -> None:
    kept = keeping.group()
    # the one that is killed is not the one that the attempt began with
    child = keeping.start(kept, f"{HOG}; sleep 600")
    keeping.run(lambda: child.poll() is not None)
    assert child.returncode == -SIGKILL
    assert kept.usage().oom_kills > 0
    kept.close()
    keeping.run_until_removed()
    assert len(keeping.told) <= 1, "told once, or not at all where the kernel kills all of it"


def test_what_was_killed_before_anybody_listened_is_heard_of(keeping: Keeping) -> None:
    kept = keeping.group()
    child = keeping.start(kept, f"{HOG}; echo survived; sleep 600")
    survived = said(child) != b""
    keeping.run(lambda: child.poll() is not None)
    kept.close()
    keeping.run_until_removed()
    if not survived:
        pytest.skip("the kernel of this machine kills whole groups, and tells nobody")
    assert keeping.told == ["out of memory"]


def test_a_kill_is_heard_of_whose_event_came_just_before_anybody_listened(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keeping.group()
    kills = iter((0, 0, 1))
    monkeypatch.setattr(Group, "usage", lambda _group: Usage(oom_kills=next(kills, 1)))
    kept._listen()
    tells = kept._event is not None
    if tells:
        keeping.run(lambda: keeping.told)
    kept.close()
    keeping.run_until_removed()
    if not tells:
        pytest.skip("the kernel of this machine kills whole groups, and tells nobody")
    assert keeping.told == ["out of memory"]


def test_an_event_without_a_kill_is_no_lack_of_memory(keeping: Keeping) -> None:
    kept = keeping.group()
    kept._listen()
    tells = kept._event is not None
    if kept._event is not None:
        os.eventfd_write(kept._event, 1)
        keeping.run(lambda: kept._timer is not None)
        keeping.run(lambda: kept._timer is None)
    kept.close()
    keeping.run_until_removed()
    if not tells:
        pytest.skip("the kernel of this machine kills whole groups, and tells nobody")
    assert keeping.told == []


def test_a_group_that_is_gone_holds_no_descriptor(keeping: Keeping) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    kept = keeping.group()
    kept._listen()
    kept.close()
    keeping.run_until_removed()
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert keeping.told == []


def test_what_is_alive_when_a_group_is_closed_is_killed(keeping: Keeping) -> None:
    kept = keeping.group()
    child = keeping.start(kept, "echo ready; sleep 600")
    said(child)
    kept.close()
    keeping.run_until_removed()
    assert child.wait(10) == -SIGKILL
    assert keeping.told == [], "the end of a group is no lack of memory"


def used_by(keeping: Keeping, script: str, memory_bytes: int = 64 * MB) -> str:
    """The group that ``script`` has run in, when nobody has it any more."""
    kept = keeping.group(memory_bytes)
    child = keeping.start(kept, script)
    child.wait(20)
    kept.usage()
    kept.close()
    return kept.join[0]


@pytest.fixture
def renewing(keeping: Keeping) -> Keeping:
    used_by(keeping, "true")
    if not keeping.keeper._spare:
        pytest.skip("a counter of this machine's kernel cannot be set back, so no group is used twice")
    return keeping


def test_a_group_that_is_as_new_is_used_again_and_counts_from_nothing(renewing: Keeping) -> None:
    first = used_by(renewing, f"{sys.executable} -c \"x = b'x' * (40 << 20)\"")
    kept = renewing.group()
    assert kept.join[0] == first
    child = renewing.start(kept, "true")
    child.wait(20)
    usage = kept.usage()
    assert usage.peak_bytes is not None
    assert usage.peak_bytes < 20 * MB
    assert usage.cpu_s is None or usage.cpu_s < 0.2
    kept.close()


def test_two_attempts_at_once_have_two_groups(renewing: Keeping) -> None:
    one, other = renewing.group(), renewing.group()
    assert not {*one.join} & {*other.join}
    one.close()
    other.close()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(HOG, id="one in which something was killed for its memory"),
        pytest.param(
            "(i=0; while [ $i -lt 60 ]; do sleep 0.2 & i=$((i + 1)); done); sleep 1", id="one that was refused forks"
        ),
        pytest.param("sleep 600 > /dev/null & exit", id="one in which somebody lives"),
        pytest.param("mkdir $(dirname {join})/inner", id="one in which there is a group"),
        pytest.param("head -c 5000000 /dev/zero > {shm}", id="one for which memory is counted"),
    ],
)
def test_a_group_is_not_used_again(renewing: Keeping, script: str) -> None:
    shm = Path(f"/dev/shm/tidemill-test-{os.getpid()}")
    # the group that is given next
    (spare,) = [group for group in renewing.keeper._spare if group.limits.memory_bytes == 64 * MB]
    try:
        used = used_by(renewing, script.replace("{join}", spare.join[0]).replace("{shm}", str(shm)))
    finally:
        shm.unlink(missing_ok=True)
    assert used == spare.join[0]
    assert spare not in renewing.keeper._spare
    renewing.run_until_removed()


def test_a_group_that_was_killed_is_not_used_again(renewing: Keeping) -> None:
    kept = renewing.group()
    kept.kill()
    kept.close()
    other = renewing.group()
    assert other.join != kept.join
    other.close()


def test_a_group_is_used_again_for_the_same_limits_only(renewing: Keeping) -> None:
    first = used_by(renewing, "true")
    assert used_by(renewing, "true", memory_bytes=32 * MB) != first
    assert used_by(renewing, "true") == first


def test_spare_groups_are_bounded(renewing: Keeping) -> None:
    many = [renewing.group() for _ in range(SPARE_MAX + 3)]
    for kept in many:
        kept.close()
    assert len(renewing.trees.groups.left()) == SPARE_MAX
    renewing.run_until_removed()
