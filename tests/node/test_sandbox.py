"""Level sandbox: the end of a task is told as truly, and is as sure, as at level process; what it sees is its own."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.node.prison import Node, Prison, pid_of, prison, prison_at, why_not, why_not_at
from tests.node.rig import NODE, Reader, Rig, alive, read_logs, until
from tests.node.test_limits import BOMB
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.process import PROCESSES_MAX

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nodes of several users"),
    pytest.mark.skipif(bool(why_not_at(Level.SANDBOX)), reason=why_not_at(Level.SANDBOX)),
]

# in a session of its own, without a parent, and it does not end when it is asked to
DAEMON: Final = "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' & "

# how to look at a process in /proc
LOOKS: Final = (("cat", "environ"), ("cat", "maps"), ("readlink", "fd/1"), ("ls", "cwd/"))


@pytest.fixture(scope="module", params=[Node.ROOT, Node.ORDINARY], ids=lambda kind: kind.name.lower())
def cell(request: pytest.FixtureRequest) -> Iterator[Prison]:
    if why := why_not(request.param):
        pytest.skip(why)
    with prison(request.param, Level.SANDBOX) as found:
        yield found


def gone(cell: Prison, before: set[int]) -> bool:
    """Wait until no process is left but those that were there ``before``: launchers go last, after the end was told."""
    until(lambda: cell.alive() <= before)
    return True


@pytest.mark.parametrize(
    ("script", "kind", "number"),
    [
        ("exit 0", OutcomeKind.SUCCEEDED, 0),
        ("exit 3", OutcomeKind.EXIT_CODE, 3),
        ("exit 137", OutcomeKind.EXIT_CODE, 137),
        ("exit 143", OutcomeKind.EXIT_CODE, 143),
        ("kill -KILL $$", OutcomeKind.SIGNAL, signal.SIGKILL),
        ("kill -SEGV $$", OutcomeKind.SIGNAL, signal.SIGSEGV),
        ("kill -ABRT $$", OutcomeKind.SIGNAL, signal.SIGABRT),
        ("kill -TERM $$", OutcomeKind.SIGNAL, signal.SIGTERM),
        ("trap 'exit 9' TERM; kill -TERM $$; exit 1", OutcomeKind.EXIT_CODE, 9),
        # they have no effect on the first process of a list
        ("kill -KILL 1; kill -TERM 1; exit 4", OutcomeKind.EXIT_CODE, 4),
        (DAEMON + "exit 5", OutcomeKind.EXIT_CODE, 5),
        ("exec /no/such/program 2>/dev/null", OutcomeKind.EXIT_CODE, 127),
    ],
)
def test_how_a_task_ended_is_told_as_it_was(cell: Prison, script: str, kind: OutcomeKind, number: int) -> None:
    before = cell.alive()
    outcome = cell.run(script)
    assert outcome.kind is kind
    assert (outcome.signal if kind is OutcomeKind.SIGNAL else outcome.exit_code) == number
    assert gone(cell, before)


def test_a_command_that_is_not_there_is_a_launch_error(cell: Prison) -> None:
    outcome = cell.reader.outcome(cell.launch(cell.rig.image("/no/such/program")).attempt)
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert outcome.message == "the command could not be started: No such file or directory"


def test_sigterm_reaches_the_whole_tree_and_the_grace_is_the_tasks(cell: Prison) -> None:
    child = "(trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.05; done) & "
    task = "trap 'wait; echo 7 > $TIDEMILL_RESULT_FILE; exit 7' TERM; while :; do sleep 0.05; done"
    before = cell.alive()
    lease = cell.launch(cell.rig.shell(child + task), grace_s=20)
    read_logs(cell.engine, lambda said: any(line[0] == lease.attempt.index and line[5] == "ready" for line in said))
    cell.engine.cancel(NODE, [lease.attempt], 20, cell.rig.term)
    outcome = cell.reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.CANCELLED
    assert outcome.result == "7\n"
    read_logs(cell.engine, lambda said: any(line[0] == lease.attempt.index and line[5] == "child" for line in said))
    assert gone(cell, before)


@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM; " + DAEMON + DAEMON + "while :; do sleep 1; done",
        DAEMON + "kill -STOP $$",
        "trap '' TERM; exec sleep 600",
        BOMB,
    ],
    ids=["ignores", "stopped", "one", "bomb"],
)
def test_after_its_timeout_nothing_of_a_task_is_alive(cell: Prison, script: str) -> None:
    before = cell.alive()
    outcome = cell.run(script, timeout_s=1, grace_s=0.2)
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert gone(cell, before)


def test_a_daemon_that_holds_the_output_open_holds_up_nothing(cell: Prison) -> None:
    before = cell.alive()
    outcome = cell.run(DAEMON + "echo out; exit 0")
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert gone(cell, before)


def test_memory_is_limited_by_the_kernel_and_what_kills_for_it_is_known(cell: Prison) -> None:
    if "memory-limit" not in cell.engine.nodes()[0].capabilities:
        pytest.skip("this node may not make groups, so that the kernel limits no memory for it")
    outcome = cell.run("exec tail -n 1 /dev/zero", memory_mb=64)
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert "limit of 64 MB" in outcome.message


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_who_fills_a_temporary_folder_is_told_that_it_is_full_and_nobody_else(cell: Prison, folder: str) -> None:
    free = os.statvfs("/dev/shm").f_bavail
    outcome = cell.run(
        # no more than the machine can spare, should nothing hold it
        f"head -c 100000000 /dev/zero 2> $TIDEMILL_WORK_DIR/err > {folder}/big; "
        f"echo $(stat -c %s {folder}/big) > $TIDEMILL_RESULT_FILE; grep -q 'No space' $TIDEMILL_WORK_DIR/err",
        memory_mb=64,
    )
    assert outcome.kind is OutcomeKind.SUCCEEDED
    # half of its memory for each of the two
    assert outcome.result == f"{32 << 20}\n"
    assert cell.run(f"echo x > {folder}/small; test ! -e {folder}/big").kind is OutcomeKind.SUCCEEDED
    assert not Path(folder, "small").exists()
    assert os.statvfs("/dev/shm").f_bavail >= free - (16 << 20) // os.statvfs("/dev/shm").f_frsize


def test_a_task_sees_its_own_processes_and_nothing_of_what_else_is_mounted(cell: Prison) -> None:
    script = "cd /proc; echo \"[$(ls -d [0-9]* | tr '\\n' ',' | sed 's/,$//')]\" > $TIDEMILL_RESULT_FILE"
    outcome = cell.run(script)
    assert outcome.result is not None
    seen = json.loads(outcome.result)
    assert {1, 2} <= set(seen)
    assert max(seen) < 20
    outcome = cell.run("ls / | tr '\\n' ' ' | sed 's/.*/\"&\"/' > $TIDEMILL_RESULT_FILE")
    assert outcome.result is not None
    # what tasks share lies in /tmp here; the interpreter of the system, in /usr
    system = {"bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"}
    assert set(json.loads(outcome.result).split()) <= system | {"app", "dev", "etc", "proc", "sys", "tmp"}


def test_the_image_lies_where_it_lies_and_at_app_and_temporary_files_go_to_tmp(cell: Prison) -> None:
    image = cell.rig.image("sh", "-c", ". /app/program", files={"program": "test -e program && test $TMPDIR = /tmp\n"})
    outcome = cell.reader.outcome(cell.launch(image).attempt)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome


def test_a_task_gets_its_arguments_over_the_loopback(cell: Prison) -> None:
    program = "import json, os, urllib.request as r; print(json.load(r.urlopen(os.environ['BL_EXECUTION_DATA_URL'])))"
    outcome = cell.run(f'/usr/bin/python3 -c "{program}" | grep -q index')
    assert outcome.kind is OutcomeKind.SUCCEEDED


def test_a_listener_does_not_stay(cell: Prison) -> None:
    program = (
        "import os, signal, socket, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); "
        "s = socket.create_server(('127.0.0.1', 0)); open(os.environ['PORT'], 'w').write(str(s.getsockname()[1])); "
        "time.sleep(600)"
    )
    port = cell.shared / f"port-{os.getpid()}"
    wait = f'/usr/bin/python3 -c "{program}" & while [ ! -s {port} ]; do sleep 0.02; done'
    assert cell.run(wait, environment={"PORT": str(port)}).kind is OutcomeKind.SUCCEEDED
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", int(port.read_text()))) != 0
    port.unlink()


def test_no_mount_is_left(cell: Prison) -> None:
    mounts = Path(f"/proc/{cell.rig.node_pid}/mountinfo")
    before = mounts.read_text()
    assert cell.run("true").kind is OutcomeKind.SUCCEEDED
    assert mounts.read_text() == before


def test_the_environment_of_a_task_does_nothing_before_it_is_confined_and_shows_nowhere(cell: Prison) -> None:
    log = cell.shared / "linker"
    # the linker of C programs writes what it links, a file for each program, with its number
    environment = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(log), "SECRET": "kept"}
    lease = cell.launch(cell.rig.shell("while :; do sleep 0.05; done"), environment=environment)
    until(lambda: list(cell.shared.glob("linker.*")))
    maker = until(lambda: next((each for each in tree(cell) if each.name() == "bwrap"), None))
    assert "SECRET" not in maker.environ()
    assert not [word for each in tree(cell) for word in words(each) if "kept" in word]
    cell.engine.cancel(NODE, [lease.attempt], 0, cell.rig.term)
    cell.reader.outcome(lease.attempt)
    assert not [path for path in cell.shared.glob("linker.*") if "bwrap" in path.read_text()]
    for path in cell.shared.glob("linker.*"):
        path.unlink()


def words(process: psutil.Process) -> list[str]:
    """Its command line; nothing of one that has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def tree(cell: Prison) -> list[psutil.Process]:
    return psutil.Process(cell.rig.node_pid).children(recursive=True)


