"""What the process of a build is asked for on its command line, and what its result file says."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.manifest import Manifest
from tidemill.node.build.archive import ImageManifest, PackedImage
from tidemill.node.build.source import SourceLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What the command line asks for. ``work`` is a folder for what the build needs meanwhile; it is left as it was."""

    source: Path
    out: Path
    result: Path
    work: Path
    limits: SourceLimits


def read_request(program: str, arguments: Sequence[str]) -> BuildRequest:
    """Exits with code 2 for what is no request."""
    defaults = SourceLimits()
    parser = argparse.ArgumentParser(prog=program, description="Make an image of a folder's zip.")
    for name in ("source", "out", "result", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--max-unpacked-bytes", type=int, default=defaults.max_bytes)
    parser.add_argument("--max-entries", type=int, default=defaults.max_entries)
    found = parser.parse_args(arguments)
    return BuildRequest(
        source=found.source.absolute(),
        out=found.out.absolute(),
        result=found.result.absolute(),
        work=found.work.absolute(),
        limits=SourceLimits(max_bytes=found.max_unpacked_bytes, max_entries=found.max_entries),
    )


def build_result(image: ImageManifest, packed: PackedImage, manifest: Manifest) -> dict[str, object]:
    """What the server is told of an image and of what its folder's ``manifest`` asks for."""
    return {
        "digest": packed.digest,
        "size_bytes": packed.size_bytes,
        "command": list(image.command),
        "manifest": {"maxConcurrentTasks": None} | manifest.runtime.spec(),
    }
