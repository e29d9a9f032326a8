"""Processes without the launcher: the same facts, fewer protections."""

import os
import resource
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.rig import alive, until
from tidemill.model.protections import WATCHED, Had, Protection, read_had
from tidemill.node.holding import Holding
from tidemill.node.isolation.opening import look, open_isolation
from tidemill.node.limits.facts import LimitFacts, Missing
from tidemill.node.limits.groups import Control
from tidemill.node.settings import NodeSettings
from tidemill.node.spawn import Command, Ended, Fact, PlainProcess, Spawner, Started, start_time


class Plain:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.all: list[PlainProcess] = []

    def __call__(self, *words: str, memory_bytes: int | None = None) -> PlainProcess:
        command = Command(
            words=words,
            directory=self.folder,
            environment={"PATH": os.defpath},
            memory_bytes=memory_bytes,
            stdout=self.null,
            stderr=self.null,
        )
        process = Spawner(None, -1).start(command)
        assert isinstance(process, PlainProcess)
        self.all.append(process)
        return process


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Plain]:
    plain = Plain(tmp_path)
    yield plain
    os.close(plain.null)
    for process in plain.all:
        process.close()


def facts(process: PlainProcess) -> list[Fact]:
    """Everything it says until it has ended."""
    found = process.facts()
    deadline = time.monotonic() + 20
    while not any(isinstance(fact, Ended) for fact in found):
        assert time.monotonic() < deadline
        select.select([process.fd], [], [], 1)
        found += process.facts()
    return found


@pytest.mark.parametrize(
    ("script", "signalled", "status"), [("exit 0", False, 0), ("exit 137", False, 137), ("kill -9 $$", True, 9)]
)
def test_an_exit_code_and_a_signal_are_told_apart(plain: Plain, script: str, signalled: bool, status: int) -> None:
    started, ended = facts(plain("sh", "-c", script))
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    assert (ended.signalled, ended.status) == (signalled, status)
    assert ended.peak_memory_bytes > 0


def test_what_stays_in_the_session_dies_with_its_leader(plain: Plain, tmp_path: Path) -> None:
    facts(plain("sh", "-c", "(trap '' TERM; while :; do sleep 1; done) & echo $! > child"))
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))


def test_terminate_and_kill_reach_the_group(plain: Plain, tmp_path: Path) -> None:
    process = plain("sh", "-c", "trap 'touch heard' TERM; touch up; while :; do sleep 0.05; done")
    assert isinstance(process.facts()[0], Started)
    until((tmp_path / "up").exists)
    process.terminate()
    until((tmp_path / "heard").exists)
    process.kill()
    (ended,) = facts(process)
    assert isinstance(ended, Ended)
    assert (ended.signalled, ended.status) == (True, 9)


def test_memory_is_limited_and_the_process_can_be_named_for_good(plain: Plain) -> None:
    process = plain("sleep", "60", memory_bytes=64 << 20)
    (started,) = process.facts()
    assert isinstance(started, Started)
    assert started.start_time == start_time(started.pid) > 0
    assert resource.prlimit(started.pid, resource.RLIMIT_DATA) == (64 << 20, 64 << 20)
    process.kill()
    facts(process)
    assert start_time(started.pid) == 0


def test_a_command_that_does_not_exist_cannot_be_started(plain: Plain) -> None:
    with pytest.raises(FileNotFoundError):
        plain("/no/such/program")


def test_without_the_launcher_a_node_says_so() -> None:
    found = look(NodeSettings(data_dir=Path("/nowhere"), memory_mb=1024, slots=1), None)
    isolation = open_isolation(found, Spawner(None, -1))
    assert isolation.capabilities == {"isolation_process"}
    nothing = LimitFacts(missing=dict.fromkeys(Control, Missing("not here", "elsewhere")))
    had = read_had(Holding(isolation, nothing).of(isolation.users.seat(build=False)))
    assert had == Had(level="process", by={Protection.MEMORY: WATCHED})
