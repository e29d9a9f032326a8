"""From settings and a machine to an isolation, or to a reason; a script stands for the launcher of another machine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.node.rig import Rig
from tidemill.model.errors import EngineUnavailable
from tidemill.model.protections import Protection
from tidemill.node.isolation.fence import NO_NFT
from tidemill.node.isolation.fencing import NO_USERS, NOT_ASKED, Fencing
from tidemill.node.isolation.findings import BUILD_LAUNCHER, confined, state
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import look
from tidemill.node.isolation.reach import closed_above
from tidemill.node.isolation.system import system_files
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

EVERYTHING = {"privileges": "1", "capabilities": "1", "uid": "1", "files": "7", "calls": "1", "view": "1"}


def launcher_that_says(folder: Path, **changes: str) -> Path:
    launcher = folder / "launcher"
    lines = "".join(f"echo {name} {says}\n" for name, says in (EVERYTHING | changes).items())
    launcher.write_text(f"#!/bin/sh\n{lines}")
    launcher.chmod(0o755)
    return launcher


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings(data_dir=tmp_path / "data", memory_mb=1024, slots=4, isolation="process")


def test_what_the_kernel_lacks_is_left_out_unless_a_minimum_asks_for_it(tmp_path: Path, settings: NodeSettings) -> None:
    old = launcher_that_says(tmp_path, files="missing 38", uid="missing 1")
    found = look(settings, old)
    assert found.level is Level.PROCESS
    assert not found.has_users
    with pytest.raises(IsolationError, match=r"no landlock \(Function not implemented\)"):
        look(replace(settings, minimum_isolation="process"), old)
    assert look(replace(settings, minimum_isolation="process"), launcher_that_says(tmp_path)).level is Level.PROCESS


def test_without_a_launcher_there_is_no_minimum(settings: NodeSettings) -> None:
    assert look(settings, None).level is Level.PROCESS
    with pytest.raises(IsolationError, match="the launcher is not built"):
        look(replace(settings, minimum_isolation="process"), None)


def test_a_launcher_that_does_not_run_is_no_reason_to_run_without(tmp_path: Path, settings: NodeSettings) -> None:
    broken = tmp_path / "launcher"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(IsolationError, match="does not run on this machine"):
        look(settings, broken)


def test_a_closed_directory_above_the_images_is_named_where_it_cannot_be_bridged(
    tmp_path: Path, settings: NodeSettings
) -> None:
    closed = next(folder for folder in reversed(settings.data_dir.parents) if folder.stat().st_mode & 0o001 == 0)
    narrow = launcher_that_says(tmp_path, view="missing 1")
    with pytest.raises(IsolationError) as refused:
        look(settings, narrow)
    assert f"chmod o+x {closed})" in str(refused.value)
    assert f"cannot reach {settings.data_dir}: " in str(refused.value)
    assert look(replace(settings, task_uid_count=0), narrow).level is Level.PROCESS
    assert look(settings, launcher_that_says(tmp_path)).level is Level.PROCESS


def test_one_user_is_too_few(tmp_path: Path, settings: NodeSettings) -> None:
    with pytest.raises(IsolationError, match="make it 2 or more, or 0"):
        look(replace(settings, task_uid_count=1), launcher_that_says(tmp_path))


def test_a_path_to_write_must_exist_and_one_to_read_may_come_later(tmp_path: Path, settings: NodeSettings) -> None:
    launcher, later = launcher_that_says(tmp_path), str(tmp_path / "later")
    with pytest.raises(IsolationError, match="later, which does not exist"):
        look(replace(settings, task_write_paths=(later,)), launcher)
    assert look(replace(settings, task_read_paths=(later,)), launcher).level is Level.PROCESS


def test_the_first_closed_directory_is_found_and_what_does_not_exist_is_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if folder.stat().st_mode & 0o001 == 0:
            assert closed_above(tmp_path / "a" / "b") == closed_above(tmp_path)
            break
    (tmp_path / "a").chmod(0o700)
    assert closed_above(Path("/usr/bin/anything")) is None
    assert closed_above(Path("/no/such/folder")) is None
    assert closed_above(tmp_path / "a" / "b") in {tmp_path / "a", *tmp_path.parents}


def test_a_node_that_cannot_confine_says_why_and_starts_nothing(rig: Rig) -> None:
    engine = rig.engine(isolation="container", task_uid_count=0)
    with pytest.raises(EngineUnavailable, match="isolation is container, which this machine does not have"):
        engine.nodes()


def test_a_node_says_what_it_confines_tasks_with(rig: Rig) -> None:
    (node,) = rig.engine().nodes()
    assert {"isolation_process", "launcher", "no_capabilities", "seccomp"} <= node.capabilities
    assert ({"own_uid", "hidden_processes"} <= node.capabilities) == (os.geteuid() == 0)


def test_doctor_names_what_is_missing_and_how_to_get_it(settings: NodeSettings) -> None:
    found = confined(settings)
    assert found.level is Level.PROCESS
    assert {each.name for each in found.protections} == {*list(Protection)[: list(Protection).index(Protection.MEMORY)]}
    without_users = {each.name: each for each in confined(replace(settings, task_uid_count=0)).protections}
    assert not without_users["own_uid"].active
    assert without_users["own_uid"].remedy
    assert without_users["hidden_processes"].remedy
    refused = confined(replace(settings, isolation="process", minimum_isolation="sandbox"))
    assert refused.level is None
    assert "sandbox" in refused.problem


def test_without_a_launcher_the_remedy_is_to_build_one(settings: NodeSettings) -> None:
    stated = state(look(settings, None), Fencing(problem=NO_USERS))
    assert {(each.active, each.remedy) for each in stated} == {(False, BUILD_LAUNCHER)}


def test_who_is_not_root_is_told_so_and_not_which_call_failed(tmp_path: Path, settings: NodeSettings) -> None:
    found = look(settings, launcher_that_says(tmp_path, uid="missing 1", view="missing 1"))
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        os.write(
            write, "\n".join(f"{each.name}: {each.says}" for each in state(found, Fencing(problem=NO_USERS))).encode()
        )
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as said:
        lines = said.read().splitlines()
    for name in ("own_uid", "hidden_processes"):
        assert f"{name}: not here: the server is not root, so tasks are its user" in lines


@pytest.mark.parametrize(("version", "users", "active"), [("7", 0, True), ("3", 0, False), ("3", 8, True)])
def test_signals_are_kept_inside_by_a_new_landlock_or_by_users_of_their_own(
    tmp_path: Path, settings: NodeSettings, version: str, users: int, active: bool
) -> None:
    if users and os.geteuid() != 0:
        pytest.skip("only root has users for tasks")
    settings = replace(settings, task_uid_count=users)
    stated = {each.name: each for each in state(look(settings, launcher_that_says(tmp_path, files=version)), Fencing())}
    assert stated["signals"].active is active
    if not active:
        assert stated["signals"].says == "not here: this kernel has version 3 of Landlock, signals need 6"


def test_what_programs_need_of_the_system_is_named_once() -> None:
    files = system_files()
    assert Path("/usr") in files.read
    assert not any(path != Path("/usr") and path.resolve().is_relative_to("/usr") for path in files.read)
    assert not {Path("/"), Path("/etc"), Path("/etc/shadow"), Path("/tmp"), Path("/dev")} & {*files.read, *files.write}


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        (NO_NFT, "install the package nftables"),
        (NOT_ASKED, "name addresses in task_forbidden_addresses"),
        ("nft refuses: Operation not permitted", "CAP_NET_ADMIN"),
        ("", ""),
    ],
)
def test_why_metadata_is_within_reach_is_said_and_how_to_change_it(
    settings: NodeSettings, problem: str, remedy: str
) -> None:
    (stated,) = (
        each for each in state(look(settings, launcher_path()), Fencing(problem=problem)) if each.name == "metadata"
    )
    assert stated.active == (problem == "")
    assert problem in stated.says
    assert remedy in stated.remedy


def test_what_jobs_may_ask_for_is_stated_with_what_is_missing_of_it(settings: NodeSettings) -> None:
    able = {each.name: each for each in confined(settings).abilities}
    assert {*able} == {"no_network", "volumes", "oci_images", "dockerfiles", "sized_directories"}
    assert able["sized_directories"].active == (os.geteuid() == 0)
    for each in able.values():
        assert each.active == (each.remedy == "")
