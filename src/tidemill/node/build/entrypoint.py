"""What kind of project a folder is, and the command that starts a task of it (contract 8.3)."""

import os
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tidemill.manifest import FILE_NAME, Manifest
from tidemill.node.build import BuildError
from tidemill.node.build.source import DOCKERFILE

PYTHON_FILES: Final = ("pyproject.toml", "requirements.txt")
PYTHON_ENTRIES: Final = (
    "app.py", "main.py", "api.py", "app/main.py", "app/app.py", "app/api.py", "src/main.py", "src/app.py", "src/api.py",
)  # fmt: skip
PYTHON: Final = ".venv/bin/python"

_KINDS: Final = (
    f"this server builds Python projects (pyproject.toml, requirements.txt, or one of {', '.join(PYTHON_ENTRIES)}) "
    f'and folders whose {FILE_NAME} names a command under [entrypoint], as prod = "sh main.sh"'
)


class Language(StrEnum):
    """What has to be done to a folder before it runs: install an environment, or nothing."""

    PYTHON = "python"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """``command`` is never empty; its first word is relative to the folder if it holds a ``/`` and is not absolute."""

    language: Language
    command: tuple[str, ...]


def find_entrypoint(app: Path, manifest: Manifest) -> Entrypoint:
    """How ``app`` is built and started. Raises BuildError when it is of no kind that is built here."""
    named = named_command(manifest)
    if (app / DOCKERFILE).exists():
        raise BuildError(
            f"the folder has a Dockerfile, and this server builds none (tidemill doctor says there what is missing): "
            f"build it elsewhere, push it to a registry, and name it in {FILE_NAME}: "
            f'image = "registry.example.com/team/tool:1"; {_KINDS}'
        )
    language = _language(app, has_command=bool(named))
    if language is None:
        foreign = next((name for name in ("package.json", "go.mod") if (app / name).exists()), None)
        what = f"the folder is a project with {foreign}" if foreign else "the folder has nothing to start"
        raise BuildError(f"{what}; {_KINDS}")
    return Entrypoint(language, named or (PYTHON, _python_entry(app)))


def check_command(app: Path, command: tuple[str, ...]) -> None:
    """Refuse a command that cannot start: a program of the built folder that is missing or not executable."""
    program = command[0]
    if "/" not in program or program.startswith("/"):
        return
    path = app / program
    if not path.is_file():
        raise BuildError(f"{FILE_NAME}: [entrypoint] prod starts {program!r}, which is not in the folder")
    if not os.access(path, os.X_OK):
        raise BuildError(f"{FILE_NAME}: [entrypoint] prod starts {program!r}, which is not executable (chmod +x)")


def named_command(manifest: Manifest) -> tuple[str, ...]:
    """What ``[entrypoint] prod`` says, in words; none where it says nothing. Raises BuildError."""
    try:
        return tuple(shlex.split(manifest.entrypoint_prod or ""))
    except ValueError as error:
        raise BuildError(f"{FILE_NAME}: [entrypoint] prod cannot be split into words: {error}") from error


def _language(app: Path, *, has_command: bool) -> Language | None:
    if any((app / name).is_file() for name in PYTHON_FILES):
        return Language.PYTHON
    if has_command:
        return Language.COMMAND
    if any((app / name).exists() for name in ("package.json", "go.mod")):
        return None
    return Language.PYTHON if any((app / name).is_file() for name in PYTHON_ENTRIES) else None


def _python_entry(app: Path) -> str:
    for name in PYTHON_ENTRIES:
        if (app / name).is_file():
            return name
    raise BuildError(
        f"the Python project has none of {', '.join(PYTHON_ENTRIES)}; add one, "
        f'or name the command in {FILE_NAME}: [entrypoint] prod = "python jobs/run.py"'
    )
