"""The build as a process of its own: the node starts, captures, limits and kills it as it does a task.

Exit codes: 0 the image and the result are written; 1 the folder cannot be built, the last line of stderr begins with
``error: `` and says why; 2 wrong usage; 75 this machine could not do it (no room, no permission); 143 SIGTERM.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidemill.manifest import ManifestError, load_manifest
from tidemill.node.build import BuildError
from tidemill.node.build.archive import APP_NAME, ImageManifest, pack_image
from tidemill.node.build.build_only import read_build_env, remove_build_only
from tidemill.node.build.ending import CANNOT_BUILD, CANNOT_NOW, fail, terminate, write_whole
from tidemill.node.build.entrypoint import Language, check_command, find_entrypoint
from tidemill.node.build.python import build_environment
from tidemill.node.build.request import BuildRequest, build_result, read_request
from tidemill.node.build.source import unpack_source


def main(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Build as ``arguments`` say, with ``variables`` as the environment of installers. Returns the exit code."""
    signal.signal(signal.SIGTERM, terminate)
    request = read_request("python -m tidemill.node.build", arguments)
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
    build_variables = {**variables, **manifest.build_args, **read_build_env(app)}
    remove_build_only(app)
    entrypoint = find_entrypoint(app, manifest)
    prefix = build_environment(app, build_variables) if entrypoint.language is Language.PYTHON else None
    check_command(app, entrypoint.command)
    image = ImageManifest(command=entrypoint.command, language=entrypoint.language.value, python_prefix=prefix)
    packed = pack_image(image, app, request.out)
    sys.stdout.write(f"image {packed.digest} has {packed.size_bytes} bytes\n")
    return build_result(image, packed, manifest)


if __name__ == "__main__":
    # the one place that reads the environment: installers get it, with the build's arguments added
    sys.exit(main(sys.argv[1:], os.environ))  # noqa: TID251
