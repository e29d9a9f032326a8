"""The file protocol of cgroup v1, against folders that keep its rules."""

from pathlib import Path

import pytest

from tests.unit.node.limits.kernel import NOBODY, FakeKernel
from tidemill.node.limits.cgroup1 import Version1
from tidemill.node.limits.groups import Control, GroupLimits, Kill, Usage

LIMITS = GroupLimits(memory_bytes=1 << 30, pids=64)


class Machine:
    """One v1 hierarchy, and what a node has made of it."""

    def __init__(self, root: Path, *controllers: str, lacks: frozenset[str] = frozenset()) -> None:
        self.kernel = FakeKernel(root, 1, set(controllers), lacks)
        self.folder = f"{root}/tidemill-x"
        self.hierarchy = Version1(self.kernel, self.folder, controllers, cores=4)

    def read(self, name: str, group: str = "a") -> str:
        return self.kernel.read(f"{self.folder}/{group}/{name}")

    def say(self, name: str, text: str) -> None:
        self.kernel.say(f"{self.folder}/a/{name}", text)


def test_memory_is_limited_with_its_swap(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory")
    assert machine.hierarchy.make("a", LIMITS) == f"{machine.folder}/a/cgroup.procs"
    assert machine.read("memory.limit_in_bytes") == machine.read("memory.memsw.limit_in_bytes") == str(1 << 30)


def test_memory_is_limited_where_swap_is_not_accounted(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory", lacks=frozenset({"memory.memsw.limit_in_bytes"}))
    machine.hierarchy.make("a", LIMITS)
    assert machine.read("memory.limit_in_bytes") == str(1 << 30)


def test_what_happened_is_what_the_counters_say(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory")
    machine.hierarchy.make("a", LIMITS)
    assert machine.hierarchy.usage("a") == Usage(peak_bytes=0)
    machine.say("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    machine.say("memory.max_usage_in_bytes", f"{LIMITS.memory_bytes - 4096}\n")
    assert machine.hierarchy.usage("a") == Usage(oom_kills=2, peak_bytes=LIMITS.memory_bytes - 4096)


def test_who_is_killed_far_below_its_limit_was_starved_by_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory")
    machine.hierarchy.make("a", LIMITS)
    machine.say("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    machine.say("memory.max_usage_in_bytes", "4096\n")
    assert machine.hierarchy.usage("a") == Usage(starved=1, peak_bytes=4096)


def test_processes_are_limited_and_refusals_counted(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "pids", "pids")
    machine.hierarchy.make("a", LIMITS)
    assert machine.read("pids.max") == "64"
    machine.say("pids.events", "max 5\n")
    assert machine.hierarchy.usage("a") == Usage(pids_refused=5)


def test_cpu_is_shared_by_memory_among_attempts_and_by_cores_with_the_rest(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "cpu", "cpu", "cpuacct")
    assert machine.kernel.read(f"{machine.folder}/cpu.shares") == "4096"
    machine.hierarchy.make("a", LIMITS)
    machine.hierarchy.make("b", GroupLimits(memory_bytes=4 << 30, pids=1, cpu_quota=True))
    assert (machine.read("cpu.shares"), machine.read("cpu.cfs_quota_us")) == ("512", "-1")
    assert (machine.read("cpu.shares", "b"), machine.read("cpu.cfs_quota_us", "b")) == ("2048", "200000")
    machine.say("cpuacct.usage", "1500000000\n")
    assert machine.hierarchy.usage("a") == Usage(cpu_s=1.5)


def test_what_is_killed_cannot_fork_any_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "pids", "pids")
    machine.hierarchy.make("a", LIMITS)
    assert machine.hierarchy.surest_kill is Kill.FORKLESS
    machine.hierarchy.kill("a")
    assert machine.read("pids.max").strip() == "0"


def test_a_hierarchy_that_cannot_refuse_forks_says_so(tmp_path: Path) -> None:
    assert Machine(tmp_path / "memory", "memory").hierarchy.surest_kill is Kill.LISTED


def test_a_limit_that_is_refused_leaves_no_group(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory")
    machine.kernel.denied.add(f"{machine.folder}/a/memory.memsw.limit_in_bytes")
    with pytest.raises(PermissionError):
        machine.hierarchy.make("a", LIMITS)
    assert machine.hierarchy.left() == []


def test_a_group_with_a_process_is_not_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "memory", "memory")
    machine.hierarchy.make("a", LIMITS)
    machine.kernel.put(f"{machine.folder}/a", NOBODY)
    assert not machine.hierarchy.remove("a")
    machine.say("cgroup.procs", "")
    assert machine.hierarchy.remove("a")
    assert machine.hierarchy.controls == {Control.MEMORY}
