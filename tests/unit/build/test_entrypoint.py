"""What kind of project a folder is, and how it starts."""

from pathlib import Path

import pytest

from tidemill.manifest import parse_manifest
from tidemill.node.build import BuildError
from tidemill.node.build.entrypoint import Entrypoint, Language, check_command, find_entrypoint


def _find(folder: Path, files: tuple[str, ...], prod: str | None = None) -> Entrypoint:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return find_entrypoint(folder, parse_manifest("" if prod is None else f"[entrypoint]\nprod = '''{prod}'''"))


@pytest.mark.parametrize(
    ("files", "entry"),
    [
        (("requirements.txt", "src/main.py", "main.py"), "main.py"),
        (("pyproject.toml", "src/api.py", "app/main.py"), "app/main.py"),
        (("main.py", "app.py"), "app.py"),
        (("pyproject.toml", "package.json", "main.py"), "main.py"),
    ],
)
def test_a_python_project_starts_the_first_of_the_known_files(
    tmp_path: Path, files: tuple[str, ...], entry: str
) -> None:
    assert _find(tmp_path, files) == Entrypoint(Language.PYTHON, (".venv/bin/python", entry))


@pytest.mark.parametrize(
    ("files", "language"),
    [
        ((), Language.COMMAND),
        (("main.py",), Language.COMMAND),
        (("package.json",), Language.COMMAND),
        (("pyproject.toml",), Language.PYTHON),
    ],
)
def test_a_named_command_wins_and_only_a_declared_python_project_is_installed(
    tmp_path: Path, files: tuple[str, ...], language: Language
) -> None:
    assert _find(tmp_path, files, 'sh -c "echo a b"') == Entrypoint(language, ("sh", "-c", "echo a b"))


@pytest.mark.parametrize(
    ("files", "prod", "says"),
    [
        ((), None, "nothing to start"),
        (("package.json", "main.py"), None, "project with package.json"),
        (("go.mod", "app.py"), None, "project with go.mod"),
        (("Dockerfile", "requirements.txt", "main.py"), None, "has a Dockerfile"),
        (("Dockerfile",), "sh main.sh", "has a Dockerfile"),
        (("requirements.txt",), None, "has none of app.py, main.py"),
        ((), 'sh "', "cannot be split into words"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_kinds_that_can(
    tmp_path: Path, files: tuple[str, ...], prod: str | None, says: str
) -> None:
    with pytest.raises(BuildError) as caught:
        _find(tmp_path, files, prod)
    assert says in str(caught.value)
    assert "prod" in str(caught.value)


def test_a_program_of_the_folder_must_be_there_and_be_executable(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not in the folder"):
        check_command(tmp_path, ("./run",))
    (tmp_path / "run").touch(mode=0o644)
    with pytest.raises(BuildError, match="not executable"):
        check_command(tmp_path, ("./run",))
    (tmp_path / "run").chmod(0o755)
    check_command(tmp_path, ("./run",))
    check_command(tmp_path, ("sh", "x"))
    check_command(tmp_path, ("/bin/true",))
