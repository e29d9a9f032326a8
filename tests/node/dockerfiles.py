"""Builds of Dockerfiles on a real node, and why there are none here."""

import functools
import hashlib
import itertools
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.node.rig import NODE, Reader, Rig, read_logs
from tests.node.roots import BUSYBOX, why_no_containers
from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.image import image_blob
from tidemill.model.lease import BlobRef, BuildLease, Outcome
from tidemill.node.isolation.container import making
from tidemill.node.isolation.opening import look
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import default_settings

_FOUND = shutil.which(BUSYBOX)
_BUSYBOX = Path(_FOUND or BUSYBOX)
# a stage with a shell, of what is in every folder that is built here
SHELL = f'FROM scratch\nCOPY {BUSYBOX} /bin/{BUSYBOX}\nRUN ["/bin/{BUSYBOX}", "--install", "-s", "/bin"]\n'


@functools.cache
def why_no_dockerfiles() -> str:
    """Why no test of Dockerfiles can run here; "" when they can."""
    if why := why_no_containers():
        return why
    found = look(default_settings(Path("/nowhere")), launcher_path())
    return making.probe_dockerfiles(found.machine, found.containers)


@dataclass
class Yard:
    """A node that builds, one after the other."""

    rig: Rig
    engine: LocalEngine
    reader: Reader
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def lease(self, files: Mapping[str, str | bytes], **changes: Any) -> BuildLease:
        """To build the folder that ``files`` are, by their names, with a shell beside them."""
        number = next(self.numbers)
        archive = self.rig.blobs / "sources" / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(_BUSYBOX, BUSYBOX)
            for name, content in files.items():
                packed.writestr(name, content)
        lease = BuildLease(
            attempt=AttemptId(OwnerKind.BUILD, number, 0, 1),
            log_key=number,
            source=BlobRef(name=f"sources/{number}.zip", digest=hashlib.sha256(archive.read_bytes()).hexdigest()),
            memory_mb=1024,
            timeout_s=60,
            max_unpacked_bytes=1 << 30,
            max_entries=10_000,
        )
        return replace(lease, **changes)

    def start(self, lease: BuildLease) -> None:
        self.engine.launch(NODE, [lease], self.rig.term)

    def build(self, dockerfile: str, files: Mapping[str, str | bytes] | None = None, **changes: Any) -> Outcome:
        lease = self.lease({"Dockerfile": dockerfile, **(files or {})}, **changes)
        self.start(lease)
        return self.reader.outcome(lease.attempt)

    def log(self, word: str) -> str:
        """All that builds of this node have said, as soon as the word is in it."""
        found = read_logs(self.engine, lambda said: any(word in line[5] for line in said))
        return "\n".join(str(line[5]) for line in found)

    def image(self, outcome: Outcome) -> BlobRef:
        """What a build has made, where tasks find it."""
        assert outcome.result is not None, outcome
        digest = json.loads(outcome.result)["digest"]
        (made,) = (self.rig.blobs / "incoming").iterdir()
        made.rename(self.rig.blobs / image_blob(digest))
        return BlobRef(name=image_blob(digest), digest=digest)


@contextmanager
def yard(root: Path) -> Iterator[Yard]:
    rig = Rig(root)
    try:
        engine = rig.engine(isolation="process")
        yield Yard(rig, engine, Reader(engine))
    finally:
        rig.close()
