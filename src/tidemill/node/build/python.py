"""The environment of a Python project: made by uv below ``app/.venv``, and good wherever ``app`` is moved to."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uv

from tidemill.node.build import BuildError
from tidemill.node.build.entrypoint import PYTHON
from tidemill.node.build.official_sdk import point_sdk

_VENV: Final = ".venv"
# of the node's own environment: they would lead uv to another interpreter or another place
_FOREIGN: Final = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PROJECT", "UV_WORKING_DIR"})
_SETTINGS: Final = {
    "UV_PYTHON_DOWNLOADS": "never",  # the interpreter is the node's own
    "UV_NO_EDITABLE": "1",  # an editable install points to the place of the build
    "UV_NO_PROGRESS": "1",
    "NO_COLOR": "1",
}
_CLAUSE: Final = re.compile(r"(~=|===|==|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?")


def build_environment(app: Path, variables: Mapping[str, str]) -> str:
    """Make ``app/.venv`` with the project's dependencies; return the prefix of the interpreter it points to.

    Dependencies come from ``uv.lock``, else from ``pyproject.toml``, else from ``requirements.txt``; the project itself
    is installed too when it has a build system. ``variables`` is the whole environment of uv and of what it starts.
    uv's output goes to ours. Raises BuildError when the project cannot be installed.
    """
    project = _read_project(app)
    _check_version(project)
    program = _find_uv()
    # a foreign environment may have travelled with the folder; it works nowhere but where it was made
    shutil.rmtree(app / _VENV, ignore_errors=True)
    environment = {name: value for name, value in variables.items() if name not in _FOREIGN}
    environment |= _SETTINGS | {"UV_PROJECT_ENVIRONMENT": str(app / _VENV)}
    create = ["venv", "--quiet", "--no-project", "--relocatable", "--python", str(_interpreter()), _VENV]
    install = _install_command(app, project)
    for words in (create, install) if install else (create,):
        sys.stdout.write(f"uv {shlex.join(words)}\n")
        sys.stdout.flush()
        ended = subprocess.run([program, *words], cwd=app, env=environment, check=False)
        if ended.returncode != 0:
            raise BuildError(f"the Python environment could not be made: uv {words[0]} failed, its output is above")
    point_sdk(app / _VENV)
    _compile(app, environment)
    return sys.base_prefix


def _read_project(app: Path) -> dict[str, object]:
    try:
        return tomllib.loads((app / "pyproject.toml").read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BuildError(f"pyproject.toml is not valid TOML: {error}") from error


def _table(tables: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = tables.get(name)
    return value if isinstance(value, dict) else {}


def _install_command(app: Path, project: Mapping[str, object]) -> list[str]:
    """What to ask uv for; empty when the project needs nothing."""
    declared = _table(project, "project")
    pip = ["pip", "install", "--python", PYTHON]
    if project and (app / "uv.lock").is_file():
        return ["sync", "--frozen", "--no-dev", "--python", PYTHON]
    if "build-system" in project and _table(_table(project, "tool"), "uv").get("package") is not False:
        return [*pip, "."]
    if "dependencies" in declared or "dependencies" in _dynamic(declared):
        return [*pip, "--requirements", "pyproject.toml"]
    if (app / "requirements.txt").is_file():
        return [*pip, "--requirements", "requirements.txt"]
    return []


def _dynamic(declared: Mapping[str, object]) -> list[object]:
    value = declared.get("dynamic")
    return value if isinstance(value, list) else []


def _find_uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise BuildError(f"this node has no uv, which installs Python dependencies: {error}") from error


def _interpreter() -> Path:
    """The node's interpreter itself, not that of an environment, which may go away."""
    found = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return found if found.exists() else Path(sys.executable).resolve()


def _check_version(project: Mapping[str, object]) -> None:
    """Refuse a ``requires-python`` that the node's interpreter does not meet: uv checks it with a lock file only."""
    wanted = _table(project, "project").get("requires-python")
    if not isinstance(wanted, str):
        return
    have = sys.version_info[:3]
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise BuildError(f"pyproject.toml: requires-python {wanted!r} is not understood; write it as '>=3.11,<4'")
        version = tuple(int(part) for part in match[2].split("."))
        if not meets(have[: len(version)] if match[3] else have, match[1], version):
            running = ".".join(str(part) for part in have)
            raise BuildError(f"pyproject.toml: requires-python is {wanted!r}, but this node runs Python {running}")


def meets(have: tuple[int, ...], operator: str, version: tuple[int, ...]) -> bool:
    """One clause of PEP 440, numbers only; for ``3.11.*`` the caller cuts ``have`` to the length of ``version``."""
    wanted = version + (0,) * (len(have) - len(version))
    match operator:
        case "==" | "===":
            return have == wanted
        case "!=":
            return have != wanted
        case "~=":
            return have >= wanted and have[: len(version) - 1] == version[:-1]
        case ">=":
            return have >= wanted
        case "<=":
            return have <= wanted
        case ">":
            return have > wanted
        case _:
            return have < wanted


def _compile(app: Path, environment: Mapping[str, str]) -> None:
    """Compile the installed packages, without their tests, so that no task has to.

    Measured with scikit-learn: 4 s here, 3.5 s saved by every task that could not keep the result. The files carry no
    time and no path of the build. A package with a file that does not compile is that package's affair.
    """
    words = ["-m", "compileall", "-qq", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    tests = ["-x", "/tests?/", f"{_VENV}/lib"]
    subprocess.run([str(app / PYTHON), *words, *tests], cwd=app, env=dict(environment), check=False)