def test_what_the_operator_lets_tasks_read_is_not_written(cell: Prison) -> None:
    assert cell.run(f"echo x > {cell.shared}/written && rm {cell.shared}/written").kind is OutcomeKind.SUCCEEDED
    for path in ("/usr/bin/tidemill-left", "/etc/tidemill-left", "/app/left", "/left", "/dev/left"):
        assert cell.run(f"echo x > {path}").kind is OutcomeKind.EXIT_CODE, path


@pytest.mark.parametrize("whom", ["outer launcher", "bubblewrap", "inner launcher"])
def test_whatever_of_a_sandbox_is_killed_from_outside_takes_all_of_it_along(rig: Rig, whom: str) -> None:
    engine = rig.engine(isolation="sandbox")
    lease = rig.lease(rig.shell(DAEMON + "exec sleep 601"))
    rig.launch(engine, lease)
    task = until(lambda: pid_of("sleep", "601", below=rig.node_pid))
    line = psutil.Process(task).parents()
    inner, bubblewrap, outer = line[:3]
    assert bubblewrap.name() == "bwrap"
    os.kill({"outer launcher": outer, "bubblewrap": bubblewrap, "inner launcher": inner}[whom].pid, signal.SIGKILL)
    outcome = Reader(engine).outcome(lease.attempt)
    assert outcome.kind is (OutcomeKind.LOST if whom == "outer launcher" else OutcomeKind.SIGNAL)
    until(lambda: not psutil.Process(rig.node_pid).children(recursive=True))


