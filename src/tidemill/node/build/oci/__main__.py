"""A pull as a process of its own, run, limited and killed as a build is; its exit codes are those of a build."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.model.image import RegistryRef, registry_ref
from tidemill.node.build import BuildError
from tidemill.node.build.archive import APP_NAME, pack_image
from tidemill.node.build.ending import CANNOT_BUILD, CANNOT_NOW, fail, terminate, write_whole
from tidemill.node.build.oci.layers import Rootfs
from tidemill.node.build.oci.registry import Registry, read_credentials
from tidemill.node.build.oci.roots import make_places, root_manifest
from tidemill.node.build.source import SourceLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What the command line asks for. ``work`` is a folder for what the pull needs meanwhile; it is left as it was."""

    reference: RegistryRef
    credentials: str
    out: Path
    result: Path
    work: Path
    limits: SourceLimits


def main(arguments: Sequence[str]) -> int:
    """Pull as ``arguments`` say. Returns the exit code."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        request = _parse(arguments)
        with tempfile.TemporaryDirectory(prefix="pull-", dir=request.work, ignore_cleanup_errors=True) as folder:
            result = pull(request, Path(folder))
        write_whole(request.result, json.dumps(result, ensure_ascii=False))
    except BuildError as error:
        return fail(str(error), CANNOT_BUILD)
    except OSError as error:
        return fail(f"this node could not finish the pull: {error}", CANNOT_NOW)
    return 0


def pull(request: PullRequest, folder: Path) -> dict[str, object]:
    """Make an image of ours of one of a registry, working in the empty ``folder``; what the result file says.

    Raises BuildError when the image or its registry is at fault, OSError when this machine is.
    """
    registry = Registry(request.reference, request.credentials)
    remote = registry.look_up()
    pinned = replace(request.reference, digest=remote.digest)
    sys.stdout.write(f"{request.reference} is {remote.digest}, {len(remote.layers)} layers\n")
    root = folder / APP_NAME
    root.mkdir()
    rootfs = Rootfs(root, request.limits)
    for layer in remote.layers:
        file = folder / "layer"
        if layer.size_bytes > request.limits.max_bytes:
            raise BuildError(f"layer {layer.digest} has {layer.size_bytes} bytes, more than this server takes")
        registry.fetch(layer, file)
        rootfs.lay(file, layer.digest)
        file.unlink()
    make_places(root)
    packed = pack_image(root_manifest(remote.config, f"image {pinned}"), root, request.out)
    sys.stdout.write(f"image {packed.digest} has {packed.size_bytes} bytes\n")
    return {"digest": packed.digest, "size_bytes": packed.size_bytes, "reference": str(pinned), "manifest": {}}


def _parse(arguments: Sequence[str]) -> PullRequest:
    defaults = SourceLimits()
    parser = argparse.ArgumentParser(
        prog="python -m tidemill.node.build.oci", description="Make an image of one of a registry."
    )
    parser.add_argument("--image", required=True)
    for name in ("credentials", "out", "result", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--max-unpacked-bytes", type=int, default=defaults.max_bytes)
    parser.add_argument("--max-entries", type=int, default=defaults.max_entries)
    found = parser.parse_args(arguments)
    reference = registry_ref(found.image)
    if reference is None:
        raise BuildError(f"{found.image!r} is no image of a registry")
    return PullRequest(
        reference=reference,
        credentials=read_credentials(found.credentials),
        out=found.out.absolute(),
        result=found.result.absolute(),
        work=found.work.absolute(),
        limits=SourceLimits(max_bytes=found.max_unpacked_bytes, max_entries=found.max_entries),
    )


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
