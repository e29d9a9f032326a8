"""The file protocol of cgroup v2, against folders that keep its rules."""

from pathlib import Path

import pytest

from tests.unit.node.limits.kernel import NOBODY, FakeKernel
from tidemill.node.limits.cgroup2 import Occupied, Version2, given, hand_on, take_back
from tidemill.node.limits.groups import Control, GroupLimits, Kill, Usage

ALL = {"cpu", "memory", "pids"}
NODE, SERVER, STRANGER = NOBODY, NOBODY + 1, NOBODY + 2
ALL_CONTROLS = frozenset(Control)
LIMITS = GroupLimits(memory_bytes=1 << 30, pids=64)


class Machine:
    """A machine whose service manager has given a group to us; the node and its server are in it."""

    def __init__(self, root: Path, controllers: set[str] = ALL, lacks: frozenset[str] = frozenset()) -> None:
        self.kernel = FakeKernel(root, 2, controllers, lacks)
        self.own = f"{root}/service"
        self.folder = f"{self.own}/tidemill-x"
        for controller in controllers:
            self.kernel.write(f"{root}/cgroup.subtree_control", f"+{controller}")
        self.kernel.make(self.own)
        self.kernel.put(self.own, NODE, SERVER)

    def hand_on(self) -> frozenset[Control]:
        return hand_on(self.kernel, self.own, self.folder, (NODE, SERVER))

    def open(self) -> Version2:
        return Version2(self.kernel, self.folder, self.hand_on())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "v2")


def test_node_and_server_move_to_a_leaf_and_the_controllers_are_handed_on(machine: Machine) -> None:
    assert machine.hand_on() == {Control.CPU, Control.MEMORY, Control.PIDS}
    assert machine.kernel.read(f"{machine.folder}/node/cgroup.procs").split() == [str(NODE), str(SERVER)]
    assert machine.kernel.read(f"{machine.own}/cgroup.procs") == ""
    # as every node after the first finds it
    assert machine.hand_on() == {Control.CPU, Control.MEMORY, Control.PIDS}


def test_a_group_with_strangers_hands_nothing_on_and_nobody_is_moved(machine: Machine) -> None:
    machine.kernel.put(machine.own, STRANGER)
    with pytest.raises(Occupied) as refused:
        machine.hand_on()
    assert list(refused.value.pids) == [STRANGER]
    assert set(machine.kernel.read(f"{machine.own}/cgroup.procs").split()) == {str(NODE), str(SERVER), str(STRANGER)}
    assert machine.kernel.children(machine.own) == []


def test_what_was_handed_on_for_a_look_is_taken_back(machine: Machine) -> None:
    assert given(machine.kernel, machine.own) == frozenset()
    handed = machine.hand_on()
    take_back(machine.kernel, machine.own, machine.folder, handed)
    assert given(machine.kernel, machine.own) == frozenset()
    assert machine.kernel.read(f"{machine.own}/cgroup.procs").split() == [str(NODE), str(SERVER)]
    assert machine.kernel.children(machine.own) == []


def test_what_was_handed_on_before_stays(machine: Machine) -> None:
    other = f"{machine.own}/tidemill-other"
    hand_on(machine.kernel, machine.own, other, (NODE, SERVER))
    Version2(machine.kernel, other, ALL_CONTROLS).make("a", LIMITS)
    before = given(machine.kernel, machine.own)
    machine.hand_on()
    take_back(machine.kernel, machine.own, machine.folder, {*Control} - before)
    assert given(machine.kernel, machine.own) == given(machine.kernel, other) == ALL_CONTROLS
    assert machine.kernel.read(f"{other}/a/pids.max") == "64"
    assert machine.kernel.children(machine.own) == [other]


def test_what_others_were_given_before_stays(machine: Machine) -> None:
    app = f"{machine.own}/app"
    machine.kernel.make(app)
    machine.kernel.put(app, NODE, SERVER)
    machine.kernel.write(f"{machine.own}/cgroup.subtree_control", "+pids")
    machine.kernel.write(f"{app}/pids.max", "7")
    machine.hand_on()
    take_back(machine.kernel, machine.own, machine.folder, {Control.CPU, Control.MEMORY})
    assert machine.kernel.read(f"{machine.own}/cgroup.subtree_control") == "pids"
    assert machine.kernel.read(f"{app}/pids.max").strip() == "7"


def test_only_what_is_offered_is_handed_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "v2", {"memory", "pids"})
    assert machine.open().controls == {Control.MEMORY, Control.PIDS}


