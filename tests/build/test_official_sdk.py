"""The real official SDK in its own processes: pointed at a server by an import, or by what a build adds to an image."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.build.recorder import WATCH, Recorder, reached, recording
from tidemill.node.build.archive import unpack_image

KEY = {"BL_API_KEY": "the-key"}
SECRET = {"BL_CLIENT_CREDENTIALS": "aWQ6c2VjcmV0"}
LIST = """
from blaxel.core.client.api.jobs.list_jobs import sync_detailed
from blaxel.core.client.client import client
assert sync_detailed(client=client).status_code == 200
"""
POINTED = "import tidemill.blaxel\nimport blaxel\n"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found


def run(
    program: str, home: Path, *, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """``program`` with nothing in its environment but ``variables``; the SDK's reporting is asked for."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "BL_WORKSPACE": "main", "DO_NOT_TRACK": "0", **variables}
    words = [python, "-W", "ignore", "-c", WATCH + program]
    return subprocess.run(words, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=60)


def test_a_call_with_a_key_reaches_the_server_that_is_named(recorder: Recorder, tmp_path: Path) -> None:
    done = run(POINTED + LIST, tmp_path, BL_API_URL=recorder.url, **KEY)

    assert done.returncode == 0, done.stderr
    assert recorder.asked == [("GET", "/v0/jobs", "Bearer the-key", "main")]
    assert reached(done.stderr) == {recorder.address}


def test_a_token_is_fetched_from_the_same_server(recorder: Recorder, tmp_path: Path) -> None:
    done = run(POINTED + LIST, tmp_path, BL_API_URL=recorder.url, **SECRET)

    assert done.returncode == 0, done.stderr
    assert recorder.asked == [
        ("POST", "/v0/oauth/token", f"Basic {SECRET['BL_CLIENT_CREDENTIALS']}", None),
        ("GET", "/v0/jobs", "Bearer t", "main"),
    ]
    assert reached(done.stderr) == {recorder.address}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import blaxel\nimport tidemill.blaxel\n" + LIST, id="the SDK was there before"),
        pytest.param(POINTED + "blaxel.autoload()\n" + LIST, id="the SDK loads itself again"),
        pytest.param("import tidemill.blaxel\n" + LIST, id="a part of the SDK is imported first"),
    ],
)
def test_the_order_of_imports_does_not_matter(recorder: Recorder, tmp_path: Path, program: str) -> None:
    done = run(program, tmp_path, BL_API_URL=f"{recorder.url}/", **KEY)

    assert done.returncode == 0, done.stderr
    assert [path for _, path, _, _ in recorder.asked] == ["/v0/jobs"]
    assert reached(done.stderr) == {recorder.address}


@pytest.mark.parametrize("first", [POINTED, "import blaxel\nimport tidemill.blaxel\n", POINTED + "blaxel.autoload()\n"])
def test_a_failure_inside_the_sdk_is_reported_to_nobody(recorder: Recorder, tmp_path: Path, first: str) -> None:
    fail = "from blaxel.core.client.models.job import Job\nJob.from_dict(17)\n"
    done = run(first + fail, tmp_path, BL_API_URL=recorder.url, **KEY)

    assert "in from_dict" in done.stderr  # it did fail inside, which is what the SDK reports
    assert reached(done.stderr) == set()


@pytest.mark.parametrize(("variables", "run_url"), [({}, "http://h:1"), ({"BL_RUN_URL": "http://r:2"}, "http://r:2")])
def test_the_address_of_runs_is_the_one_named_or_the_servers(
    tmp_path: Path, variables: dict[str, str], run_url: str
) -> None:
    done = run(POINTED + "print(blaxel.settings.run_url)", tmp_path, BL_API_URL="http://h:1/v0", **KEY, **variables)

    assert done.stdout == f"{run_url}\n", done.stderr


def test_the_import_does_not_import_the_sdk(tmp_path: Path) -> None:
    program = "import sys\nbefore = set(sys.modules)\nimport tidemill.blaxel\nprint(*sorted(set(sys.modules) - before))"
    done = run(program, tmp_path)

    assert "tidemill.blaxel" in done.stdout.split(), done.stderr
    assert not {"blaxel", "typing", "re", "pydantic"}.intersection(done.stdout.split())


def test_the_sdk_keeps_its_own_loader(tmp_path: Path) -> None:
    show = "import inspect\nprint(type(blaxel.__loader__) is type(blaxel.__spec__.loader) is type(inspect.__loader__))"
    done = run(POINTED + show + "\nprint(len(inspect.getsource(blaxel)) > 0)", tmp_path, BL_API_URL="http://h/v0")

    assert done.stdout == "True\nTrue\n", done.stderr


def test_without_an_address_the_sdk_is_not_imported(tmp_path: Path) -> None:
    done = run(POINTED, tmp_path, **KEY)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: tidemill.blaxel: BL_API_URL is not set; it must be like http://HOST:8700/v0"
    )


def test_a_package_of_that_name_without_those_parts_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "blaxel").mkdir()
    (tmp_path / "blaxel" / "__init__.py").write_text("")
    done = run(POINTED, tmp_path, BL_API_URL="http://h/v0")

    assert "RuntimeError: tidemill.blaxel: this version of blaxel cannot be pointed elsewhere" in done.stderr


def build(folder: Path, requirement: str) -> Path:
    """The image of a project that needs ``requirement``."""
    with zipfile.ZipFile(folder / "s.zip", "w") as archive:
        archive.writestr("requirements.txt", requirement)
        archive.writestr("main.py", "")
    (folder / "work").mkdir()
    names = {"--source": "s.zip", "--out": "i.tar.gz", "--result": "r.json", "--work": "work"}
    words = [sys.executable, "-m", "tidemill.node.build"]
    words += [word for flag, name in names.items() for word in (flag, str(folder / name))]
    subprocess.run(words, check=True, capture_output=True, timeout=110)
    return folder / "i.tar.gz"


def test_an_image_with_the_sdk_points_it_wherever_the_image_lies(recorder: Recorder, tmp_path: Path) -> None:
    image = build(tmp_path, "blaxel==0.4.24\n")
    unpack_image(image, tmp_path / "zero")
    for before, place in pairwise((tmp_path / "zero", tmp_path / "one", tmp_path / "two")):
        before.rename(place)
        python = str(place / "app/.venv/bin/python")
        done = run("import blaxel\n" + LIST, tmp_path, python=python, BL_API_URL=recorder.url, **KEY)
        assert done.returncode == 0, done.stderr
        assert reached(done.stderr) == {recorder.address}
        # nobody names a server: the SDK is as its makers made it
        done = run("import blaxel; print(blaxel.settings.base_url)", tmp_path, python=python, **KEY)
        assert done.stdout == "https://api.blaxel.ai/v0\n", done.stderr

    assert [path for _, path, _, _ in recorder.asked] == ["/v0/jobs"] * 2


def test_an_image_without_the_sdk_gets_nothing(tmp_path: Path) -> None:
    unpack_image(build(tmp_path, "six\n"), tmp_path / "image")

    site = next((tmp_path / "image/app/.venv").glob("lib/python3*/site-packages"))
    assert (site / "six.py").exists()
    assert not list(site.glob("*tidemill*"))
