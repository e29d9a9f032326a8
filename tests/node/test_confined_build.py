"""A build runs programs of whoever deploys: it is held back as a task is."""

import os
from pathlib import Path

import pytest

from tests.node.rig import NODE, Reader, Rig, read_logs
from tidemill.model.lease import OutcomeKind
from tidemill.node.build.delivery import IMAGE_FILE, SOURCE_FILE, give_source, take_image

# a build backend that lies in the project itself: no index is asked for anything
PROJECT = """
[project]
name = "nosy"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import json, os, pathlib, subprocess, sys

def build_wheel(*_words, **_more):
    def got(name, trial):
        try:
            trial()
        except OSError:
            return []
        return [name]

    data, blobs, images = pathlib.Path("DATA"), pathlib.Path("BLOBS"), pathlib.Path("DATA/images")
    found = [
        *got("the key ring", (data / "keyring.json").read_text),
        *got("the data directory", lambda: os.listdir(data)),
        *got("the images", lambda: os.listdir(images)),
        *got("a new image", (images / "new").mkdir),
        *got("an image of others", lambda: os.listdir(blobs / "incoming")),
        *got("sources of others", (blobs / "sources" / "other.zip").read_text),
        *got("the node", lambda: os.kill(NODE, 0)),
        *got("the server", lambda: os.kill(SERVER, 0)),
        *got("the server's environment", pathlib.Path("/proc/SERVER/environ").read_bytes),
        *got("the passwords", pathlib.Path("/etc/shadow").read_bytes),
        *got("another user", lambda: (os.setgroups([]), os.setuid(1))),
        *got("a namespace", lambda: subprocess.run(["unshare", "--user", "true"], check=True)),
    ]
    print("FOUND", json.dumps(found), file=sys.stderr, flush=True)
    sys.exit(3)
"""


def test_a_build_finds_no_way_out(rig: Rig) -> None:
    # without what the tests otherwise let everybody write
    engine = rig.engine(task_write_paths=())
    engine.nodes()
    (rig.data / "keyring.json").write_text("secret")
    (rig.blobs / "sources" / "other.zip").write_text("secret")
    places = {"DATA": str(rig.data), "BLOBS": str(rig.blobs), "NODE": str(rig.node_pid), "SERVER": str(os.getpid())}
    backend = BACKEND.replace("OSError", "(OSError, subprocess.SubprocessError)")
    for name, value in places.items():
        backend = backend.replace(name, value)
    files = {"blaxel.toml": '[entrypoint]\nprod = "python main.py"\n', "main.py": "", "pyproject.toml": PROJECT}
    lease = rig.build_lease({**files, "backend.py": backend})
    engine.launch(NODE, [lease], rig.term)
    outcome = Reader(engine).outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.EXIT_CODE, outcome
    said = "\n".join(
        str(line[5]) for line in read_logs(engine, lambda found: any("FOUND" in line[5] for line in found))
    )
    assert "FOUND []" in said, said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to give to builds")
def test_builds_are_a_user_of_their_own_and_so_are_their_caches(rig: Rig) -> None:
    engine = rig.engine()
    engine.nodes()
    backend = "import os, sys\ndef build_wheel(*_words, **_more):\n"
    backend += "    print('USER', os.getuid(), file=sys.stderr, flush=True)\n    sys.exit(3)\n"
    files = {"blaxel.toml": '[entrypoint]\nprod = "python main.py"\n', "main.py": "", "pyproject.toml": PROJECT}
    lease = rig.build_lease({**files, "backend.py": backend})
    engine.launch(NODE, [lease], rig.term)
    assert Reader(engine).outcome(lease.attempt).kind is OutcomeKind.EXIT_CODE
    (said,) = [
        line[5] for line in read_logs(engine, lambda found: any("USER" in x[5] for x in found)) if "USER" in line[5]
    ]
    builder = int(said.split()[-1])
    assert builder >= rig.settings.task_uid_first
    cache = rig.data / "cache" / "uv"
    assert {path.lstat().st_uid for path in (cache, *cache.rglob("*"))} == {builder}
    task = rig.run(engine, rig.lease(rig.shell("id -u > $TIDEMILL_RESULT_FILE")))
    assert task.result not in {None, f"{builder}\n", "0\n"}


def test_what_is_no_file_of_the_build_is_not_taken_for_its_image(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "image"
    work.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for leave in (lambda made: made.symlink_to(secret), lambda made: made.hardlink_to(secret), os.mkfifo, os.mkdir):
        made = work / IMAGE_FILE
        leave(made)
        with pytest.raises(OSError, match="no file of the build's own"):
            take_image(work, target)
        assert not target.exists()
        made.rmdir() if made.is_dir() and not made.is_symlink() else made.unlink()
    (work / IMAGE_FILE).write_text("image")
    take_image(work, target)
    assert target.read_text() == "image"


def test_a_source_is_given_without_being_copied_and_without_being_anybodys(tmp_path: Path) -> None:
    archive, work = tmp_path / "archive", tmp_path / "work"
    work.mkdir()
    archive.write_text("source")
    archive.chmod(0o644)
    give_source(archive, work)
    assert (work / SOURCE_FILE).samefile(archive)
    (work / SOURCE_FILE).unlink()
    archive.chmod(0o600)
    give_source(archive, work)
    assert (work / SOURCE_FILE).read_text() == "source"
    assert (work / SOURCE_FILE).stat().st_mode & 0o777 == 0o644
    assert archive.stat().st_mode & 0o777 == 0o600
