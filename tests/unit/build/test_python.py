"""Which interpreters a project accepts."""

from pathlib import Path

import pytest

from tidemill.node.build import BuildError
from tidemill.node.build.python import build_environment, meets


@pytest.mark.parametrize(
    ("have", "clause", "expected"),
    [
        ((3, 11, 7), (">=", "3.11"), True),
        ((3, 11, 7), (">=", "3.12"), False),
        ((3, 11, 7), ("<", "4"), True),
        ((3, 11, 0), ("<", "3.11"), False),
        ((3, 11, 0), ("<=", "3.11"), True),
        ((3, 11, 7), (">", "3.11.7"), False),
        ((3, 11, 7), ("~=", "3.10"), True),
        ((3, 11, 7), ("~=", "3.10.2"), False),
        ((3, 11, 7), ("~=", "3.11.2"), True),
        ((3, 11, 7), ("==", "3.11.7"), True),
        ((3, 11, 7), ("==", "3.11"), False),
        ((3, 11, 7), ("!=", "3.11.7"), False),
    ],
)
def test_a_clause_of_requires_python_is_compared_by_its_numbers(
    have: tuple[int, int, int], clause: tuple[str, str], expected: bool
) -> None:
    version = tuple(int(part) for part in clause[1].split("."))
    assert meets(have, clause[0], version) is expected


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (">=3.99", "requires-python is '>=3.99', but this node runs Python 3."),
        ("==2.*", "requires-python is '==2.*'"),
        (">=3.8,<3.9", "requires-python is '>=3.8,<3.9'"),
        ("three", "requires-python 'three' is not understood"),
    ],
)
def test_a_project_for_another_python_is_refused(tmp_path: Path, wanted: str, says: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nrequires-python = "{wanted}"\n')
    with pytest.raises(BuildError) as caught:
        build_environment(tmp_path, {})
    assert says in str(caught.value)
    assert not (tmp_path / ".venv").exists()


def test_a_project_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(BuildError, match=r"pyproject\.toml is not valid TOML"):
        build_environment(tmp_path, {})
