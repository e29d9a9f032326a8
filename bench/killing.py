"""How long something of a task lives on after its cancel or its timeout, whatever it has done to live on.

    python -m bench.killing [COUNT]

On real nodes, at every level that this machine has, with cgroups and without: for each kind of tree the longest of
COUNT cancels and timeouts (3), in ms beyond the grace of 0.2 s. What is promised is 2,000. Processes are found by
listing those of the machine, by the user or a word in the environment that they have from their task.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import BlobRef, TaskLease
from tidemill.node.build.archive import ImageManifest, pack_image
from tidemill.node.discovery import stop_node
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import look
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings

NODE: Final = NodeId("local")
COUNT: Final = 3
GRACE_S: Final = 0.2
TIMEOUT_S: Final = 1.5
PROMISED_S: Final = 2.0
# a tree that is not there by then, or still there, is an error of the bench and not a figure
PATIENCE_S: Final = 30.0
USERS: Final = 64
MARKER: Final = "TIDEMILL_BENCH_KILLING"
_PAUSE_S: Final = 0.002

_ON: Final = "trap '' TERM HUP INT; : > $READY; while :; do sleep 1; done"
# each process lives for a moment and has another one by then; all of them for no longer than 20 s
_CHAINS: Final = (
    "import os, time\n"
    "end = time.monotonic() + 20\n"
    "open(os.environ['READY'], 'w').close()\n"
    "for _ in range({width}):\n"
    "    if os.fork() == 0:\n"
    "{own}"
    "        while time.monotonic() < end:\n"
    "            if os.fork():\n"
    "                os._exit(0)\n"
    "{each}"
    "        os._exit(0)\n"
    "time.sleep(600)\n"
)
TREES: Final[Mapping[str, str]] = {
    "ends on SIGTERM": ": > $READY; exec sleep 600",
    "ignores SIGTERM": _ON,
    "a daemon in a session of its own": f'(setsid sh -c "{_ON.replace("$", chr(92) + "$")}" &); sleep 600',
    "stopped": "trap '' TERM; (sh -c 'kill -STOP $$; sleep 600' &); : > $READY; while :; do kill -STOP $$; done",
    "100 processes": "trap '' TERM; for i in $(seq 100); do sleep 600 & done; : > $READY; while :; do wait; done",
    "chains of forks": "trap '' TERM; exec python3 -S -c \"$CHAINS\"",
    "150 chains, each fork a session": "trap '' TERM; exec python3 -S -c \"$SESSIONS\"",
}
_PROGRAMS: Final = {
    "CHAINS": _CHAINS.format(width=24, own="", each=""),
    "SESSIONS": _CHAINS.format(width=150, own="        os.setsid()\n", each="            os.setsid()\n"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and what its tasks are known by."""

    engine: LocalEngine
    image: BlobRef
    shared: Path
    uids: range

    def lease(self, script: str, number: int, timeout_s: float) -> TaskLease:
        environment = {"SCRIPT": script, "READY": str(self.ready(number)), MARKER: str(self.shared), **_PROGRAMS}
        return TaskLease(
            attempt=AttemptId(OwnerKind.TASK, 1, number, 1),
            log_key=1,
            image=self.image,
            arguments=json.dumps({}),
            environment=environment,
            memory_mb=128,
            timeout_s=timeout_s,
            grace_s=GRACE_S,
        )

    def ready(self, number: int) -> Path:
        return self.shared / f"ready-{number}"

    def is_alive(self) -> bool:
        return any(self._is_ours(entry) for entry in os.scandir("/proc") if entry.name.isdigit())

    def _is_ours(self, entry: "os.DirEntry[str]") -> bool:
        with suppress(OSError):
            status = Path(entry.path, "status").read_text()
            if "\nState:\tZ" in status or "\nState:\tX" in status:
                return False
            uid = int(status.partition("\nUid:\t")[2].split(None, 1)[0])
            return uid in self.uids or str(self.shared).encode() in Path(entry.path, "environ").read_bytes()
        return False


@contextmanager
def placed(level: Level, limits: str) -> Iterator[Place]:
    """A node at ``level``, with cgroups as far as there are any (``auto``) or with none."""
    with tempfile.TemporaryDirectory(prefix="tidemill-killing-", dir="/tmp") as folder:
        root = Path(folder)
        root.chmod(0o711)
        shared, app, blobs = root / "shared", root / "app", root / "blobs"
        for path in (shared, app, blobs):
            path.mkdir()
        shared.chmod(0o777)
        packed = pack_image(
            ImageManifest(command=("sh", "-c", 'eval "$SCRIPT"'), language="command"), app, blobs / "image"
        )
        first = 1_000_000 + os.getpid() % 10_000 * USERS
        settings = NodeSettings(
            data_dir=root / "data",
            memory_mb=1024,
            slots=4,
            isolation=level,
            limits=limits,
            task_pids=256,
            task_uid_first=first,
            task_uid_count=USERS,
            task_write_paths=(str(shared),),
        )
        engine = LocalEngine(settings, lambda name: blobs / name)
        uids = range(first, first + USERS) if os.geteuid() == 0 else range(0)
        try:
            engine.nodes()
            yield Place(engine, BlobRef(name="image", digest=packed.digest), shared, uids)
        finally:
            stop_node(settings.data_dir)
            engine.detach()


def until(seen: Callable[[], bool]) -> float:
    """When ``seen`` was first true, by the monotonic clock."""
    end = time.monotonic() + PATIENCE_S
    while not seen():
        if time.monotonic() > end:
            raise SystemExit("what was waited for did not happen: something is alive, or never was")
        time.sleep(_PAUSE_S)
    return time.monotonic()


def lived_on_s(place: Place, script: str, number: int, *, cancelled: bool) -> float:
    """How long beyond its grace something of one task was alive."""
    lease = place.lease(script, number, 600 if cancelled else TIMEOUT_S)
    place.engine.launch(NODE, [lease], 1)
    asked = until(place.ready(number).exists)
    if cancelled:
        asked = time.monotonic()
        place.engine.cancel(NODE, [lease.attempt], GRACE_S, 1)
    else:
        # it began at most as long before as its own program took to say so
        asked += TIMEOUT_S
    return until(lambda: not place.is_alive()) - asked - GRACE_S


def main(count: int) -> int:
    table = Table("kind of tree", title=f"alive beyond a grace of {GRACE_S:g} s, ms; promised: {PROMISED_S * 1000:g}")
    columns: list[dict[str, float]] = []
    for level in Level:
        for limits in ("auto", "none"):
            try:
                look(NodeSettings(data_dir=Path("/nowhere"), memory_mb=64, slots=1, isolation=level), launcher_path())
            except IsolationError as error:
                sys.stderr.write(f"level {level}: {error}\n")
                break
            table.add_column(f"{level}, {'cgroups' if limits == 'auto' else 'none'}", justify="right")
            columns.append(_column(level, limits, count))
    for tree in TREES:
        table.add_row(tree, *(f"{max(0.0, column[tree]) * 1000:.0f}" for column in columns))
    Console(width=120).print(table)
    worst = max(max(column.values()) for column in columns)
    return int(worst > PROMISED_S)


def _column(level: Level, limits: str, count: int) -> dict[str, float]:
    """Of each kind of tree the longest of all its cancels and timeouts."""
    found = dict.fromkeys(TREES, 0.0)
    number = 0
    with placed(level, limits) as place:
        for tree, script in TREES.items():
            for cancelled in (True, False) * count:
                number += 1
                found[tree] = max(found[tree], lived_on_s(place, script, number, cancelled=cancelled))
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
