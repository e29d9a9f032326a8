"""What a node makes of the cgroups it finds, and what it says is missing and why."""

import errno
from pathlib import Path

import pytest

from tests.unit.node.limits.kernel import NOBODY, FakeKernel
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.groups import Control, GroupLimits, Hierarchy, Kill, Usage
from tidemill.node.limits.leftovers import clear, remember, remembered
from tidemill.node.limits.places import Place
from tidemill.node.limits.probe import Groups, open_groups, turned_off

LIMITS = GroupLimits(memory_bytes=1 << 30, pids=64)


class Machine(CgroupFiles):
    """Several hierarchies, each with its own rules."""

    def __init__(self, root: Path, **hierarchies: FakeKernel) -> None:
        self.root = root
        self.kernels = hierarchies

    def of(self, path: str) -> FakeKernel:
        return self.kernels[Path(path).relative_to(self.root).parts[0]]

    def make(self, folder: str) -> None:
        self.of(folder).make(folder)

    def write(self, path: str, text: str) -> None:
        self.of(path).write(path, text)

    def remove(self, folder: str) -> None:
        self.of(folder).remove(folder)

    @property
    def places(self) -> list[Place]:
        return [
            Place(version=each.version, controllers=frozenset(each.controllers), folder=str(each.root))
            for each in self.kernels.values()
        ]

    def open(self, refuses: str = "") -> Groups:
        def attempt(_files: CgroupFiles, hierarchy: Hierarchy) -> None:
            if refuses and refuses in hierarchy.folder:
                raise OSError(errno.EINVAL, "it does not")

        return open_groups(self, self.places, "tidemill-x", (1,), attempt)


def hybrid(root: Path) -> Machine:
    """As Linux distributions were before v2: a hierarchy for each controller, and v2 with none."""
    return Machine(
        root,
        unified=FakeKernel(root / "unified", 2, set()),
        memory=FakeKernel(root / "memory", 1, {"memory"}),
        pids=FakeKernel(root / "pids", 1, {"pids"}),
        cpu=FakeKernel(root / "cpu", 1, {"cpu", "cpuacct"}),
        devices=FakeKernel(root / "devices", 1, {"devices"}),
    )


def test_v2_alone_does_everything(tmp_path: Path) -> None:
    machine = Machine(tmp_path, v2=FakeKernel(tmp_path / "v2", 2, {"memory", "pids", "cpu", "io"}))
    groups = machine.open()
    assert groups.controls == set(Control)
    assert groups.facts.missing == {}
    assert groups.facts.active[Control.MEMORY] == f"cgroup v2, {tmp_path}/v2"
    assert groups.facts.capabilities == {"memory-limit", "pids-limit", "cpu-share", "group-kill"}


def test_on_a_hybrid_machine_v1_limits_and_kills_what_cannot_fork(tmp_path: Path) -> None:
    machine = hybrid(tmp_path)
    groups = machine.open()
    group = groups.make("a", LIMITS)
    assert group is not None
    assert groups.facts.kill is Kill.FORKLESS
    assert group.controls == set(Control)
    # what limits nothing is not joined
    assert {Path(join).parents[2].name for join in group.join} == {"memory", "pids", "cpu"}
    assert not (tmp_path / "unified" / "tidemill-x").exists()
    machine.kernels["cpu"].say(f"{tmp_path}/cpu/tidemill-x/a/cpuacct.usage", "2000000000")
    assert group.usage() == Usage(peak_bytes=0, cpu_s=2.0)
    group.kill()
    assert (tmp_path / "pids" / "tidemill-x" / "a" / "pids.max").read_text().strip() == "0"
    machine.kernels["cpu"].put(f"{tmp_path}/cpu/tidemill-x/a", NOBODY)
    assert not group.remove()
    machine.kernels["cpu"].say(f"{tmp_path}/cpu/tidemill-x/a/cgroup.procs", "")
    assert group.remove()
    assert groups.left() == []


def test_where_v1_cannot_refuse_forks_v2_kills(tmp_path: Path) -> None:
    machine = hybrid(tmp_path)
    groups = machine.open(refuses="/pids")
    group = groups.make("a", LIMITS)
    assert group is not None
    assert {Path(join).parents[2].name for join in group.join} == {"unified", "memory", "cpu"}
    assert groups.facts.kill is Kill.AT_ONCE
    machine.kernels["unified"].put(f"{tmp_path}/unified/tidemill-x/a", NOBODY)
    group.kill()
    assert machine.kernels["unified"].killed == [NOBODY]


def test_what_one_hierarchy_refuses_leaves_nothing_in_the_others(tmp_path: Path) -> None:
    machine = hybrid(tmp_path)
    groups = machine.open()
    machine.kernels["pids"].denied.add(f"{tmp_path}/pids/tidemill-x/a")
    with pytest.raises(PermissionError):
        groups.make("a", LIMITS)
    assert groups.left() == []


