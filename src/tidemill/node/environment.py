"""What the process of an attempt is started with: its command and its environment."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tidemill.model.lease import BuildLease, TaskLease
from tidemill.node.build.archive import APP_NAME, ImageManifest

TASK_FILE: Final = "task.json"
RESULT_FILE: Final = "result.json"
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


def task_invocation(
    lease: TaskLease, image: Path, manifest: ImageManifest, work: Path, arguments_url: str
) -> Invocation:
    """How to run a task of the unpacked ``image`` with ``work`` as its private directory."""
    app, own = image / APP_NAME, str(work)
    defaults = {
        "PATH": DEFAULT_PATH,
        "HOME": own,
        "LANG": "C.UTF-8",
        "TMPDIR": own,
        "NO_PROXY": "127.0.0.1,localhost",
    }
    if manifest.language == "python":
        defaults |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**defaults, **lease.environment}
    if manifest.language == "python":
        environment["PATH"] = f"{app / '.venv' / 'bin'}:{environment['PATH']}"
    environment |= {
        "BL_EXECUTION_DATA_URL": arguments_url,
        "BL_TASK_KEY": POSITION_VARIABLE,
        POSITION_VARIABLE: "0",
        "TASK_INDEX": str(lease.attempt.index),
        "BL_TASK_PREFIX": f"{lease.attempt.index}-",
        "TIDEMILL_TASK_FILE": f"{own}/{TASK_FILE}",
        "TIDEMILL_RESULT_FILE": f"{own}/{RESULT_FILE}",
        "TIDEMILL_WORK_DIR": own,
        "TIDEMILL_ATTEMPT": str(lease.attempt.number),
    }
    return Invocation(words=manifest.command, directory=app, environment=environment)


def build_invocation(lease: BuildLease, work: Path, cache: Path, variables: Mapping[str, str]) -> Invocation:
    """How to run a build. ``variables`` is the node's own environment, ``cache`` the directory of uv's cache."""
    words = (
        *(sys.executable, "-m", "tidemill.node.build"),
        *("--source", str(file_path(lease.source.url)), "--out", str(file_path(lease.upload_url))),
        *("--result", str(work / RESULT_FILE), "--work", str(work)),
        *("--max-unpacked-bytes", str(lease.max_unpacked_bytes), "--max-entries", str(lease.max_entries)),
    )
    defaults = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "UV_CACHE_DIR": str(cache)}
    own = {"HOME": str(work), "TMPDIR": str(work), "PYTHONUNBUFFERED": "1"}
    return Invocation(words=words, directory=work, environment={**defaults, **variables, **own})


def file_path(url: str) -> Path:
    """The path in a ``file://`` URL. Raises ValueError for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path:
        raise ValueError(f"this node takes bytes from file:// URLs, not from {url!r}")
    return Path(unquote(parts.path))
