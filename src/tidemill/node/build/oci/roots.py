"""A root file system that an image of ours can be made of, and how the commands of its image are run."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tidemill.node.build import BuildError
from tidemill.node.build.archive import ImageManifest, RootConfig
from tidemill.node.isolation.container.bundle import PLACES

ROOT_LANGUAGE: Final = "root"

# what is mounted over in each container, so that it must be there, and be what it seems
_FILES: Final = ("etc/hosts", "etc/resolv.conf")


def root_manifest(document: Mapping[str, Any], what: str, otherwise: tuple[str, ...] = ()) -> ImageManifest:
    """How its commands are run, by the configuration of ``what``, an OCI image.

    ``otherwise`` is the command of one that says nothing to run; without it such an image is a BuildError.
    """
    config = document.get("config") or {}
    command = (*_words(config, "Entrypoint"), *_words(config, "Cmd")) or otherwise
    if not command:
        raise BuildError(f"{what} has neither an entrypoint nor a command, and a job runs nothing else")
    variables = dict(word.split("=", 1) for word in _words(config, "Env") if "=" in word)
    directory = str(config.get("WorkingDir") or "/")
    root = RootConfig(environment=variables, directory=directory if directory.startswith("/") else f"/{directory}")
    return ImageManifest(command=command, language=ROOT_LANGUAGE, root=root)


def _words(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = config.get(name) or ()
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise BuildError(f"the image's {name} is no list of words: {words!r}")
    return tuple(words)


def make_places(root: Path) -> None:
    """What a container mounts at has to be there, and no link that leads elsewhere."""
    for place in PLACES:
        path = root / place
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir()
    for file in _FILES:
        path = root / file
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if path.parent.is_symlink() or not path.parent.is_dir():
            path.parent.unlink(missing_ok=True)
            path.parent.mkdir()
        path.touch()
