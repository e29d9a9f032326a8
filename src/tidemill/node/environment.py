"""What the process of an attempt is started with: its command and its environment."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tidemill.model.lease import BuildLease, TaskLease
from tidemill.node.build.archive import APP_NAME, ImageManifest, RootConfig
from tidemill.node.build.delivery import CREDENTIALS_FILE, IMAGE_FILE, SOURCE_FILE
from tidemill.node.interpreters import both_names
from tidemill.node.isolation.container.bundle import WORK_INSIDE
from tidemill.node.isolation.protocol import Needs, Root

TASK_FILE: Final = "task.json"
RESULT_FILE: Final = "result.json"
# variables that name files for those who install packages
INSTALLER_PREFIXES: Final = ("UV_", "PIP_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# the official SDKs read their position in the document from the variable that BL_TASK_KEY names; ours has one element,
# so that is always 0, and TASK_INDEX can hold the true index (docs/wire.md, 8.1)
POSITION_VARIABLE: Final = "TIDEMILL_POSITION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command with all it needs but its descriptors."""

    words: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    needs: Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlaces:
    """Directories of one task: its unpacked image, its private one, and where it puts temporary files.

    ``room`` is ``work``, or a directory around it in which there is nothing else. ``interpreter`` is what it may read
    of the interpreter that its image names (node/interpreters.py).
    """

    image: Path
    work: Path
    room: Path
    temporary: Path
    interpreter: tuple[Path, ...] = ()


def task_invocation(lease: TaskLease, manifest: ImageManifest, places: TaskPlaces, arguments_url: str) -> Invocation:
    """How to run a task in its ``places``; in a network of its own it finds its arguments at the same URL."""
    if manifest.root is not None:
        return _root_invocation(lease, manifest, manifest.root, places, arguments_url)
    app, own = places.image / APP_NAME, str(places.work)
    defaults = {
        "PATH": DEFAULT_PATH,
        "HOME": own,
        "LANG": "C.UTF-8",
        "TMPDIR": str(places.temporary),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    if manifest.language == "python":
        defaults |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**defaults, **lease.environment}
    if manifest.language == "python":
        environment["PATH"] = f"{app / '.venv' / 'bin'}:{environment['PATH']}"
    environment |= _own_variables(lease, own, arguments_url)
    read = (places.image, *places.interpreter)
    needs = replace(_needs(lease, arguments_url), read=read, write=(places.room,))
    return Invocation(words=manifest.command, directory=app, environment=environment, needs=needs)


def _root_invocation(
    lease: TaskLease, manifest: ImageManifest, root: RootConfig, places: TaskPlaces, arguments_url: str
) -> Invocation:
    """Of an image with a root file system: later wins of image, lease, and what a task has to know of where it is."""
    defaults = {"PATH": DEFAULT_PATH, "HOME": WORK_INSIDE, "NO_PROXY": "127.0.0.1,localhost"}
    own = _own_variables(lease, WORK_INSIDE, arguments_url)
    needs = replace(_needs(lease, arguments_url), root=Root(path=places.image / APP_NAME, work=places.work))
    return Invocation(
        words=manifest.command,
        directory=Path(root.directory),
        environment={**defaults, **root.environment, **lease.environment, **own},
        needs=needs,
    )


def _needs(lease: TaskLease, arguments_url: str) -> Needs:
    listen = None if lease.network else urlsplit(arguments_url).port
    return Needs(network=lease.network, volumes=lease.volumes, listen=listen, memory_mb=lease.memory_mb)


def _own_variables(lease: TaskLease, work: str, arguments_url: str) -> dict[str, str]:
    """What every task has to know of where it is; ``work`` is its private directory as it sees it."""
    return {
        "BL_EXECUTION_DATA_URL": arguments_url,
        "BL_TASK_KEY": POSITION_VARIABLE,
        POSITION_VARIABLE: "0",
        "TASK_INDEX": str(lease.attempt.index),
        "BL_TASK_PREFIX": f"{lease.attempt.index}-",
        "TIDEMILL_TASK_FILE": f"{work}/{TASK_FILE}",
        "TIDEMILL_RESULT_FILE": f"{work}/{RESULT_FILE}",
        "TIDEMILL_WORK_DIR": work,
        "TIDEMILL_ATTEMPT": str(lease.attempt.number),
    }


def dockerfile_invocation(lease: BuildLease, work: Path, variables: Mapping[str, str]) -> Invocation:
    """How to build the Dockerfile of the source in ``work``, where this is root in a container of its own.

    ``variables`` is the node's own environment.
    """
    words = (
        *(sys.executable, "-m", "tidemill.node.build.dockerfile", "--source", str(work / SOURCE_FILE)),
        *("--out", str(work / IMAGE_FILE), "--result", str(work / RESULT_FILE), "--work", str(work)),
        *("--max-unpacked-bytes", str(lease.max_unpacked_bytes), "--max-entries", str(lease.max_entries)),
    )
    defaults = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"}
    own = {"HOME": str(work), "TMPDIR": str(work), "PYTHONUNBUFFERED": "1"}
    needs = Needs(read=tuple(_installer_paths(variables)), write=(work,), memory_mb=lease.memory_mb)
    return Invocation(words=words, directory=work, environment={**defaults, **variables, **own}, needs=needs)


def build_invocation(lease: BuildLease, work: Path, cache: Path, variables: Mapping[str, str]) -> Invocation:
    """How to run a build of the source in ``work``, or a pull (build/delivery.py).

    ``variables`` is the node's own environment, ``cache`` the directory of uv's cache.
    """
    what: tuple[str, ...] = ("--source", str(work / SOURCE_FILE))
    module = "tidemill.node.build"
    if lease.pull is not None:
        what = ("--image", lease.pull.reference, "--credentials", str(work / CREDENTIALS_FILE))
        module = "tidemill.node.build.oci"
    words = (
        *(sys.executable, "-m", module, *what, "--out", str(work / IMAGE_FILE)),
        *("--result", str(work / RESULT_FILE), "--work", str(work)),
        *("--max-unpacked-bytes", str(lease.max_unpacked_bytes), "--max-entries", str(lease.max_entries)),
    )
    defaults = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "UV_CACHE_DIR": str(cache)}
    own = {"HOME": str(work), "TMPDIR": str(work), "PYTHONUNBUFFERED": "1"}
    needs = Needs(
        read=tuple(_installer_paths(variables)),
        write=(work, Path(variables.get("UV_CACHE_DIR", cache))),
        memory_mb=lease.memory_mb,
    )
    return Invocation(words=words, directory=work, environment={**defaults, **variables, **own}, needs=needs)


def _installer_paths(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where our own programs lie, and what the node's variables name: certificates, indexes, constraints."""
    # not sys.path: the folder that the server happened to be started in is part of it
    for path in (sys.prefix, sys.base_prefix, Path(__file__).parents[2]):
        yield from both_names(Path(path))
    for name, value in variables.items():
        if name == "PYTHONPATH":
            yield from filter(Path.is_absolute, map(Path, value.split(os.pathsep)))
        elif name.startswith(INSTALLER_PREFIXES):
            yield from _named_paths(value)


def _named_paths(value: str) -> Iterator[Path]:
    for word in value.replace(",", " ").split():
        path = file_path(word) if word.startswith("file:") else Path(word)
        if path.is_absolute() and path != Path("/") and path.exists():
            yield path


def file_path(url: str) -> Path:
    """The path in a ``file://`` URL. Raises ValueError for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path:
        raise ValueError(f"this node takes bytes from file:// URLs, not from {url!r}")
    return Path(unquote(parts.path))
