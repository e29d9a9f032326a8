"""A build runs programs of whoever deploys: it is held back as a task is."""

import os

from tests.node.rig import NODE, Reader, Rig, read_logs
from tidemill.model.lease import OutcomeKind

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
