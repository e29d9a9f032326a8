"""The launcher itself, without a node: what it says, and what it leaves alive (nothing)."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.node.launching import Launch
from tests.node.rig import alive, until
from tidemill.node.launcher import SOURCES
from tidemill.node.launcher.build import build, compilers

# leaves the session, ignores what can be ignored, has no parent left, and says who it is
DAEMON = "setsid sh -c 'trap \"\" TERM HUP INT; (echo $$ > daemon; while :; do sleep 1; done) & wait' & sleep 0.05; "


def reads(link: Path) -> str:
    """Where ``link`` leads; nowhere when its process has gone."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", ["ended", "exit", "0"]),
        ("exit 137", ["ended", "exit", "137"]),
        ("kill -9 $$", ["ended", "signal", "9"]),
        ("kill -TERM $$", ["ended", "signal", "15"]),
    ],
)
def test_an_exit_code_and_a_signal_are_told_apart(launch: Launch, script: str, words: list[str]) -> None:
    assert launch("sh", "-c", script).ended() == words


def test_a_command_that_does_not_exist_is_told_with_its_errno(launch: Launch) -> None:
    assert launch("/no/such/command").line() == "failed exec 2"
    assert launch("no-such-command").line() == "failed exec 2"


def test_a_command_is_looked_up_in_the_path_and_relative_to_its_directory(launch: Launch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "own"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    assert launch("bin/own").ended() == ["ended", "exit", "5"]
    assert launch("true").ended() == ["ended", "exit", "0"]


def test_a_script_that_does_not_say_of_what_is_the_shells(launch: Launch, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('exit "$1"\n')
    script.chmod(0o755)
    assert launch("./script", "7").ended() == ["ended", "exit", "7"]


def test_a_command_is_told_of_when_it_runs_though_it_says_nothing(launch: Launch) -> None:
    before_us = time.monotonic_ns() // 1000
    launched = launch("sleep", "600")
    word, pid, start_time, begun_us = launched.line().split()
    assert word == "started"
    assert alive(int(pid))
    assert int(start_time) > 0
    assert before_us <= int(begun_us) <= time.monotonic_ns() // 1000
    launched.control.send(b"K")
    assert launched.line().split()[:3] == ["ended", "signal", "9"]


def test_a_daemon_that_left_the_session_dies_before_the_end_is_told(launch: Launch, tmp_path: Path) -> None:
    launched = launch("sh", "-c", DAEMON + "exit 4")
    assert launched.ended() == ["ended", "exit", "4"]
    assert not alive(int((tmp_path / "daemon").read_text()))


def test_term_reaches_the_whole_tree_and_kill_ends_what_ignores_it(launch: Launch, tmp_path: Path) -> None:
    script = "(trap 'echo heard > heard; exit' TERM; touch ready; while :; do sleep 0.05; done) & trap '' TERM; "
    launched = launch("sh", "-c", script + DAEMON + "touch up; while :; do sleep 1; done")
    launched.line()
    until(lambda: (tmp_path / "ready").exists() and (tmp_path / "up").exists())
    launched.control.send(b"T")
    until((tmp_path / "heard").exists)
    launched.control.send(b"K")
    assert launched.line().split()[:3] == ["ended", "signal", "9"]
    assert not alive(int((tmp_path / "daemon").read_text()))


def test_when_nobody_listens_any_more_the_tree_is_killed(launch: Launch, tmp_path: Path) -> None:
    launched = launch("sh", "-c", "trap '' TERM; echo $$ > main; " + DAEMON + "while :; do sleep 1; done")
    daemon = until(lambda: (tmp_path / "daemon").exists() and (tmp_path / "daemon").read_text())
    main = int((tmp_path / "main").read_text())
    launched.control.close()
    assert launched.process.wait(20) == 0
    assert not alive(int(daemon))
    assert not alive(main)


def test_processes_that_fork_and_end_over_and_over_are_caught(launch: Launch, tmp_path: Path) -> None:
    # eight chains, never more than one process each; they end by themselves, lest a failure of this test stays for ever
    hop = "import os, time\nend = time.time() + 15\nwhile time.time() < end:\n    if os.fork():\n        os._exit(0)\n"
    (tmp_path / "hop.py").write_text(hop)
    chains = f"for i in 1 2 3 4 5 6 7 8; do {sys.executable} -S hop.py & done; "
    launched = launch("sh", "-c", f"{chains} sleep 0.5; exit 6")
    assert launched.ended() == ["ended", "exit", "6"]
    found = [file for file in Path("/proc").glob("[0-9]*/cwd") if reads(file) == str(tmp_path)]
    assert found == []


def test_a_killed_launcher_takes_its_command_along(launch: Launch, tmp_path: Path) -> None:
    launched = launch("sh", "-c", "echo $$ > main; while :; do sleep 1; done")
    main = int(until(lambda: (tmp_path / "main").exists() and (tmp_path / "main").read_text()))
    os.kill(launched.process.pid, signal.SIGKILL)
    until(lambda: not alive(main))


def test_limits_privileges_and_descriptors_are_as_asked(launch: Launch, tmp_path: Path) -> None:
    script = (
        "ulimit -d; ulimit -n; ulimit -c; ls /proc/self/fd | wc -l; grep NoNewPrivs /proc/self/status; ps -o sid= $$"
    )
    launched = launch("sh", "-c", f"({script}) > said; echo $$ >> said", options=[f"--data={64 << 20}", "--nofile=512"])
    assert launched.ended() == ["ended", "exit", "0"]
    data, files, core, descriptors, privileges, session, pid = (tmp_path / "said").read_text().split("\n")[:7]
    assert (data, files, core) == (str(64 << 10), "512", "0")
    assert int(descriptors) == 4  # three, and the directory that ls reads
    assert privileges.split() == ["NoNewPrivs:", "1"]
    assert int(session) == int(pid)


def test_the_hard_limit_of_files_stays(launch: Launch, tmp_path: Path) -> None:
    launch("sh", "-c", "ulimit -H -n > said", options=["--nofile=512"]).ended()
    assert int((tmp_path / "said").read_text()) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_root_can_start_a_command_as_somebody_else(launch: Launch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    launched = launch("sh", "-c", "id -u; id -u > said; id -G >> said", options=["--uid=54321"])
    assert launched.ended() == ["ended", "exit", "0"]
    assert (tmp_path / "said").read_text().split() == ["54321", "54321"]


def test_cpu_time_and_memory_of_the_whole_tree_are_told(launch: Launch) -> None:
    began = time.monotonic()
    launched = launch("sh", "-c", "(head -c 40000000 /dev/zero | md5sum > /dev/null); exit 0")
    launched.line()
    _, _, _, cpu_us, rss_kb = launched.line().split()
    assert 1_000 < int(cpu_us) < (time.monotonic() - began) * 2e6
    assert 500 < int(rss_kb) < 100_000


def test_every_compiler_of_this_machine_builds_it_without_a_warning(tmp_path: Path) -> None:
    # the first builds of zig take minutes: it is for machines that have nothing else
    found = [compiler for compiler in compilers() if sys.executable not in compiler] or [*compilers()]
    assert found
    for number, compiler in enumerate(found):
        built(tmp_path / f"launcher-{number}", compiler)


def built(launcher: Path, compiler: tuple[str, ...]) -> None:
    assert build(SOURCES, launcher, [compiler]) == "", compiler
    # a linker would say much, and a task's environment is not to be obeyed by root
    linker = {"LD_DEBUG": "files"}
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True, env=linker)
    assert (done.stdout, done.stderr) == ("tidemill-launcher 4\n", "")