def test_a_hierarchy_that_does_not_work_is_missing_with_the_reason(tmp_path: Path) -> None:
    groups = hybrid(tmp_path).open(refuses="/memory")
    assert groups.controls == {Control.PIDS, Control.CPU}
    assert groups.facts.missing[Control.MEMORY].reason == f"cgroup v1, {tmp_path}/memory does not work: it does not"
    assert not (tmp_path / "memory" / "tidemill-x").exists()
    group = groups.make("a", LIMITS)
    assert group is not None
    assert group.controls == {Control.PIDS, Control.CPU}


def test_a_group_that_is_not_ours_is_explained_with_its_remedy(tmp_path: Path) -> None:
    machine = Machine(tmp_path, v2=FakeKernel(tmp_path / "v2", 2, {"memory", "pids"}))
    machine.kernels["v2"].denied.add(str(tmp_path))
    groups = machine.open()
    assert groups.make("a", LIMITS) is None
    assert groups.controls == frozenset()
    why = groups.facts.missing[Control.MEMORY]
    assert why.reason == f"cgroup v2, {tmp_path}/v2 is not ours to change: Permission denied"
    assert "Delegate=yes" in why.remedy
    assert groups.facts.capabilities == frozenset()


def test_a_group_with_strangers_names_them(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path / "v2", 2, {"memory"})
    kernel.write(f"{tmp_path}/v2/cgroup.subtree_control", "+memory")
    own = f"{tmp_path}/v2/session"
    kernel.make(own)
    kernel.put(own, 1, 4711)
    place = Place(version=2, controllers=frozenset({"memory"}), folder=own)
    groups = open_groups(kernel, [place], "tidemill-x", (1,), lambda _files, _hierarchy: None)
    why = groups.facts.missing[Control.MEMORY]
    assert why.reason == f"cgroup v2, {own} holds processes that are not of Tidemill (4711)"
    assert "--scope" in why.remedy


def test_a_controller_that_was_not_given_is_named(tmp_path: Path) -> None:
    groups = Machine(tmp_path, v2=FakeKernel(tmp_path / "v2", 2, {"memory", "pids"})).open()
    assert groups.controls == {Control.MEMORY, Control.PIDS}
    assert groups.facts.missing[Control.CPU].reason == f"cgroup v2, {tmp_path}/v2 has not been given the controller cpu"


def test_a_machine_without_cgroups_says_so(tmp_path: Path) -> None:
    groups = open_groups(CgroupFiles(), [], "tidemill-x", ())
    assert {why.reason for why in groups.facts.missing.values()} == {"no cgroup file system is mounted"}
    assert set(groups.facts.missing) == set(Control)


def test_limits_that_are_turned_off_are_missing_by_wish() -> None:
    groups = turned_off()
    assert groups.make("a", LIMITS) is None
    assert {why.remedy for why in groups.facts.missing.values()} == {"set task_limits to auto"}


def test_what_a_killed_node_has_left_is_killed_and_removed(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path / "v2", 2, {"memory"})
    folder = f"{tmp_path}/v2/tidemill-x"
    for group in (folder, f"{folder}/a", f"{folder}/a/b", f"{folder}/c", f"{folder}/node"):
        kernel.make(group)
    kernel.put(f"{folder}/a/b", NOBODY)
    kernel.put(f"{folder}/c", NOBODY + 1)
    kernel.put(f"{folder}/node", NOBODY + 2)
    assert clear(kernel, [folder, f"{tmp_path}/v2/tidemill-gone"], 5.0) == []
    assert sorted(kernel.killed) == [NOBODY, NOBODY + 1]
    # the node is there itself
    assert kernel.children(folder) == [f"{folder}/node"]


def test_what_cannot_be_removed_is_returned(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path / "v2", 2, set(), lacks=frozenset({"cgroup.kill"}))
    folder = f"{tmp_path}/v2/tidemill-x"
    kernel.make(folder)
    kernel.make(f"{folder}/a")
    kernel.put(f"{folder}/a", NOBODY)
    assert clear(kernel, [folder], 0.0) == [f"{folder}/a"]


def test_only_folders_of_nodes_are_remembered(tmp_path: Path) -> None:
    record = tmp_path / "groups"
    assert remembered(record) == []
    remember(record, ["/sys/fs/cgroup/memory/x/tidemill-0a", "/etc", "tidemill-0b"])
    assert remembered(record) == ["/sys/fs/cgroup/memory/x/tidemill-0a"]
    record.write_bytes(b"\xff\xfe")
    assert remembered(record) == []
