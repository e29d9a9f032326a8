"""A build of a Dockerfile as a process of its own, in a container in which it is root.

Its exit codes are those of a build. It leaves what it has made meanwhile to the node, which removes its private
directory as a whole.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidemill.manifest import FILE_NAME, ManifestError, load_manifest
from tidemill.node.build import BuildError
from tidemill.node.build.archive import APP_NAME, pack_image
from tidemill.node.build.build_only import REGISTRIES_NAME, read_build_env, remove_build_only
from tidemill.node.build.dockerfile.buildah import Buildah, open_buildah
from tidemill.node.build.dockerfile.references import base_images
from tidemill.node.build.ending import CANNOT_BUILD, CANNOT_NOW, fail, terminate, write_whole
from tidemill.node.build.entrypoint import named_command
from tidemill.node.build.oci.roots import make_places, root_manifest
from tidemill.node.build.request import BuildRequest, build_result, read_request
from tidemill.node.build.source import DOCKERFILE, SourceLimits, unpack_source


def main(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Build as ``arguments`` say, with ``variables`` as the builder's environment. Returns the exit code."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        request = read_request("python -m tidemill.node.build.dockerfile", arguments)
        result = build(request, variables)
        write_whole(request.result, json.dumps(result, ensure_ascii=False, default=str))
    except (BuildError, ManifestError) as error:
        return fail(str(error), CANNOT_BUILD)
    except RecursionError:
        return fail("the image nests its folders too deep", CANNOT_BUILD)
    except OSError as error:
        return fail(f"this node could not finish the build: {error}", CANNOT_NOW)
    return 0


def build(request: BuildRequest, variables: Mapping[str, str]) -> dict[str, object]:
    """Make the image of ``request.source``; return what the result file says.

    Raises BuildError or ManifestError when the folder is at fault, OSError when this machine is.
    """
    app = request.work / APP_NAME
    unpack_source(request.source, app, request.limits)
    # it holds the credentials, which no step may see
    request.source.unlink()
    manifest = load_manifest(app)
    for warning in manifest.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    given = {**manifest.build_args, **read_build_env(app)}
    credentials = _read_credentials(app)
    remove_build_only(app)
    if not (app / DOCKERFILE).is_file():
        raise BuildError(f"{DOCKERFILE} is no file")
    folder = request.work / "builder"
    folder.mkdir()
    buildah = open_buildah(folder, variables)
    if credentials:
        _pull_ahead(buildah, app, given, credentials)
    root = request.work / "root"
    buildah.build(app, given, root)
    otherwise = named_command(manifest)
    image = root_manifest(buildah.configuration(), f"the image of the {DOCKERFILE}", otherwise)
    if otherwise and image.command != otherwise:
        sys.stderr.write(f"warning: the image says what it runs, so [entrypoint] in {FILE_NAME} says nothing\n")
    check_size(root, request.limits)
    make_places(root)
    packed = pack_image(image, root, request.out)
    sys.stdout.write(f"image {packed.digest} has {packed.size_bytes} bytes\n")
    return build_result(image, packed, manifest)


def check_size(root: Path, limits: SourceLimits) -> None:
    """Refuse a root file system that is bigger than an archive may be. Raises BuildError."""
    entries = size_bytes = 0
    left = [str(root)]
    while left:
        with os.scandir(left.pop()) as found:
            for entry in found:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    size_bytes += entry.stat(follow_symlinks=False).st_size
                if entries > limits.max_entries:
                    raise BuildError(f"the image has more than {limits.max_entries} entries, the limit of this server")
                if size_bytes > limits.max_bytes:
                    raise BuildError(f"the image has more than {limits.max_bytes} bytes, the limit of this server")


def _pull_ahead(buildah: Buildah, app: Path, given: Mapping[str, str], credentials: bytes) -> None:
    """Fetch what the Dockerfile begins with before any step of it runs; the credentials are gone when this returns."""
    text = (app / DOCKERFILE).read_text(encoding="utf-8", errors="replace")
    file = buildah.folder / "auth.json"
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:  # noqa: PTH123
            opened.write(credentials)
        for image in base_images(text, given):
            buildah.pull(image, file)
    finally:
        file.unlink(missing_ok=True)


def _read_credentials(app: Path) -> bytes:
    """What the deploy has brought for registries; empty where there is nothing in it."""
    path = app / REGISTRIES_NAME
    if not path.is_file():
        return b""
    data = path.read_bytes()
    try:
        document = json.loads(data)
    except ValueError as error:
        raise BuildError(f"{REGISTRIES_NAME} is no JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
        raise BuildError(f'{REGISTRIES_NAME} is not of the form {{"auths": {{"HOST": {{"auth": "BASE64"}}}}}}')
    return data if document.get("auths") else b""


if __name__ == "__main__":
    os.umask(0o022)
    # the one place that reads the environment: the builder gets it
    sys.exit(main(sys.argv[1:], os.environ))  # noqa: TID251