def test_beside_v1_nobody_is_moved_and_groups_still_kill_and_count_cpu(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "v2", set())
    hierarchy = machine.open()
    assert hierarchy.controls == set()
    assert hierarchy.surest_kill is Kill.AT_ONCE
    assert set(machine.kernel.read(f"{machine.own}/cgroup.procs").split()) == {str(NODE), str(SERVER)}
    hierarchy.make("a", LIMITS)
    machine.kernel.say(f"{machine.folder}/a/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    assert hierarchy.usage("a") == Usage(cpu_s=2.5)


def test_a_group_has_the_limits_of_its_attempt(machine: Machine) -> None:
    join = machine.open().make("a", LIMITS)
    assert join == f"{machine.folder}/a/cgroup.procs"

    def read(name: str) -> str:
        return machine.kernel.read(f"{machine.folder}/a/{name}")

    assert read("memory.max") == str(1 << 30)
    assert (read("memory.swap.max"), read("memory.oom.group")) == ("0", "1")
    assert (read("pids.max"), read("cpu.weight"), read("cpu.max")) == ("64", "50", "max 100000")


@pytest.mark.parametrize(("memory_mb", "cpu_max"), [(128, "25000 100000"), (4096, "200000 100000")])
def test_a_share_of_cpu_is_a_bound_where_that_is_asked_for_and_never_tiny(
    machine: Machine, memory_mb: int, cpu_max: str
) -> None:
    machine.open().make("a", GroupLimits(memory_bytes=memory_mb << 20, pids=1, cpu_quota=True))
    assert machine.kernel.read(f"{machine.folder}/a/cpu.max") == cpu_max


@pytest.mark.parametrize(("memory_mb", "weight"), [(1, "1"), (2048, "100"), (1 << 20, "10000")])
def test_weights_stay_within_what_the_kernel_takes(machine: Machine, memory_mb: int, weight: str) -> None:
    machine.open().make("a", GroupLimits(memory_bytes=memory_mb << 20, pids=1))
    assert machine.kernel.read(f"{machine.folder}/a/cpu.weight") == weight


def test_a_kernel_without_swap_and_peak_limits_all_the_same(tmp_path: Path) -> None:
    hierarchy = Machine(tmp_path / "v2", lacks=frozenset({"memory.swap.max", "memory.peak"})).open()
    hierarchy.make("a", LIMITS)
    assert hierarchy.usage("a") == Usage(cpu_s=0.0)


def test_what_happened_is_what_the_counters_say(machine: Machine) -> None:
    hierarchy = machine.open()
    hierarchy.make("a", LIMITS)
    machine.kernel.say(f"{machine.folder}/a/memory.events", "max 12\noom 1\noom_kill 3\noom_group_kill 1\n")
    machine.kernel.say(f"{machine.folder}/a/memory.peak", f"{1 << 30}\n")
    machine.kernel.say(f"{machine.folder}/a/pids.events", "max 7\n")
    machine.kernel.say(f"{machine.folder}/a/cpu.stat", "usage_usec 1500000\n")
    assert hierarchy.usage("a") == Usage(oom_kills=3, peak_bytes=1 << 30, pids_refused=7, cpu_s=1.5)


def test_who_is_killed_for_the_limit_of_others_was_starved(machine: Machine) -> None:
    hierarchy = machine.open()
    hierarchy.make("a", LIMITS)
    machine.kernel.say(f"{machine.folder}/a/memory.events", "max 0\noom 0\noom_kill 2\noom_group_kill 1\n")
    assert hierarchy.usage("a") == Usage(starved=2, peak_bytes=0, cpu_s=0.0)


def test_a_limit_that_is_refused_leaves_no_group(machine: Machine) -> None:
    hierarchy = machine.open()
    machine.kernel.denied.add(f"{machine.folder}/a/pids.max")
    with pytest.raises(PermissionError):
        hierarchy.make("a", LIMITS)
    assert hierarchy.left() == []


def test_a_group_is_removed_when_all_in_it_is_dead_and_the_groups_in_it_are_too(machine: Machine) -> None:
    hierarchy = machine.open()
    hierarchy.make("a", LIMITS)
    machine.kernel.make(f"{machine.folder}/a/inner")
    machine.kernel.put(f"{machine.folder}/a/inner", NOBODY)
    assert hierarchy.left() == ["a"]
    assert not hierarchy.remove("a")
    hierarchy.kill("a")
    assert machine.kernel.killed == [NOBODY]
    assert hierarchy.remove("a")
    assert hierarchy.left() == []
    assert hierarchy.remove("a"), "gone is gone"
    hierarchy.kill("a")
