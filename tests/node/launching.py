"""The launcher alone, without a node: starting it, and hearing what it says."""

import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.node.launcher import LAUNCHER, SOURCES
from tidemill.node.launcher.build import build


@dataclass
class Launched:
    control: socket.socket
    process: subprocess.Popen[bytes]
    said: bytes = b""

    def line(self) -> str:
        self.control.settimeout(20)
        while b"\n" not in self.said:
            data = self.control.recv(4096)
            assert data, "the launcher has gone without a word"
            self.said += data
        line, _, self.said = self.said.partition(b"\n")
        return line.decode()

    def ended(self) -> list[str]:
        """The words of the line that says how the command ended, up to the number."""
        first = self.line()
        assert first.startswith("started "), first
        return self.line().split()[:3]


class Launch:
    """Starts commands in ``folder``, each by a launcher of its own."""

    def __init__(self, folder: Path) -> None:
        if not LAUNCHER.exists():
            assert build(SOURCES, LAUNCHER) == ""
        self.folder = folder
        self.all: list[Launched] = []

    def __call__(self, *command: str, options: Sequence[str] = (), output: int | None = None) -> Launched:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [LAUNCHER, str(theirs.fileno()), f"--directory={self.folder}", *options, "--", *command],
                pass_fds=[theirs.fileno()],
                stdout=output,
            )
        launched = Launched(ours, process)
        self.all.append(launched)
        return launched

    def close(self) -> None:
        for launched in self.all:
            launched.control.close()
            launched.process.wait(20)
