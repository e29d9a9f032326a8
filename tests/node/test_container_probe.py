"""What is said where no container can be made, by a probe that tries, and by a node that is asked for one."""

import os
from pathlib import Path

import pytest

from tests.node.rig import Rig
from tests.node.roots import root_image, why_no_containers
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.container.probe import INSTALL, NO_USERS, probe_containers
from tidemill.node.isolation.container.runtime import find_runtime
from tidemill.node.isolation.findings import OCI_IMAGES, confined
from tidemill.node.launcher import launcher_path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes containers")

WHY_NOT = why_no_containers()
USER = 200_000


def runtime(folder: Path, script: str) -> Path:
    """A program that is no runtime."""
    program = folder / "runc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    program = runtime(tmp_path, "true")
    assert INSTALL in probe_containers(launcher_path(), USER, None)
    assert probe_containers(launcher_path(), None, program) == NO_USERS
    assert "launcher" in probe_containers(None, USER, program)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo no such cgroup >&2; exit 1", "no such cgroup"),
        ("exit 0", "exit code 0"),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_a_runtime_that_makes_no_container_is_seen(tmp_path: Path, script: str, says: str) -> None:
    found = probe_containers(launcher_path(), USER, runtime(tmp_path, script))
    assert "does not make a container" in found
    assert says in found


def test_a_program_that_does_not_run_is_no_runtime(tmp_path: Path) -> None:
    program = tmp_path / "runc"
    program.write_text("no program\0")
    program.chmod(0o755)
    assert "does not make a container" in probe_containers(launcher_path(), USER, program)


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_where_containers_work_doctor_says_so_and_where_tasks_have_no_users_why_not(rig: Rig) -> None:
    assert probe_containers(launcher_path(), USER, find_runtime()) == ""
    said = {each.name: each for each in confined(rig.settings).abilities}
    assert said[OCI_IMAGES].active


def test_a_node_without_containers_says_so_of_an_image_that_needs_one(rig: Rig) -> None:
    if WHY_NOT.startswith("there is no busybox"):
        pytest.skip(WHY_NOT)
    engine = rig.engine(task_uid_count=0)
    outcome = rig.run(engine, rig.lease(root_image(rig, "/bin/true")))
    assert outcome.kind is OutcomeKind.LOST
    assert NO_USERS in outcome.message
