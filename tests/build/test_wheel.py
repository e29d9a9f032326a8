"""What `pip install` gets: a wheel that holds the launcher, and works where no compiler is."""

import subprocess
import sys
import zipfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_brings_the_launcher_along_and_it_runs_after_an_install(tmp_path: Path) -> None:
    uv = find_uv_bin()
    words = [uv, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(words, check=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"tidemill/node/launcher/launcher.c", "tidemill/store/migrations/versions/0001_first_tables.py"} <= names
    target = tmp_path / "installed"
    words = [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(target), "--python", sys.executable]
    subprocess.run([*words, str(wheel)], check=True, timeout=100)
    launcher = target / "tidemill" / "node" / "launcher" / "tidemill-launcher"
    said = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    assert said == "tidemill-launcher 2\n"
