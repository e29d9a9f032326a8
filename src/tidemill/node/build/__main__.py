"""The build as a process of its own: the node starts, captures, limits and kills it as it does a task.

Exit codes: 0 the image and the result are written; 1 the folder cannot be built, the last line of stderr begins with
``error: `` and says why; 2 wrong usage; 75 this machine could not do it (no room, no permission); 143 SIGTERM.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.manifest import Manifest, ManifestError, load_manifest
from tidemill.node.build import BuildError
from tidemill.node.build.archive import APP_NAME, ImageManifest, PackedImage, pack_image
from tidemill.node.build.ending import CANNOT_BUILD, CANNOT_NOW, fail, terminate, write_whole
from tidemill.node.build.entrypoint import Language, check_command, find_entrypoint
from tidemill.node.build.python import build_environment
from tidemill.node.build.source import SourceLimits, unpack_source

BUILD_ENV_NAME: Final = ".env.build"
# what a deploy adds for the build alone (contract 5.4): build arguments and registry credentials never reach an image
BUILD_ONLY: Final = (BUILD_ENV_NAME, ".docker")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What the command line asks for. ``work`` is a folder for what the build needs meanwhile; it is left as it was."""

    source: Path
    out: Path
    result: Path
    work: Path
    limits: SourceLimits


def main(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Build as ``arguments`` say, with ``variables`` as the environment of installers. Returns the exit code."""
    signal.signal(signal.SIGTERM, terminate)
    request = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="build-", dir=request.work, ignore_cleanup_errors=True) as folder:
            result = build(request, Path(folder), variables)
        write_whole(request.result, json.dumps(result, ensure_ascii=False, default=str))
    except (BuildError, ManifestError) as error:
        return fail(str(error), CANNOT_BUILD)
    except OSError as error:
        return fail(f"this node could not finish the build: {error}", CANNOT_NOW)
    return 0


def build(request: BuildRequest, folder: Path, variables: Mapping[str, str]) -> dict[str, object]:
    """Make the image of ``request.source``, working in the empty ``folder``; return what the result file says.

    Raises BuildError or ManifestError when the folder is at fault, OSError when this machine is.
    """
    app = folder / APP_NAME
    # uv looks for settings in the folders above a project, and must not find those of whoever runs the node
    (folder / "pyproject.toml").write_text("[tool.uv]\n", encoding="utf-8")
    unpack_source(request.source, app, request.limits)
    manifest = load_manifest(app)
    for warning in manifest.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    build_variables = {**variables, **manifest.build_args, **_read_build_env(app)}
    _remove_build_only(app)
    entrypoint = find_entrypoint(app, manifest)
    prefix = build_environment(app, build_variables) if entrypoint.language is Language.PYTHON else None
    check_command(app, entrypoint.command)
    image = ImageManifest(command=entrypoint.command, language=entrypoint.language.value, python_prefix=prefix)
    packed = pack_image(image, app, request.out)
    sys.stdout.write(f"image {packed.digest} has {packed.size_bytes} bytes\n")
    return _result(image, packed, manifest)


def _result(image: ImageManifest, packed: PackedImage, manifest: Manifest) -> dict[str, object]:
    return {
        "digest": packed.digest,
        "size_bytes": packed.size_bytes,
        "command": list(image.command),
        "manifest": {"maxConcurrentTasks": None} | manifest.runtime.spec(),
    }


def _read_build_env(app: Path) -> dict[str, str]:
    """``KEY=VALUE`` lines without quoting, ``#`` comments, empty values allowed (contract 5.6)."""
    path = app / BUILD_ENV_NAME
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or "\0" in line:
            raise BuildError(f"{BUILD_ENV_NAME}: line {number} is not KEY=VALUE")
        found[name.strip()] = value.strip()
    return found


def _remove_build_only(app: Path) -> None:
    for name in BUILD_ONLY:
        path = app / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _parse(arguments: Sequence[str]) -> BuildRequest:
    defaults = SourceLimits()
    parser = argparse.ArgumentParser(
        prog="python -m tidemill.node.build", description="Make an image of a folder's zip."
    )
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


if __name__ == "__main__":
    # the one place that reads the environment: installers get it, with the build's arguments added
    sys.exit(main(sys.argv[1:], os.environ))  # noqa: TID251
