"""Images with a root file system of their own, made of what this machine has; and why there are none."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.node.rig import Rig
from tidemill.model.lease import BlobRef
from tidemill.node.build.archive import ImageManifest, RootConfig, pack_image
from tidemill.node.isolation.container.bundle import PLACES
from tidemill.node.isolation.container.probe import probe_containers
from tidemill.node.isolation.container.runtime import find_runtime
from tidemill.node.launcher import launcher_path

BUSYBOX = "busybox"
_PROGRAMS = ("sh", "cat", "id", "ls", "sleep", "kill", "env", "pwd", "touch", "mkdir", "dd", "mount", "setsid", "head")
_MORE_PROGRAMS = ("chmod", "mknod", "test", "rm", "unshare", "tr", "grep", "readlink", "dirname", "wc", "wget", "true")


def why_no_containers() -> str:
    """Why no test of containers can run here; "" when they can."""
    if shutil.which(BUSYBOX) is None:
        return "there is no busybox to make a root file system of (Debian: apt install busybox-static)"
    return probe_containers(launcher_path(), 200_000, find_runtime())


def fill(root: Path, files: Mapping[str, str] | None = None) -> None:
    """Make ``root``, which exists, a root file system with a shell."""
    for place in (*PLACES, "etc", "bin"):
        (root / place).mkdir(exist_ok=True)
    for name in ("hosts", "resolv.conf"):
        (root / "etc" / name).touch()
    found = shutil.which(BUSYBOX)
    assert found is not None
    shutil.copy(found, root / "bin" / BUSYBOX)
    for name in (*_PROGRAMS, *_MORE_PROGRAMS):
        (root / "bin" / name).symlink_to(BUSYBOX)
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(0o755)


def root_image(
    rig: Rig, *command: str, config: RootConfig | None = None, files: Mapping[str, str] | None = None
) -> BlobRef:
    """An image in the rig's store, as a build leaves one of a registry's."""
    root = rig.root / "root"
    root.mkdir()
    fill(root, files)
    out = rig.blobs / "image"
    manifest = ImageManifest(command=command, language="root", root=config or RootConfig())
    packed = pack_image(manifest, root, out)
    shutil.rmtree(root)
    name = f"images/{packed.digest}.tar.gz"
    out.rename(rig.blobs / name)
    return BlobRef(name=name, digest=packed.digest)
