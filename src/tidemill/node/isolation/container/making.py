"""Whether Dockerfiles can be built on this machine: by buildah, in containers whose root is nobody here."""

import os
import shutil
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from tidemill.node.isolation.container.bundle import CONFIG_FILE
from tidemill.node.isolation.container.maker import Making, maker_config
from tidemill.node.isolation.container.offer import ContainerOffer
from tidemill.node.isolation.container.runtime import Runtime
from tidemill.node.isolation.protocol import Machine, Needs
from tidemill.node.isolation.uids import open_range, reserved

BUILDER_NAME: Final = "buildah"
INSTALL: Final = "install buildah (Debian: apt install buildah)"
NOT_ASKED: Final = "dockerfile_uid_first is 0"
# half a second where nothing else runs
PROBE_TIMEOUT_S: Final = 30.0

# in /usr, for nothing else of the machine's programs is seen in a build
_FOLDERS: Final = "/usr/bin:/usr/local/bin:/usr/sbin"
_NAME: Final = "tidemill-probe"
_SAYS: Final = "tidemill-launcher"
_DOCKERFILE: Final = f'FROM scratch\nCOPY {_SAYS} /{_SAYS}\nUSER 1000\nRUN ["/{_SAYS}", "--version"]\n'
_POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'


def find_builder() -> Path | None:
    """Where ``buildah`` is on this machine; None where it is not."""
    found = shutil.which(BUILDER_NAME, path=_FOLDERS)
    return None if found is None else Path(found)


def what_lacks(machine: Machine, containers: ContainerOffer) -> str:
    """Why no Dockerfile is built here, as far as it can be said without building one; "" when nothing is known."""
    if containers.problem:
        return containers.problem
    if machine.settings.dockerfile_uid_first == 0:
        return NOT_ASKED
    return "" if find_builder() else f"there is no {BUILDER_NAME}: {INSTALL}"


def probe_dockerfiles(machine: Machine, containers: ContainerOffer) -> str:
    """The same, from building one with a step that runs as another user than root. Half a second where it works."""
    if lacks := what_lacks(machine, containers):
        return lacks
    assert containers.program is not None
    assert machine.launcher is not None
    settings = machine.settings
    tasks = reserved(settings.task_uid_first, settings.task_uid_count)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tidemill-probe-") as folder,
            closing(open_range(settings.dockerfile_uid_first, tasks)) as numbers,
        ):
            return _try(Runtime(containers.program, Path(folder)), machine.launcher, numbers.first)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no Dockerfile can be built: {error}"


def _try(runtime: Runtime, launcher: Path, first: int) -> str:
    runtime.open()
    bundle = runtime.bundle(_NAME)
    work = bundle / "work"
    work.mkdir(parents=True)
    shutil.copy(launcher, work / _SAYS)
    (work / "Dockerfile").write_text(_DOCKERFILE)
    (work / "policy.json").write_text(_POLICY)
    for path in (work, *work.iterdir()):
        os.chown(path, first, first)
    store = ("--root", str(work / "root"), "--runroot", str(work / "run"), "--storage-driver", "vfs")
    how = ("--isolation", "chroot", "--layers=false", "--signature-policy", str(work / "policy.json"))
    making = Making(
        first=first,
        words=(str(find_builder()), *store, "bud", *how, str(work)),
        environment={"PATH": os.defpath, "HOME": str(work), "TMPDIR": str(work)},
        needs=Needs(write=(work,), memory_mb=256),
        launcher=launcher,
        group=f"{_NAME}-{os.getpid()}",
    )
    (bundle / CONFIG_FILE).write_text(maker_config(making))
    try:
        done = subprocess.run(
            runtime.run(_NAME),
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    finally:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(runtime.delete(_NAME), capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    if done.returncode == 0 and _SAYS in done.stdout:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"{BUILDER_NAME} does not build: {lines[-1][-300:]}"
