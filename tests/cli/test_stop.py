"""`tidemill stop` against processes that hold the locks of a data directory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidemill.main import run

# takes server.lock and tells so; at SIGTERM gives it back, and lives on until its stdin ends or says so
HOLDER = """
import fcntl, json, os, signal, sys
folder = sys.argv[1]
locks = [os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT) for name in sys.argv[2:]]
for lock in locks:
    fcntl.flock(lock, fcntl.LOCK_EX)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
with open(os.path.join(folder, "server.json"), "w") as card:
    json.dump({"pid": os.getpid(), "url": ""}, card)
print("holding", flush=True)
signal.sigwait([signal.SIGTERM])
for lock in locks:
    os.close(lock)
print("free", flush=True)
sys.stdin.read()
"""

Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holder]:
    """Starts a process that holds such locks, as a server does."""
    started: list[subprocess.Popen[str]] = []

    def start(*locks: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", HOLDER, str(tmp_path), *locks]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def stop(folder: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "tidemill.main", "stop", "--data-dir", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_server_has_ended_when_its_process_has_not_only_its_lock(hold: Holder, tmp_path: Path) -> None:
    server = hold("server.lock")
    assert server.stdin is not None
    assert server.stdout is not None
    stopping = stop(tmp_path)
    assert server.stdout.readline() == "free\n"
    with pytest.raises(subprocess.TimeoutExpired):
        stopping.wait(1.0)
    server.stdin.close()
    out, err = stopping.communicate(timeout=20)
    assert (stopping.returncode, out, err) == (0, f"server {server.pid} has ended\nno node runs\n", "")


def test_a_node_that_ended_with_its_server_was_idle(hold: Holder, tmp_path: Path) -> None:
    server = hold("server.lock", "node.lock")
    stopping = stop(tmp_path)
    assert server.stdin is not None
    server.stdin.close()
    out, _ = stopping.communicate(timeout=20)
    assert out == f"server {server.pid} has ended\nits node was idle and has ended\n"
    assert stopping.returncode == 0


def test_nothing_to_stop_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert run(["stop", "--data-dir", str(folder)]) == 0
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == (f"nothing runs on {folder}\n", "")


def test_a_server_that_nobody_can_name_is_an_error(
    hold: Holder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold("server.lock")
    (tmp_path / "server.json").write_text("{}")
    assert run(["stop", "--data-dir", str(tmp_path)]) == 1
    assert "cannot be told to end" in capsys.readouterr().err
