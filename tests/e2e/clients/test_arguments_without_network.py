"""A task without a network still gets its arguments through the official SDKs, unmodified."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.clients import install
from tests.node.rig import Rig, read_logs
from tidemill.model.lease import BlobRef, OutcomeKind

# the first test of a fresh checkout installs what it needs
pytestmark = pytest.mark.timeout(900)

PYTHON: Final = """
import socket
from blaxel.core.jobs import bl_start_job

def greet(name):
    print("interfaces:", [name for _, name in socket.if_nameindex()])
    print("name:", name)

bl_start_job.start(greet)
"""
TYPESCRIPT: Final = """
import { networkInterfaces } from "node:os";
import { blStartJob } from "@blaxel/core";

blStartJob(async ({ name }) => {
  console.log("interfaces:", Object.keys(networkInterfaces()));
  console.log("name:", name);
});
"""
# as a server gives them to every task
ENVIRONMENT: Final = {
    "BL_WORKSPACE": "main",
    "BL_API_KEY": "a-task's-own",
    "BL_API_URL": "http://127.0.0.1:1/v0",
    "BL_RUN_URL": "http://127.0.0.1:1",
    "BL_EXECUTION_KEY": "BL_EXECUTION_ID",
    "BL_EXECUTION_ID": "an-execution",
    "DO_NOT_TRACK": "1",
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    try:
        yield rig
    finally:
        rig.close()


def with_python(rig: Rig) -> BlobRef:
    return rig.image(sys.executable, "-W", "ignore", "main.py", language="python", files={"main.py": PYTHON})


def with_typescript(rig: Rig) -> BlobRef:
    node, script = map(Path, install.typescript("typescript"))
    # modules look for packages beside themselves
    program = script.with_name("without_network.mjs")
    program.write_text(TYPESCRIPT)
    reads = (*rig.settings.task_read_paths, str(install.CACHE))
    rig.settings = replace(rig.settings, task_read_paths=reads)
    return rig.image(str(node), str(program))


@pytest.mark.parametrize("made", [with_python, with_typescript], ids=["python", "typescript"])
def test_the_official_sdk_hands_the_arguments_to_the_function(rig: Rig, made: Callable[[Rig], BlobRef]) -> None:
    image = made(rig)
    engine = rig.engine()
    arguments = '{"name": "Ada"}'
    lease = rig.lease(image, memory_mb=1024, arguments=arguments, environment=ENVIRONMENT, network=False)
    outcome = rig.run(engine, lease)
    said = [line[5] for line in read_logs(engine, len)]
    assert outcome.kind is OutcomeKind.SUCCEEDED, said
    assert any(line.startswith("interfaces:") and "lo" in line and "eth" not in line for line in said), said
    assert any(line.endswith("name: Ada") for line in said), said
