"""What a deploy adds to a folder for its build alone (contract 5.4): build arguments, and credentials of registries."""

import shutil
from pathlib import Path
from typing import Final

from tidemill.node.build import BuildError

BUILD_ENV_NAME: Final = ".env.build"
REGISTRIES_NAME: Final = ".docker/config.json"
# they never reach an image
BUILD_ONLY: Final = (BUILD_ENV_NAME, ".docker")


def read_build_env(app: Path) -> dict[str, str]:
    """``KEY=VALUE`` lines without quoting, ``#`` comments, empty values allowed (contract 5.6).

    Raises BuildError naming the line that is none.
    """
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


def remove_build_only(app: Path) -> None:
    """Raises OSError."""
    for name in BUILD_ONLY:
        path = app / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
