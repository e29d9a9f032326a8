"""What is asked of buildah and heard of it, with a program in its place that says what the tests want."""

import os
from pathlib import Path

import pytest

from tidemill.node.build import BuildError
from tidemill.node.build.dockerfile.__main__ import check_size
from tidemill.node.build.dockerfile.buildah import Buildah, Said, open_buildah
from tidemill.node.build.source import SourceLimits


def builder(folder: Path, script: str) -> dict[str, str]:
    """Variables with which ``buildah`` is a shell script."""
    program = folder / "bin" / "buildah"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.defpath}"}


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")


def opened(tmp_path: Path, script: str) -> Buildah:
    (tmp_path / "folder").mkdir()
    return open_buildah(tmp_path / "folder", builder(tmp_path, script))


def test_where_the_kernel_lays_no_layers_they_are_copies(tmp_path: Path) -> None:
    script = 'case "$*" in *--storage-driver=overlay*) echo "not supported" >&2; exit 125;; esac'
    assert opened(tmp_path, script).driver == "vfs"


def test_where_it_does_it_does(tmp_path: Path) -> None:
    assert opened(tmp_path, "exit 0").driver == "overlay"


def test_a_builder_that_does_not_work_at_all_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="buildah info: no room"):
        opened(tmp_path, 'echo "no room" >&2; exit 1')


def test_it_works_in_its_own_folder_by_its_own_settings_alone(tmp_path: Path) -> None:
    found = opened(tmp_path, f'env > {tmp_path}/env; echo "$*" > {tmp_path}/words')
    found.build(tmp_path, {"B": "2 3", "A": ""}, tmp_path / "folder" / "root")
    words = (tmp_path / "words").read_text()
    assert "--build-arg=A= --build-arg=B=2 3 " in words
    own = [word for word in words.split() if str(tmp_path) in word]
    assert all(f"{tmp_path}/folder/" in word for word in own[:-2]), own
    assert own[-2:] == [f"--file={tmp_path}/Dockerfile", str(tmp_path)]
    variables = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    for name in ("HOME", "TMPDIR", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF"):
        assert variables[name].startswith(f"{tmp_path}/folder"), name


def test_an_end_without_a_word_is_said_too(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^Dockerfile: the builder was ended$"):
        opened(tmp_path, 'case "$*" in *bud*) kill -9 $$;; esac').build(tmp_path, {}, tmp_path / "root")


@pytest.mark.parametrize(
    ("lines", "step", "error"),
    [
        (["STEP 1/2: FROM a", "STEP 2/2: RUN b", "x"], "step 2/2 (RUN b)", ""),
        (["[1/2] STEP 3/4: COPY a b"], "step 3/4 (COPY a b)", ""),
        (["STEP 2: RUN b"], "step 2 (RUN b)", ""),
        (['Error: building at STEP "RUN a "b": c": exit status 3'], "", "exit status 3"),
        (["Error: no FROM statement found"], "", "no FROM statement found"),
        (["error building at STEP \"RUN x\": exit status 1", "Error: later"], "", "later"),
        (["an Error: inside", " STEP 1/1: no"], "", ""),
    ],
)  # fmt: skip
def test_how_far_it_came_is_heard(lines: list[str], step: str, error: str) -> None:
    said = Said()
    for line in lines:
        said.hear(line)
    assert (said.step, said.error) == (step, error)


def test_what_is_too_big_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_bytes(b"x" * 60)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"x" * 40)
    # what lies elsewhere is counted nowhere
    (tmp_path / "link").symlink_to("/usr")
    check_size(tmp_path, SourceLimits(max_bytes=100, max_entries=5))
    with pytest.raises(BuildError, match="more than 99 bytes"):
        check_size(tmp_path, SourceLimits(max_bytes=99, max_entries=5))
    with pytest.raises(BuildError, match="more than 4 entries"):
        check_size(tmp_path, SourceLimits(max_bytes=100, max_entries=4))
