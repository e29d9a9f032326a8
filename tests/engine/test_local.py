"""The local engine: how it starts, finds, shares and lets go of its node."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.node.rig import NODE, Reader, Rig, alive, until
from tidemill.engine import stop
from tidemill.engine.local import LocalEngine
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import Lease, OutcomeKind, Position
from tidemill.node.discovery import read_card
from tidemill.node.process import LOCKED
from tidemill.node.settings import node_environment
from tidemill.testing.engine_suite import CASES, EXIT_CODE, PRINTED, RESULT, Case, Does, name_of

# what `tidemill stop` knows of a server: its lock and its pid
SERVER = """
import fcntl, json, os, pathlib, signal, sys
where = pathlib.Path(sys.argv[1])
lock = (where / "server.lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
(where / "server.json").write_text(json.dumps({"pid": os.getpid(), "url": ""}))
signal.pause()
"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    try:
        yield rig
    finally:
        rig.close()


# its pid first, so that a test can see it whatever the node says
ASLEEP = "echo $$ > PID; exec sleep 600"
SCRIPTS = {
    Does.SUCCEED: "exit 0",
    Does.FAIL: f"exit {EXIT_CODE}",
    Does.SLEEP: ASLEEP,
    Does.STUBBORN: "trap '' TERM; echo $$ > PID; while :; do sleep 0.1; done",
    Does.TIME_OUT: ASLEEP,
    Does.PRINT: "; ".join(f"echo {text}" for text in PRINTED),
    Does.RESULT: f"echo '{RESULT}' > $TIDEMILL_RESULT_FILE",
}


class LocalHarness:
    """A real node of two slots."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.engine = rig.engine(slots=2)
        self.node = NODE
        # its node says that leases need none, but keeps to one that is given: the same code runs for other engines
        self.ttl_s: float | None = 2.0

    def lease(self, attempt: AttemptId, does: Does, ttl_s: float | None = None) -> Lease:
        timeout_s = 0.3 if does is Does.TIME_OUT else 60.0
        image = self._rig.shell(SCRIPTS[does].replace("PID", str(self._pid(attempt))))
        return self._rig.lease(image, attempt=attempt, timeout_s=timeout_s, ttl_s=ttl_s)

    def is_alive(self, attempt: AttemptId) -> bool:
        text = self._pid(attempt).read_text() if self._pid(attempt).exists() else ""
        return text.endswith("\n") and alive(int(text))

    def crash(self) -> None:
        # a case may crash a node that nobody has asked for yet
        until(lambda: incarnation(self.engine))
        self._rig.kill_node()
        until(lambda: incarnation(self.engine))

    def until(self, ready: Callable[[], bool]) -> None:
        until(ready)

    def _pid(self, attempt: AttemptId) -> Path:
        return self._rig.root / f"pid-{attempt.owner}-{attempt.index}-{attempt.number}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_local_engine_keeps_the_contract(case: Case, rig: Rig) -> None:
    case(LocalHarness(rig))


def incarnation(engine: LocalEngine) -> str:
    """Empty while no node answers."""
    try:
        return engine.nodes()[0].incarnation
    except EngineUnavailable:
        return ""


def test_two_engines_share_one_node(rig: Rig) -> None:
    found: list[str] = []

    def ask(engine: LocalEngine) -> None:
        found.append(until(lambda: incarnation(engine)))

    threads = [threading.Thread(target=ask, args=(engine,)) for engine in (rig.engine(), rig.engine()) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_waiting_for_events_blocks_no_other_call(rig: Rig) -> None:
    engine = rig.engine()
    engine.nodes()
    waiting = threading.Thread(target=lambda: engine.events(NODE, Position(), 60))
    waiting.start()
    for _ in range(20):
        engine.inventory(NODE)
    assert waiting.is_alive()
    rig.run(engine, rig.lease(rig.shell("true")))
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_wait_ends_when_its_time_is_up(rig: Rig) -> None:
    engine = rig.engine()
    began = time.monotonic()
    assert engine.events(NODE, Position(), 0.3).events == ()
    assert time.monotonic() - began >= 0.3


def test_an_idle_node_ends_with_its_server_and_a_busy_one_goes_on(rig: Rig) -> None:
    engine = rig.engine()
    engine.nodes()
    pid = rig.node_pid
    assert engine.detach() is None
    assert not alive(pid)
    assert not (rig.data / "node.json").exists()
    with pytest.raises(EngineUnavailable):
        engine.nodes()

    busy = rig.engine()
    lease = rig.lease(rig.shell(f"while [ ! -e {rig.root}/go ]; do sleep 0.02; done; echo 5 > $TIDEMILL_RESULT_FILE"))
    rig.launch(busy, lease)
    Reader(busy).started(lease.attempt)
    left = busy.detach()
    assert left is not None
    assert (left.pid, left.busy) == (rig.node_pid, 1)
    (rig.root / "go").touch()
    after = rig.engine()
    assert Reader(after).outcome(lease.attempt).result == "5\n"
    assert rig.node_pid == left.pid


def test_close_with_the_tasks_ends_them(rig: Rig) -> None:
    engine = rig.engine()
    lease = rig.lease(rig.shell(f"echo $$ > {rig.root}/pid; sleep 60"))
    rig.launch(engine, lease)
    pid, node = rig.pid_from("pid"), rig.node_pid
    engine.close(stop_tasks=True)
    assert not alive(pid)
    assert not alive(node)


def test_a_lock_that_is_held_without_an_answer_is_told_and_no_second_node_starts(rig: Rig) -> None:
    engine = rig.engine()
    rig.data.mkdir()
    with (rig.data / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            engine.nodes()
        problem = engine.problem()
        assert problem is not None
        assert "node.lock" in problem
        assert not (rig.data / "node.log").exists()
    assert engine.nodes()
    assert engine.problem() is None


def test_a_second_node_process_refuses_to_be_one(rig: Rig) -> None:
    rig.engine().nodes()
    ours, theirs = os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "tidemill.node", rig.settings.to_json(), str(theirs)],
        pass_fds=[theirs],
        stderr=subprocess.DEVNULL,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == LOCKED
    assert b"another node" in os.read(ours, 1000)
    os.close(ours)
    assert alive(rig.node_pid)


def test_a_frozen_node_is_a_problem_and_comes_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rig.engine()
    engine.nodes()
    monkeypatch.setattr("tidemill.engine.local.CALL_TIMEOUT_S", 0.5)
    os.kill(rig.node_pid, signal.SIGSTOP)
    try:
        with pytest.raises(EngineUnavailable):
            engine.events(NODE, Position(), 0)
        assert engine.problem() is not None
    finally:
        os.kill(rig.node_pid, signal.SIGCONT)
    until(engine.nodes)
    assert engine.problem() is None


def test_a_node_that_died_is_started_again(rig: Rig) -> None:
    engine = rig.engine()
    first = engine.nodes()[0].incarnation
    rig.kill_node()
    assert until(lambda: incarnation(engine)) != first


def test_a_node_that_cannot_start_is_not_started_without_pause(rig: Rig) -> None:
    engine = rig.engine()
    (rig.data / "node").mkdir(parents=True)
    (rig.data / "node" / "journal").mkdir()
    with pytest.raises(EngineUnavailable, match="did not start"):
        engine.nodes()
    with pytest.raises(EngineUnavailable, match="started again in"):
        engine.nodes()
    (rig.data / "node" / "journal").rmdir()


def test_a_node_with_other_settings_drains_and_is_replaced(rig: Rig) -> None:
    engine = rig.engine()
    lease = rig.lease(rig.shell(f"while [ ! -e {rig.root}/go ]; do sleep 0.02; done"))
    rig.launch(engine, lease)
    Reader(engine).started(lease.attempt)
    old = rig.node_pid
    changed = rig.engine(slots=3)
    assert changed.nodes()[0].slots == 0
    (rig.root / "go").touch()

    def ask() -> int:
        try:
            return changed.nodes()[0].slots
        except EngineUnavailable:
            return 0

    assert until(ask) == 3
    assert rig.node_pid != old
    assert Reader(changed).outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED


def test_an_idle_node_that_nobody_calls_ends(rig: Rig) -> None:
    engine = rig.engine(idle_exit_s=0.5)
    engine.nodes()
    pid = rig.node_pid
    until(lambda: not alive(pid))


def test_a_socket_whose_path_is_too_long_lies_elsewhere(rig: Rig) -> None:
    deep = rig.root / ("d" * 60) / ("e" * 60)
    settings = replace(rig.settings, data_dir=deep)
    engine = LocalEngine(settings, lambda name: rig.blobs / name)
    assert engine.nodes()
    card = read_card(deep / "node.json")
    assert card is not None
    folder = Path(card.socket).parent
    assert folder != deep
    assert folder.stat().st_mode & 0o777 == 0o700
    engine.close(stop_tasks=True)
    assert not folder.exists()


def test_the_socket_is_for_this_user_only(rig: Rig) -> None:
    rig.engine().nodes()
    assert (rig.data / "node.sock").stat().st_mode & 0o777 == 0o600


def test_another_node_is_not_known(rig: Rig) -> None:
    with pytest.raises(EngineUnavailable):
        rig.engine().inventory(NodeId("elsewhere"))


def test_the_node_sees_no_secret_of_its_server(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_BOOTSTRAP_API_KEY", "SECRET")
    monkeypatch.setenv("UV_INDEX_URL", "http://index")
    rig.engine().nodes()
    variables = Path(f"/proc/{rig.node_pid}/environ").read_bytes()
    assert b"SECRET" not in variables
    assert b"UV_INDEX_URL=http://index" in variables
    assert node_environment({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x"}) == {"PATH": "/bin"}


def test_a_build_runs_like_a_task_and_leaves_its_image_where_it_is_told(rig: Rig) -> None:
    engine = rig.engine()
    lease = rig.build_lease({"blaxel.toml": '[entrypoint]\nprod = "sh main.sh"\n', "main.sh": "exit 0\n"})
    engine.launch(NODE, [lease], rig.term)
    reader = Reader(engine)
    outcome = reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome.message
    assert outcome.result is not None
    assert '"digest"' in outcome.result
    assert (rig.blobs / "incoming" / "b-11-1.tar.gz").is_file()


def test_a_build_that_the_user_got_wrong_says_why(rig: Rig) -> None:
    engine = rig.engine()
    lease = rig.build_lease({"blaxel.toml": "this is not TOML ["})
    engine.launch(NODE, [lease], rig.term)
    outcome = Reader(engine).outcome(lease.attempt)
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXIT_CODE, 1)
    assert "blaxel.toml" in outcome.message
    assert not (rig.blobs / "incoming").exists()


def test_stop_ends_server_and_node_and_says_so(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    engine = rig.engine()
    lease = rig.lease(rig.shell(f"echo $$ > {rig.root}/pid; sleep 60"))
    rig.launch(engine, lease)
    task, node = rig.pid_from("pid"), rig.node_pid
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(rig.data)])
    until(lambda: (rig.data / "server.json").exists() and (rig.data / "server.json").read_text().endswith("}"))
    assert stop.command(data_dir=rig.data) == 0
    assert server.wait(10) == -signal.SIGTERM
    assert not alive(task)
    until(lambda: not alive(node))
    said = capsys.readouterr().out
    assert f"server {server.pid} has ended" in said
    assert f"node {node} has ended" in said
    assert stop.command(data_dir=rig.data) == 0
    assert capsys.readouterr().out == f"nothing runs on {rig.data}\n"


def test_stop_of_a_node_that_does_not_answer_fails(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.data.mkdir()
    with (rig.data / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stop.command(data_dir=rig.data) == 1
    assert "does not end" in capsys.readouterr().err
