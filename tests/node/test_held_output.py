"""Output of a task that somebody else holds open when it has ended: a neighbour that was handed the descriptor, say."""

import subprocess
import sys
from typing import Final

import pytest

from tests.node.rig import NODE, Reader, Rig
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import OutcomeKind

# never waits for room, and leaves the reader as much as a pipe holds; ends by itself, whatever becomes of the test
FLOOD: Final = (
    "import fcntl, os, time\n"
    "fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)\n"
    "os.set_blocking(1, False)\n"
    "end = time.monotonic() + 60\n"
    "text = (b'x' * 63 + b'\\n') * 1024\n"
    "os.write(2, b'writes\\n')\n"
    "while time.monotonic() < end:\n"
    "    try:\n"
    "        os.write(1, text)\n"
    "    except BlockingIOError:\n"
    "        pass\n"
    "    except BrokenPipeError:\n"
    "        break\n"
)


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return rig.engine()


@pytest.mark.parametrize("stream", [1, 2])
def test_who_writes_to_it_without_end_does_not_hold_up_the_node(rig: Rig, engine: LocalEngine, stream: int) -> None:
    script = f"echo $$ > {rig.root}/pid; until test -e {rig.root}/go; do sleep 0.02; done"
    lease = rig.lease(rig.shell(script), log_max_bytes=1 << 40)
    rig.launch(engine, lease)
    pid = rig.pid_from("pid")
    with open(f"/proc/{pid}/fd/{stream}", "wb", buffering=0) as held:  # noqa: PTH123  # a link to what has no path
        writer = subprocess.Popen([sys.executable, "-S", "-c", FLOOD], stdout=held, stderr=subprocess.PIPE)
    try:
        assert writer.stderr is not None
        assert writer.stderr.readline() == b"writes\n"
        (rig.root / "go").touch()
        assert Reader(engine).outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
        assert rig.run(engine, rig.lease(rig.shell("true"), 1)).kind is OutcomeKind.SUCCEEDED
        assert engine.inventory(NODE).attempts
    finally:
        writer.kill()
        writer.communicate()
