"""Why no Dockerfile is built on a machine, as doctor says it."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.node.dockerfiles import why_no_dockerfiles
from tidemill.node.isolation.container import making
from tidemill.node.isolation.container.offer import ContainerOffer
from tidemill.node.isolation.findings import confined
from tidemill.node.isolation.opening import Found, look
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

WHY_NOT = why_no_dockerfiles()
needs_dockerfiles = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings(data_dir=tmp_path, memory_mb=64, slots=1, isolation="process")


def looked(settings: NodeSettings) -> Found:
    return look(settings, launcher_path())


def test_without_containers_there_is_no_place_to_build_in(settings: NodeSettings) -> None:
    none = ContainerOffer(problem="there is no OCI runtime", program=None)
    assert making.what_lacks(looked(settings).machine, none) == "there is no OCI runtime"


@needs_dockerfiles
@pytest.mark.parametrize(
    ("builder", "says"),
    [(lambda: None, "there is no buildah: install buildah"), (lambda: Path("/bin/false"), "buildah does not build")],
)
def test_what_is_missing_of_the_builder_is_said(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch, builder: Callable[[], Path | None], says: str
) -> None:
    monkeypatch.setattr(making, "find_builder", builder)
    (stated,) = (each for each in confined(settings).abilities if each.name == "dockerfiles")
    assert not stated.active
    assert says in stated.says
    assert "apt install buildah" in stated.remedy


@needs_dockerfiles
def test_who_wants_no_builds_of_dockerfiles_is_told_of_the_setting(settings: NodeSettings) -> None:
    found = looked(replace(settings, dockerfile_uid_first=0))
    assert making.probe_dockerfiles(found.machine, found.containers) == "dockerfile_uid_first is 0"


@needs_dockerfiles
def test_a_look_that_builds_one_leaves_nothing(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = looked(settings)
    assert making.probe_dockerfiles(found.machine, found.containers) == ""
    assert [*tmp_path.iterdir()] == []
