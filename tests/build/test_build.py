"""The build as the node runs it: a process, real uv, real packages of the registry."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

from tidemill.manifest import archive_members
from tidemill.node.build.archive import ImageManifest, read_image, unpack_image

EXAMPLES = Path(__file__).parents[2] / "examples"
MAIN = "import six, sys\nprint(six.__name__, sys.prefix, six.__file__)\n"
HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
SCRIPT = '[project.scripts]\ngreet = "greeter:main"\n'
PROJECT = '[project]\nname = "greeter"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["six"]\n'


@dataclass(frozen=True, slots=True)
class Room:
    """Where one build happens."""

    root: Path

    def command(self) -> list[str]:
        self.root.joinpath("work").mkdir(exist_ok=True)
        names = {"--source": "s.zip", "--out": "i.tar.gz", "--result": "r.json", "--work": "work"}
        words = [sys.executable, "-m", "tidemill.node.build"]
        return [*words, *(word for flag, name in names.items() for word in (flag, str(self.root / name)))]

    def write(self, files: dict[str, str]) -> None:
        """Make the source archive as an official client would, ``.env.build`` and credentials included."""
        with zipfile.ZipFile(self.root / "s.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)

    def build(self, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables}
        command = [*self.command(), *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

    def result(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.root / "r.json").read_text())
        return found

    def unpack(self, name: str) -> Path:
        unpack_image(self.root / "i.tar.gz", self.root / name)
        return self.root / name


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def _ok(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _refused(room: Room, ended: subprocess.CompletedProcess[str], says: str) -> None:
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, last.startswith("error: "), says in last) == (1, True, True), ended.stderr
    assert sorted(path.name for path in room.root.iterdir()) == ["s.zip", "work"]
    assert list((room.root / "work").iterdir()) == []


def _run(app: Path, *command: str) -> str:
    path = f"{app}/.venv/bin:/usr/bin:/bin"
    return subprocess.run(command, cwd=app, env={"PATH": path}, capture_output=True, text=True, check=True).stdout


def test_a_command_needs_no_build_and_its_image_is_the_folder(room: Room) -> None:
    room.write({"blaxel.toml": "[entrypoint]\nprod = '/bin/true -x'\n[runtime]\ntimeout = '2m'\nmaxRetries = 3\n"})
    _ok(room.build())

    assert room.result()["command"] == ["/bin/true", "-x"]
    assert room.result()["manifest"] == {"maxConcurrentTasks": None, "timeout": 120, "maxRetries": 3}
    image = room.unpack("image")
    assert read_image(image) == ImageManifest(command=("/bin/true", "-x"), language="command", python_prefix=None)
    assert [path.name for path in (image / "app").iterdir()] == ["blaxel.toml"]


def test_an_environment_works_wherever_the_image_is_unpacked(room: Room) -> None:
    room.write(
        {
            "pyproject.toml": PROJECT + SCRIPT + HATCH,
            "src/greeter/__init__.py": "def main(): print('greetings from', __file__)\n",
            "src/main.py": MAIN,
        }
    )
    _ok(room.build())
    places = [room.unpack("one"), room.unpack("two")]

    assert read_image(places[0]).command == (".venv/bin/python", "src/main.py")
    assert read_image(places[0]).python_prefix == sys.base_prefix
    for place in places:
        app = place / "app"
        prefix = str(app / ".venv")
        assert _run(app, ".venv/bin/python", "src/main.py").split()[1] == prefix
        assert _run(app, "greet").startswith(f"greetings from {prefix}/lib")
        assert str(room.root) not in (app / ".venv/bin/greet").read_text()
        shutil.rmtree(place)  # the next one must not live on this one


def test_a_lock_file_is_obeyed_without_development_dependencies(room: Room) -> None:
    folder = room.root / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        PROJECT.replace('"six"', '"six==1.15.0"') + '[dependency-groups]\ndev = ["iniconfig"]\n'
    )
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder, check=True)
    # only the lock knows the version now
    room.write(
        {
            "pyproject.toml": PROJECT,
            "uv.lock": (folder / "uv.lock").read_text(),
            "main.py": "import six, importlib.util as u; print(six.__version__, u.find_spec('iniconfig'))",
        }
    )
    shutil.rmtree(folder)
    _ok(room.build())

    assert _run(room.unpack("image") / "app", ".venv/bin/python", "main.py") == "1.15.0 None\n"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"pyproject.toml": PROJECT}, id="pyproject without a build system"),
        pytest.param({"requirements.txt": "six\n"}, id="requirements"),
        pytest.param({"requirements.txt": "six\n", "pyproject.toml": "[tool.ruff]\n"}, id="pyproject of a tool only"),
        pytest.param(
            {"requirements.txt": "-e .\n", "pyproject.toml": PROJECT + HATCH + "[tool.uv]\npackage = false\n"},
            id="no package",
        ),
    ],
)
def test_dependencies_come_from_what_the_project_has(room: Room, files: dict[str, str]) -> None:
    room.write(files | {"main.py": MAIN})
    _ok(room.build())

    assert _run(room.unpack("image") / "app", ".venv/bin/python", "main.py").startswith("six ")


def test_an_editable_requirement_is_installed_as_an_ordinary_one(room: Room) -> None:
    room.write(
        {"requirements.txt": "-e ./lib\n", "lib/pyproject.toml": PROJECT + HATCH, "lib/greeter.py": "", "app.py": ""}
    )
    _ok(room.build())
    app = room.unpack("image") / "app"
    shutil.rmtree(app / "lib")

    assert _run(app, "python", "-c", "import greeter; print(greeter.__file__)").startswith(f"{app}/.venv/")


def test_build_arguments_reach_the_build_and_not_the_image(room: Room) -> None:
    hook = "import os, pathlib\nfrom hatchling.metadata.plugin.interface import MetadataHookInterface\n"
    hook += "class Hook(MetadataHookInterface):\n    def update(self, metadata):\n"
    hook += "        metadata['version'] = os.environ['MAJOR'] + '.' + os.environ['MINOR']\n"
    room.write(
        {
            "blaxel.toml": "[build]\nargs = { MAJOR = '7', MINOR = '1' }\n",
            ".env.build": "# a comment\n\nMINOR=secret=2\nEMPTY=\nMINOR=2\n",
            ".docker/config.json": "{}",
            "pyproject.toml": PROJECT.replace('version = "1"', 'dynamic = ["version"]')
            + HATCH
            + "[tool.hatch.metadata.hooks.custom]\n",
            "hatch_build.py": hook,
            "greeter/__init__.py": "",
            "main.py": "import os, importlib.metadata as m; print(m.version('greeter'), 'MAJOR' in os.environ)",
        }
    )
    _ok(room.build())
    app = room.unpack("image") / "app"

    assert _run(app, ".venv/bin/python", "main.py") == "7.2 False\n"
    assert not {".env.build", ".docker"} & {path.name for path in app.iterdir()}


@pytest.mark.parametrize("files", [{"requirements.txt": "six\n"}, {"pyproject.toml": PROJECT}])
@pytest.mark.parametrize("head", ["", '[project]\nname = "outer"\nversion = "1"\n'])
def test_the_settings_of_a_folder_above_do_not_count(room: Room, files: dict[str, str], head: str) -> None:
    (room.root / "pyproject.toml").write_text(head + "[tool.uv]\nno-index = true\n")
    room.write(files | {"main.py": MAIN})
    _ok(room.build())


def test_the_python_settings_of_the_node_do_not_reach_installers(room: Room) -> None:
    (room.root / "hatchling").mkdir()
    (room.root / "hatchling" / "__init__.py").write_text("raise SystemExit('the wrong hatchling')")
    room.write({"pyproject.toml": PROJECT + HATCH, "greeter/__init__.py": "", "main.py": MAIN})
    _ok(room.build(PYTHONPATH=os.pathsep.join([str(room.root), *sys.path])))


def test_installed_modules_are_compiled_without_a_path_of_the_build(room: Room) -> None:
    room.write({"requirements.txt": "six\n", "main.py": MAIN})
    _ok(room.build())

    compiled = next((room.unpack("image") / "app/.venv").rglob("six.*.pyc")).read_bytes()
    assert str(room.root).encode() not in compiled
    assert compiled[4:8] == b"\1\0\0\0"  # PEP 552: valid by hash and unchecked, so no time stamp can spoil it


def test_a_dependency_that_does_not_exist_fails_with_the_installers_words(room: Room) -> None:
    room.write({"requirements.txt": "six==999.0\n", "main.py": MAIN})
    ended = room.build()

    assert "six==999.0" in ended.stderr
    _refused(room, ended, "uv pip failed, its output is above")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"blaxel.toml": "type = 'agent'\n"}, "only jobs are deployed here"),
        ({"package.json": "{}"}, "project with package.json"),
        ({"blaxel.toml": "[entrypoint]\nprod = 'bin/run'\n"}, "'bin/run', which is not in the folder"),
        ({"../evil": "", "main.py": ""}, "leads out of the folder"),
        ({"main.py": "", ".env.build": "no equals sign"}, ".env.build: line 1 is not KEY=VALUE"),
        ({"main.py": "", "pyproject.toml": "[project]\nrequires-python = '>=4'\n"}, "this node runs Python"),
    ],
)
def test_a_folder_that_cannot_be_built_ends_with_the_reason(room: Room, files: dict[str, str], says: str) -> None:
    room.write(files)
    _refused(room, room.build(), says)


def test_the_limits_of_the_command_line_hold(room: Room) -> None:
    room.write({"blaxel.toml": "[entrypoint]\nprod = 'true'", "b": "x" * 1000})
    _refused(room, room.build("--max-entries", "1"), "more than 1 entries")
    _refused(room, room.build("--max-unpacked-bytes", "1000"), "more than this server's limit")


def test_what_is_not_a_zip_ends_with_the_reason(room: Room) -> None:
    (room.root / "s.zip").write_text("hello")
    _refused(room, room.build(), "not a zip")


def test_a_folder_that_is_not_writable_is_the_machines_fault(room: Room) -> None:
    room.write({"blaxel.toml": "[entrypoint]\nprod = 'true'"})
    (room.root / "i.tar.gz").mkdir()
    ended = room.build()

    assert ended.returncode == 75
    assert ended.stderr.splitlines()[-1].startswith("error: this node could not finish the build")


def test_sigterm_ends_a_build_at_once_and_leaves_nothing(room: Room) -> None:
    # a build backend that says that it runs, and then does not end
    backend = "import pathlib, time\npathlib.Path(__file__).with_name('started').touch()\ntime.sleep(60)\n"
    build_system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    room.write({"pyproject.toml": PROJECT + build_system, "backend.py": backend, "main.py": MAIN})
    with subprocess.Popen(room.command(), stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not list((room.root / "work").glob("*/app/started")):
            assert time.monotonic() < deadline
            with pytest.raises(subprocess.TimeoutExpired):  # it is still running
                process.wait(timeout=0.02)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=10) == 143

    assert sorted(path.name for path in room.root.iterdir()) == ["s.zip", "work"]
    assert list((room.root / "work").iterdir()) == []


@pytest.mark.parametrize("number", range(5))
def test_the_shell_example_says_hello_to_everybody(room: Room, number: int) -> None:
    with zipfile.ZipFile(room.root / "s.zip", "w") as archive:
        for path, name in archive_members(EXAMPLES / "shell"):
            archive.write(path, name)
    _ok(room.build())
    image = room.unpack("image")
    task = json.loads((image / "app/batches/hello.json").read_text())["tasks"][number]
    (room.root / "task.json").write_text(json.dumps(task))
    files = {"TIDEMILL_TASK_FILE": str(room.root / "task.json"), "TIDEMILL_RESULT_FILE": str(room.root / "result.json")}
    ended = subprocess.run(
        read_image(image).command,
        cwd=image / "app",
        env={"PATH": "/usr/bin:/bin"} | files,
        capture_output=True,
        check=True,
    )

    assert ended.stdout.decode().count(f"Hello, {task['name']}!") == task.get("times", 1)
    assert json.loads((room.root / "result.json").read_text()) == {
        "name": task["name"],
        "greetings": task.get("times", 1),
    }


def test_the_sweep_example_has_24_different_tasks() -> None:
    tasks = json.loads((EXAMPLES / "sweep/batches/sweep.json").read_text())["tasks"]
    assert len({json.dumps(task, sort_keys=True) for task in tasks}) == 24
