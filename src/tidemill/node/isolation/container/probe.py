"""Whether containers work on this machine: one is made, runs the launcher, and is gone again."""

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.node.isolation.container.bundle import CONFIG_FILE, LAUNCHER_INSIDE, PLACES, Bind, Container, config
from tidemill.node.isolation.container.runtime import Runtime

PROBE_TIMEOUT_S: Final = 15.0
INSTALL: Final = "install runc (Debian: apt install runc)"
NOT_ROOT: Final = "containers need a server that is root"
NO_USERS: Final = "containers need users of their own for tasks (task_uid_count)"

_TEMPORARY_BYTES: Final = 1 << 20
_NAME: Final = "tidemill-probe"


def probe_containers(launcher: Path | None, uid: int | None, program: Path | None) -> str:
    """Why no container can be made here, and what would help; "" when one was. Some 100 ms where there is a runtime.

    ``uid`` is the user that it runs as; None where tasks have no users of their own. ``program`` is the runtime.
    """
    if lacks := what_lacks(launcher, uid, program):
        return lacks
    assert program is not None
    assert launcher is not None
    assert uid is not None
    try:
        with tempfile.TemporaryDirectory(prefix="tidemill-probe-") as folder:
            return _try(Runtime(program, Path(folder)), launcher, uid)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not make a container: {error}"


def what_lacks(launcher: Path | None, uid: int | None, program: Path | None) -> str:
    """The same, as far as it can be said without making one."""
    if os.geteuid() != 0:
        return NOT_ROOT
    if program is None:
        return f"there is no OCI runtime: {INSTALL}"
    if launcher is None:
        return "the launcher is not built"
    return NO_USERS if uid is None else ""


def _try(runtime: Runtime, launcher: Path, uid: int) -> str:
    runtime.open()
    bundle = runtime.bundle(_NAME)
    root = bundle / "root"
    for place in PLACES:
        (root / place).mkdir(parents=True)
    # whatever the umask: the user of the container passes through
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    container = Container(
        root=root,
        uid=uid,
        words=(LAUNCHER_INSIDE, "--version"),
        environment={},
        binds=[Bind(source=launcher, inside=LAUNCHER_INSIDE)],
        network=False,
        temporary_bytes=_TEMPORARY_BYTES,
        group=f"{_NAME}-{os.getpid()}",
    )
    (bundle / CONFIG_FILE).write_text(config(container))
    words = runtime.run(_NAME)
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    finally:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(runtime.delete(_NAME), capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    if done.returncode == 0 and done.stdout.startswith("tidemill-launcher"):
        return ""
    return f"{runtime.program} does not make a container: {_said(done)}"


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1][-300:]
