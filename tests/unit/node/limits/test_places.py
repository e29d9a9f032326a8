"""Where the cgroups of a process are, from what the kernel says of its mounts and groups."""

import os
from pathlib import Path

import pytest

from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.places import Place, before_leaf, own_places

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "33 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


class Offered(CgroupFiles):
    """Every v2 group has the same controllers; some were given to a service."""

    def __init__(self, *delegated: str) -> None:
        self.delegated = delegated

    def is_delegated(self, folder: str) -> bool:
        return folder in self.delegated

    def read(self, path: str) -> str:
        assert path.endswith("/cgroup.controllers")
        return "memory pids"


def places(tmp_path: Path, mountinfo: str, cgroup: str, *delegated: str) -> list[Place]:
    (tmp_path / "mountinfo").write_text(mountinfo)
    (tmp_path / "cgroup").write_text(cgroup)
    return own_places(Offered(*delegated), tmp_path)


def v2(folder: str) -> Place:
    return Place(version=2, controllers=frozenset({"memory", "pids"}), folder=folder)


def v1(folder: str, *controllers: str) -> Place:
    return Place(version=1, controllers=frozenset(controllers), folder=folder)


def test_v2(tmp_path: Path) -> None:
    found = places(tmp_path, V2_MOUNT, "0::/system.slice/tidemill.service\n")
    assert found == [v2("/sys/fs/cgroup/system.slice/tidemill.service")]


def test_the_machines_first_group(tmp_path: Path) -> None:
    assert places(tmp_path, V2_MOUNT, "0::/\n") == [v2("/sys/fs/cgroup")]


def test_v1_with_controllers_that_are_mounted_together_and_v2_beside_it(tmp_path: Path) -> None:
    unified = V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    found = places(tmp_path, V1_MOUNTS + unified, "4:memory:/a\n3:cpu,cpuacct:/a/b\n1:name=systemd:/a\n0::/a/b\n")
    assert found == [
        v1("/sys/fs/cgroup/memory/a", "memory"),
        v1("/sys/fs/cgroup/cpu,cpuacct/a/b", "cpu", "cpuacct"),
        v2("/sys/fs/cgroup/unified/a/b"),
    ]


def test_a_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    mounts = "33 31 0:29 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert places(tmp_path, mounts, "4:memory:/docker/f00/x\n") == [v1("/sys/fs/cgroup/memory/x", "memory")]
    assert places(tmp_path, mounts, "4:memory:/docker/f00\n") == [v1("/sys/fs/cgroup/memory", "memory")]
    assert places(tmp_path, mounts, "4:memory:/docker/f001\n") == []


def test_a_node_that_was_moved_is_where_it_was_before(tmp_path: Path) -> None:
    found = places(tmp_path, V2_MOUNT, "0::/system.slice/tidemill.service/tidemill-0a/node\n")
    assert found == [v2("/sys/fs/cgroup/system.slice/tidemill.service")]


def test_a_service_in_a_part_of_what_it_was_given_uses_the_whole(tmp_path: Path) -> None:
    service = "/sys/fs/cgroup/system.slice/tidemill.service"
    assert places(tmp_path, V2_MOUNT, "0::/system.slice/tidemill.service/server\n", service) == [v2(service)]
    assert places(tmp_path, V2_MOUNT, "0::/system.slice/tidemill.service\n", service) == [v2(service)]
    both = (service, f"{service}/server")
    assert places(tmp_path, V2_MOUNT, "0::/system.slice/tidemill.service/server\n", *both) == [v2(both[1])]


def test_what_systemd_marks_as_given_is_seen(tmp_path: Path) -> None:
    files = CgroupFiles()
    assert not files.is_delegated(str(tmp_path))
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"{tmp_path} has no extended attributes: {error}")
    assert files.is_delegated(str(tmp_path))


def test_a_hierarchy_that_is_not_mounted_is_not_there(tmp_path: Path) -> None:
    assert places(tmp_path, V1_MOUNTS, "5:pids:/\n0::/\n") == []


def test_a_path_with_a_blank(tmp_path: Path) -> None:
    mount = V2_MOUNT.replace("/sys/fs/cgroup ", r"/mnt/my\040groups ")
    assert places(tmp_path, mount, "0::/a\n") == [v2("/mnt/my groups/a")]


def test_no_proc_is_no_place(tmp_path: Path) -> None:
    assert own_places(Offered(), tmp_path) == []


def test_a_group_that_nobody_may_read_has_no_controller(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(V2_MOUNT.replace("/sys/fs/cgroup ", f"{tmp_path} "))
    (tmp_path / "cgroup").write_text("0::/a\n")
    assert own_places(CgroupFiles(), tmp_path) == [Place(version=2, controllers=frozenset(), folder=f"{tmp_path}/a")]


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("/service/tidemill-0a/node", "/service"),
        ("/tidemill-0a/node", ""),
        ("/service/node", "/service/node"),
        ("/service/tidemill-0a", "/service/tidemill-0a"),
        ("/", "/"),
    ],
)
def test_a_node_that_was_moved_counts_as_where_it_was(path: str, before: str) -> None:
    assert before_leaf(path) == before
