"""Rulesets that are used again: commands are confined as by one of their own, and to what has the names now."""

import itertools
import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidemill.node.isolation.confinement import Confinement, Files
from tidemill.node.isolation.protections import probe
from tidemill.node.launcher import LAUNCHER
from tidemill.node.rulesets import FRESH_S, KEPT_MAX, LOWEST_FD, Rulesets
from tidemill.node.spawn import Command, Ended, LaunchedProcess

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/dev/null", sys.base_prefix)


@dataclass
class Bench:
    """Commands that may read ``folder``, by launchers; the time is ours."""

    folder: Path
    now: float = 100.0
    rulesets: Rulesets = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "file").write_text("named\n")
        self.alive = os.dup2(os.open(os.devnull, os.O_WRONLY), LOWEST_FD + 48)
        self.rulesets = Rulesets(lambda: self.now)

    @property
    def files(self) -> Files:
        return Files(read=(self.folder,), common=tuple(f"--read={path}" for path in SYSTEM))

    def is_kept(self) -> bool:
        """Whether the next command is given a ruleset that is there."""
        return self.rulesets.ask(self.files).fd is not None

    def run(self, script: str) -> int:
        """The exit code of a shell."""
        null = os.open(os.devnull, os.O_WRONLY)
        command = Command(
            words=("sh", "-c", script),
            directory=Path("/"),
            environment={"PATH": "/usr/bin:/bin"},
            memory_bytes=None,
            stdout=null,
            stderr=null,
            confinement=Confinement(files=self.files),
        )
        process = LaunchedProcess(LAUNCHER, command, self.alive, lambda _pid: None, self.rulesets)
        os.close(null)
        status = ended(process).status
        process.close()
        os.waitpid(process.pid, 0)
        return status


def ended(process: LaunchedProcess) -> Ended:
    while True:
        select.select([process.fd], [], [])
        for fact in process.facts():
            if isinstance(fact, Ended):
                return fact


def open_files() -> set[Path]:
    return {*Path("/proc/self/fd").iterdir()}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if not probe(LAUNCHER, None).landlock:
        pytest.skip("this kernel has no Landlock, so there are no rulesets")
    (tmp_path / "other").write_text("not named\n")
    bench = Bench(tmp_path / "folder")
    yield bench
    os.close(bench.alive)


def test_the_third_command_is_confined_by_what_the_second_has_made(bench: Bench) -> None:
    tries = [f"cat {bench.folder}/file", f"cat {bench.folder}/../other", f"echo > {bench.folder}/new"]
    expected = [0, 1, 2]
    assert [bench.run(script) for script in tries[:1]] == expected[:1]
    assert not bench.is_kept()
    bench.run("true")
    assert bench.is_kept()
    assert [bench.run(script) for script in tries] == expected
    assert bench.is_kept()


def test_a_folder_that_has_been_made_anew_is_read(bench: Bench) -> None:
    for _ in range(2):
        bench.run("true")
    bench.folder.rename(bench.folder.with_name("old"))
    bench.folder.mkdir()
    (bench.folder / "file").write_text("named again\n")
    for _ in range(3):
        assert bench.run(f"cat {bench.folder}/file") == 0
        assert bench.run(f"cat {bench.folder.with_name('old')}/file") == 1


def test_one_is_made_anew_when_it_is_old(bench: Bench) -> None:
    for _ in range(2):
        bench.run("true")
    bench.now += FRESH_S
    assert not bench.is_kept()
    bench.run("true")
    assert bench.is_kept()


def test_what_nobody_needs_any_more_is_closed(tmp_path: Path) -> None:
    times = itertools.count()
    rulesets = Rulesets(lambda: next(times) * FRESH_S)
    before = open_files()
    for index in range(KEPT_MAX + 5):
        files = Files(read=(tmp_path / str(index),))
        rulesets.ask(files)
        for _ in range(2):
            key = rulesets.ask(files).key
            if key is not None:
                rulesets.keep(key, os.open(os.devnull, os.O_RDONLY))
    assert len(open_files() - before) == KEPT_MAX
