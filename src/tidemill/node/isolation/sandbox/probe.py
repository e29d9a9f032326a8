"""Whether this machine lets us make sandboxes: one is made, as for a task, and something is run in it."""

import fcntl
import os
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tidemill.node.isolation.protections import NO_LAUNCHER
from tidemill.node.isolation.protocol import Isolation, Machine, Needs, Site
from tidemill.node.isolation.sandbox.bubblewrap import INIT, system_words
from tidemill.node.isolation.sandbox.sandbox import Maker, SandboxIsolation
from tidemill.node.isolation.users import Seat
from tidemill.node.rulesets import Rulesets
from tidemill.node.spawn import Command, Ended, Fact, LaunchedProcess, Started

PROBE_S: Final = 20.0

_NO_BUBBLEWRAP: Final = "bubblewrap is not installed (on Debian: apt install bubblewrap)"
_LOWEST_FD: Final = 16
_SAID_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class SandboxOffer:
    """``maker`` is what has worked, None where nothing has; ``problem`` says why not."""

    maker: Maker | None
    problem: str = ""

    @property
    def adds(self) -> frozenset[str]:
        return frozenset() if self.maker is None else self.maker.adds

    def open(self, site: Site) -> Isolation:
        assert self.maker is not None
        return SandboxIsolation(site, self.maker)


def probe(machine: Machine) -> SandboxOffer:
    """Make a sandbox, some milliseconds; where /proc may not be mounted, as in most containers, one without its own."""
    found = shutil.which("bwrap")
    if machine.launcher is None:
        return SandboxOffer(None, NO_LAUNCHER)
    if found is None:
        return SandboxOffer(None, _NO_BUBBLEWRAP)
    problems: list[str] = []
    for own_proc in (True, False):
        maker = Maker(
            machine=machine,
            launcher=machine.launcher,
            bubblewrap=Path(found).resolve(),
            own_proc=own_proc,
            system=system_words(),
        )
        problem = _try(maker)
        if not problem:
            return SandboxOffer(maker)
        problems.append(problem)
    return SandboxOffer(None, problems[0])


def _try(maker: Maker) -> str:
    """Run the launcher in a sandbox as a task would be; "" when it ended well, else why not."""
    machine = maker.machine
    uid = machine.settings.task_uid_first if machine.has_users else None
    needs = Needs(read=(), write=(), memory_mb=16)
    with tempfile.TemporaryFile() as said, _spare_fd() as alive:
        command = Command(
            words=(str(INIT), "--version"),
            directory=Path("/"),
            environment={},
            memory_bytes=None,
            stdout=said.fileno(),
            stderr=said.fileno(),
        )
        fact = _run(maker.launcher, maker.sandbox(Seat(uid), needs, command, None), alive)
        if isinstance(fact, Ended) and not fact.signalled and fact.status == 0:
            return ""
        return _reason(said) or f"a sandbox was made in which nothing runs: {fact}"


def _run(launcher: Path, command: Command, alive_fd: int) -> Fact | None:
    """How the command ended; None when it did not in time."""
    process = LaunchedProcess(launcher, command, alive_fd, lambda _pid: None, Rulesets(time.monotonic))
    deadline = time.monotonic() + PROBE_S
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            select.select([process.fd], [], [], left_s)
            for fact in process.facts():
                if not isinstance(fact, Started):
                    return fact
        return None
    finally:
        # a launcher ends what it owns when nobody listens any more
        process.close()
        os.waitpid(process.pid, 0)


@contextmanager
def _spare_fd() -> Iterator[int]:
    """What a launcher keeps open; it stands for nothing here."""
    with open(os.devnull, "rb") as opened:  # noqa: PTH123  # no path of ours
        high = fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
    try:
        yield high
    finally:
        os.close(high)


def _reason(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read(_SAID_MAX).decode(errors="replace").split("\n")
    return next((line for line in lines if line.startswith("bwrap: ")), "")