def test_a_killed_node_takes_its_sandboxes_along(rig: Rig) -> None:
    engine = rig.engine(isolation="sandbox")
    lease = rig.lease(rig.shell(DAEMON + "exec sleep 602"))
    rig.launch(engine, lease)
    until(lambda: pid_of("sleep", "602", below=rig.node_pid))
    below = [each.pid for each in psutil.Process(rig.node_pid).children(recursive=True)]
    rig.kill_node()
    until(lambda: not any(map(alive, below)))


def test_a_sandbox_ends_by_itself_when_nobody_is_left_to_end_it(rig: Rig) -> None:
    engine = rig.engine(isolation="sandbox")
    lease = rig.lease(rig.shell(DAEMON + "exec sleep 603"))
    rig.launch(engine, lease)
    task = until(lambda: pid_of("sleep", "603", below=rig.node_pid))
    outer = psutil.Process(task).parents()[2]
    below = [each.pid for each in psutil.Process(rig.node_pid).children(recursive=True)]
    # who is stopped notices nothing: neither the node nor the launcher has a moment for what they own
    outer.suspend()
    rig.kill_node()
    outer.kill()
    until(lambda: not any(map(alive, below)))


def test_where_proc_cannot_be_mounted_a_task_sees_that_others_run_and_nothing_of_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = rig.root / "programs"
    places.mkdir()
    refuses = 'for word; do [ "$word" = --proc ] && exit 1; done'
    (places / "bwrap").write_text(f'#!/bin/sh\n{refuses}; exec /usr/bin/bwrap "$@"\n')
    (places / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{places}:{os.environ['PATH']}")
    # users of their own would see even less
    engine = rig.engine(isolation="sandbox", task_uid_count=0, task_write_paths=())
    (node,) = engine.nodes()
    assert "own_proc" not in node.capabilities
    assert rig.run(engine, rig.lease(rig.shell(f"test -d /proc/{os.getpid()}"), 0)).kind is OutcomeKind.SUCCEEDED
    looks = [f"{how} /proc/{os.getpid()}/{what} > /dev/null" for how, what in LOOKS]
    for index, look in enumerate(looks, start=1):
        assert subprocess.run(look, shell=True, check=False).returncode == 0
        assert rig.run(engine, rig.lease(rig.shell(look), index)).kind is OutcomeKind.EXIT_CODE, look


def test_a_build_runs_outside_where_caches_can_be_linked_from(rig: Rig) -> None:
    engine = rig.engine(isolation="sandbox")
    lease = rig.build_lease({"main.sh": "true", "blaxel.toml": '[entrypoint]\nprod = "sh main.sh"\n'})
    engine.launch(NODE, [lease], rig.term)
    outcome = Reader(engine).outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome


def test_processes_of_a_sandbox_are_counted_whoever_it_runs_as() -> None:
    """The kernel counts those of its user namespace, so that it takes nothing from others of the node's user."""
    with prison_at(Node.ORDINARY, Level.SANDBOX) as cell:
        outcome = cell.try_inside(f"grep -Eq 'Max processes +{PROCESSES_MAX} +{PROCESSES_MAX} ' /proc/self/limits")
        assert outcome.kind is OutcomeKind.SUCCEEDED
