"""A real node in a process of its own, and what a test needs to talk to it."""

import hashlib
import json
import os
import signal
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import BlobRef, BuildLease, Event, EventKind, LogBlock, Outcome, Position, TaskLease
from tidemill.node.build.archive import ImageManifest, pack_image
from tidemill.node.discovery import read_card, stop_node
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.leftovers import remembered, remove_folders
from tidemill.node.settings import NodeSettings
from tidemill.node.workdir import open_work_roots, remove_work_roots

NODE = NodeId("local")
PATIENCE_S = 60.0


def until(observe: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What ``observe`` returns as soon as it is true."""
    deadline = time.monotonic() + patience_s
    while not (seen := observe()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)
    return seen


def alive(pid: int) -> bool:
    """Whether process ``pid`` exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it has ended between open and read
        return False


@dataclass
class Reader:
    """Reads events as a scheduler does: what was read is committed by the next call."""

    engine: LocalEngine
    position: Position = field(default_factory=Position)
    seen: list[Event] = field(default_factory=list)

    def read(self, wait_s: float = 1.0) -> list[Event]:
        batch = self.engine.events(NODE, self.position, wait_s)
        if batch.events:
            self.position = Position(incarnation=batch.incarnation, number=batch.events[-1].number)
        self.seen += batch.events
        return list(batch.events)

    def acknowledge(self) -> None:
        self.engine.events(NODE, self.position, 0)

    def outcome(self, attempt: AttemptId) -> Outcome:
        """Reads until ``attempt`` has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for event in self.seen:
                if event.attempt == attempt and event.outcome is not None:
                    return event.outcome
            assert time.monotonic() < deadline, f"{attempt} has not ended"
            self.read()

    def started(self, attempt: AttemptId) -> Event:
        """Reads until ``attempt`` has started."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for event in self.seen:
                if event.attempt == attempt and event.kind is EventKind.STARTED:
                    return event
            assert time.monotonic() < deadline, f"{attempt} has not started"
            self.read()


class Rig:
    """A data directory, a blob store that is a folder, and engines on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.blobs = root / "blobs"
        (self.blobs / "images").mkdir(parents=True)
        (self.blobs / "sources").mkdir()
        # scripts of tests leave their traces here, whoever they run as
        root.chmod(0o777)
        self.settings = NodeSettings(
            data_dir=self.data,
            memory_mb=4096,
            slots=8,
            task_read_paths=(sys.prefix, sys.base_prefix),
            task_write_paths=(str(root),),
            # where tests look at the processes of a task by the numbers that it knows itself
            isolation="process",
        )
        self.term = 1
        self._engines: list[LocalEngine] = []

    def engine(self, **changes: Any) -> LocalEngine:
        settings = replace(self.settings, **changes)
        engine = LocalEngine(settings, lambda name: self.blobs / name)
        self._engines.append(engine)
        return engine

    def image(self, *command: str, language: str = "command", files: Mapping[str, str] | None = None) -> BlobRef:
        app = self.root / "app"
        app.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            file = app / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        out = self.blobs / "image"
        packed = pack_image(ImageManifest(command=command, language=language, python_prefix=None), app, out)
        name = f"images/{packed.digest}.tar.gz"
        out.rename(self.blobs / name)
        return BlobRef(name=name, digest=packed.digest)

    def shell(self, script: str) -> BlobRef:
        return self.image("sh", "-c", script)

    def lease(self, image: BlobRef, index: int = 0, **changes: Any) -> TaskLease:
        lease = TaskLease(
            attempt=AttemptId(OwnerKind.TASK, 7, index, 1),
            log_key=3,
            image=image,
            arguments=json.dumps({"index": index}),
            environment={},
            memory_mb=256,
            timeout_s=60,
            grace_s=5,
        )
        return replace(lease, **changes)

    def build_lease(self, files: Mapping[str, str]) -> BuildLease:
        """To build the folder that ``files`` are, by their names."""
        archive = self.blobs / "sources" / "source.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for name, text in files.items():
                packed.writestr(name, text)
        return BuildLease(
            attempt=AttemptId(OwnerKind.BUILD, 11, 0, 1),
            log_key=3,
            source=BlobRef(name="sources/source.zip", digest=hashlib.sha256(archive.read_bytes()).hexdigest()),
            memory_mb=1024,
            timeout_s=60,
            max_unpacked_bytes=1 << 20,
            max_entries=100,
        )

    def launch(self, engine: LocalEngine, *leases: TaskLease) -> None:
        engine.launch(NODE, leases, self.term)

    def run(self, engine: LocalEngine, lease: TaskLease) -> Outcome:
        self.launch(engine, lease)
        return Reader(engine).outcome(lease.attempt)

    def pid_from(self, name: str) -> int:
        """The pid that a task has written, whole, to a file of the rig."""
        file = self.root / name
        return int(until(lambda: file.exists() and file.read_text().endswith("\n") and file.read_text()))

    @property
    def node_pid(self) -> int:
        card = read_card(self.data / "node.json")
        assert card is not None
        return card.pid

    def kill_node(self) -> None:
        pid = self.node_pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))

    def close(self) -> None:
        if self.data.exists():
            assert stop_node(self.data)
            # a node that was killed, and has no successor, leaves its folder on the tmpfs, and its groups
            remove_work_roots(open_work_roots(self.data))
            remove_folders(CgroupFiles(), remembered(self.data / "node" / "groups"), PATIENCE_S)
        for engine in self._engines:
            engine.detach()


def lines(blocks: list[LogBlock]) -> list[list[Any]]:
    """The lines of blocks: ``[index, attempt, stream, at_ns, severity, text]``."""
    return [json.loads(line) for block in blocks for line in zlib.decompress(block.data).decode().splitlines()]


def read_logs(engine: LocalEngine, enough: Callable[[list[list[Any]]], object]) -> list[list[Any]]:
    """All lines that wait, as soon as there are enough of them."""

    def look() -> list[list[Any]]:
        found = lines(list(engine.logs(NODE, Position(), 1 << 30).blocks))
        return found if enough(found) else []

    found = until(look)
    assert isinstance(found, list)
    return found
