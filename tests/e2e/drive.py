"""A real server and its node, driven from outside only: HTTP, the command line, the official SDK, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
TIDEMILL = Path(sys.executable).with_name("tidemill")
T = TypeVar("T")


def until(what: Callable[[], T], *, seconds: float = 30) -> T:
    """The first true value of ``what``, asked for again and again until ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what!r}, last {value!r}"
        os.sched_yield()
        select_pause()
    return value


def select_pause() -> None:
    """Give the machine away for a moment between two looks."""
    signal.sigtimedwait([], 0.02)


@dataclass(slots=True)
class Server:
    """A server on a data directory of its own. It can be started, killed and started again."""

    data: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("BL_", "TIDEMILL_"))}
        # logins of who runs the tests are none of their business
        own = {"TIDEMILL_DATA_DIR": str(self.data), "XDG_CONFIG_HOME": str(self.data.parent / "config")}
        # all that a test sends without a credential comes from one address
        limits = {"TIDEMILL_UNAUTHENTICATED_PER_S": "0"}
        # scripts of jobs run the interpreter of the tests, which no job has by itself
        paths = {"TIDEMILL_TASK_READ_PATHS": json.dumps([sys.prefix, sys.base_prefix])}
        return clean | own | limits | paths | dict(self.settings)

    def start(self) -> None:
        with (self.data.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(TIDEMILL), "server", "--port", "0", "--data-dir", str(self.data)],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("tidemill ready "):
                self.url = line.split()[-1]
                return
        pytest.fail(f"the server did not start:\n{(self.data.parent / 'server.log').read_text()[-4000:]}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.reap()

    def terminate(self) -> str:
        """SIGTERM; what it still printed."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.terminate()
        rest = self.process.stdout.read()
        self.reap()
        return rest

    def reap(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.wait(60)
        self.process.stdout.close()
        self.process = None

    def stop(self) -> None:
        """`tidemill stop`: server and node."""
        subprocess.run(
            [str(TIDEMILL), "stop", "--data-dir", str(self.data)], env=self.environment, check=True, timeout=60
        )
        if self.process is not None:
            self.reap()

    @property
    def node_pid(self) -> int:
        return int(json.loads((self.data / "node.json").read_text())["pid"])

    def cli(self, *words: str, code: int = 0, timeout: float = 120) -> str:
        """What `tidemill WORDS` prints on stdout; its exit code must be ``code``."""
        done = subprocess.run(
            [str(TIDEMILL), *words], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def credentials(self) -> dict[str, str]:
        """What DIR/admin.env holds."""
        lines = (self.data / "admin.env").read_text().splitlines()
        pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line and line[0] != "#")
        return {name: text.strip("'\"") for name, text in pairs}

    def http(self) -> httpx2.Client:
        key = self.credentials["BL_API_KEY"]
        headers = {"Authorization": f"Bearer {key}", "X-Blaxel-Workspace": "default", "Blaxel-Version": "2026-04-28"}
        return httpx2.Client(base_url=f"{self.url}/v0", headers=headers, timeout=30)

    def ours(self) -> list[psutil.Process]:
        """Every process alive that has our data directory in its command line or environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                text = " ".join(process.cmdline()) + "\0".join(process.environ().values())
                if str(self.data) in text and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def tasks(self) -> list[psutil.Process]:
        """The launchers that have a job's main.sh to start, one for each that runs; one that ends meanwhile is none.

        A task itself shows nothing of ours; in a sandbox its second launcher, and what makes the sandbox, show the same
        words.
        """
        found = []
        for process in self.ours():
            with suppress(psutil.Error):
                words = process.cmdline()
                if words[:1] == ["tidemill-launcher"] and words[-1] == "main.sh":
                    found.append(process)
        return found
