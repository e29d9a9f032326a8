"""What happens to a task on a node: how it is started, watched, ended and judged. Real processes throughout."""

import os
import re
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tests.node.rig import NODE, Reader, Rig, alive, read_logs, until
from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import BlobRef, EventKind, OutcomeKind
from tidemill.node.discovery import read_card

# the script goes on when the daemon has started: before that there is nothing that could outlive it
DAEMON = (
    "setsid sh -c 'trap \"\" TERM HUP INT; (echo $$ > {root}/daemon; while :; do sleep 1; done) & wait' & "
    "while [ ! -s {root}/daemon ]; do sleep 0.01; done; "
)


def test_a_task_starts_ends_and_leaves_its_output_and_result(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell('echo hello; echo oops >&2; echo "{\\"n\\": 1}" > $TIDEMILL_RESULT_FILE')
    lease = rig.lease(image)
    rig.launch(engine, lease)
    reader = Reader(engine)
    outcome = reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.exit_code == 0
    assert outcome.result is not None
    assert outcome.result.strip() == '{"n": 1}'
    assert outcome.started_at is not None
    assert outcome.started_at <= outcome.ended_at
    assert outcome.peak_memory_bytes
    assert outcome.cpu_s is not None
    assert [(event.number, event.kind) for event in reader.seen] == [(1, EventKind.STARTED), (2, EventKind.ENDED)]
    said = read_logs(engine, lambda found: len(found) >= 2)
    assert sorted((line[2], line[4], line[5]) for line in said) == [
        ("stderr", "ERROR", "oops"),
        ("stdout", "INFO", "hello"),
    ]
    assert {(line[0], line[1]) for line in said} == {(0, 1)}


@pytest.mark.parametrize(
    ("script", "kind", "code", "number"),
    [
        ("exit 3", OutcomeKind.EXIT_CODE, 3, None),
        ("exit 137", OutcomeKind.EXIT_CODE, 137, None),
        ("kill -9 $$", OutcomeKind.SIGNAL, None, 9),
        ("kill -SEGV $$", OutcomeKind.SIGNAL, None, 11),
    ],
)
def test_exit_codes_and_signals_are_told_apart(
    rig: Rig, engine: LocalEngine, script: str, kind: OutcomeKind, code: int | None, number: int | None
) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell(script)))
    assert (outcome.kind, outcome.exit_code, outcome.signal) == (kind, code, number)


def test_a_command_that_cannot_be_started_is_a_launch_error(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.image("/no/such/program"))
    rig.launch(engine, lease)
    reader = Reader(engine)
    outcome = reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert "No such file" in outcome.message
    assert [event.kind for event in reader.seen] == [EventKind.ENDED]


def test_a_timeout_ends_the_whole_tree_even_what_ignores_sigterm(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell("trap '' TERM; " + DAEMON.format(root=rig.root) + "while :; do sleep 1; done")
    outcome = rig.run(engine, rig.lease(image, timeout_s=0.5, grace_s=0.3))
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert "0.5 s" in outcome.message
    assert outcome.started_at is not None
    assert outcome.ended_at - outcome.started_at > 0.7
    assert daemons(rig) == []


def test_a_task_may_use_its_grace_and_is_still_timed_out(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell(
        "trap 'echo saved > $TIDEMILL_RESULT_FILE.x; echo 1 > $TIDEMILL_RESULT_FILE; exit 0' TERM; sleep 60 & wait"
    )
    outcome = rig.run(engine, rig.lease(image, timeout_s=0.3))
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert outcome.result == "1\n"


def test_cancel_terminates_then_kills(rig: Rig, engine: LocalEngine) -> None:
    polite, stubborn = (
        rig.lease(rig.shell("sleep 60")),
        rig.lease(rig.shell("trap '' TERM; while :; do sleep 1; done"), 1),
    )
    rig.launch(engine, polite, stubborn)
    reader = Reader(engine)
    reader.started(polite.attempt)
    reader.started(stubborn.attempt)
    engine.cancel(NODE, [polite.attempt, stubborn.attempt], 0.3, rig.term)
    assert reader.outcome(polite.attempt).kind is OutcomeKind.CANCELLED
    assert reader.outcome(stubborn.attempt).kind is OutcomeKind.CANCELLED


def test_a_later_cancel_does_not_lengthen_the_grace(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell("trap '' TERM; while :; do sleep 0.1; done"))
    reader = Reader(engine)
    rig.launch(engine, lease)
    reader.started(lease.attempt)
    engine.cancel(NODE, [lease.attempt], 1.0, rig.term)
    engine.cancel(NODE, [lease.attempt], 600.0, rig.term)
    assert reader.outcome(lease.attempt).kind is OutcomeKind.CANCELLED


def test_a_node_without_descriptors_loses_attempts_and_no_more(rig: Rig) -> None:
    engine = rig.engine(slots=40)
    image = rig.shell("sleep 0.3")
    assert rig.run(engine, rig.lease(image, 99, memory_mb=16)).kind is OutcomeKind.SUCCEEDED
    card = read_card(rig.data / "node.json")
    assert card is not None
    held = len(list(Path(f"/proc/{card.pid}/fd").iterdir()))
    soft, hard = resource.prlimit(card.pid, resource.RLIMIT_NOFILE)
    assert soft == hard  # it has taken all that it may have
    leases = [rig.lease(image, index, memory_mb=16) for index in range(24)]
    for spare in (16, 17, 18):  # whichever call it is that fails first: a pipe's or the socket pair's
        resource.prlimit(card.pid, resource.RLIMIT_NOFILE, (held + spare, hard))
        again = [replace(lease, attempt=replace(lease.attempt, number=spare)) for lease in leases]
        rig.launch(engine, *again)
        reader = Reader(engine)
        kinds = {reader.outcome(lease.attempt).kind for lease in again}
        assert kinds == {OutcomeKind.SUCCEEDED, OutcomeKind.LOST}
    assert engine.inventory(NODE).attempts <= {lease.attempt for lease in again}


def test_cancelling_what_is_unknown_does_nothing(rig: Rig, engine: LocalEngine) -> None:
    engine.cancel(NODE, [AttemptId(OwnerKind.TASK, 1, 1, 1)], 0, rig.term)
    assert Reader(engine).read(0.1) == []


def test_no_process_outlives_its_attempt(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell(DAEMON.format(root=rig.root) + "exit 2")))
    assert outcome.exit_code == 2
    assert daemons(rig) == []


def test_no_zombie_outlives_its_attempt_for_long(rig: Rig) -> None:
    """Whatever many tasks have come and gone: the node collects the launchers that started them."""
    engine = rig.engine(slots=8)
    leases = [rig.lease(rig.shell("exit 0"), index, memory_mb=16) for index in range(100)]
    rig.launch(engine, *leases)
    reader = Reader(engine)
    for lease in leases:
        assert reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
    until(lambda: children(rig.node_pid) == [])


def daemons(rig: Rig) -> list[int]:
    """Processes of ``DAEMON`` that are alive, by what they are called: a pid may be another's by now."""
    return [pid for pid, (_, line) in processes().items() if f"{rig.root}/daemon" in line]


def children(parent: int) -> list[int]:
    return [pid for pid, (of, _) in processes().items() if of == parent]


def processes() -> dict[int, tuple[int, str]]:
    """Every process: its parent and its command line, which is empty for a zombie."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                found[int(entry.name)] = parent, (entry / "cmdline").read_text(errors="replace")
    return found


def test_a_task_sees_what_the_contract_says(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell(
        "umask; env -0 > " + str(rig.root / "env") + "; pwd > " + str(rig.root / "cwd") + "; cat $TIDEMILL_TASK_FILE"
    )
    lease = rig.lease(image, 5, environment={"BL_NAME": "etl", "LANG": "en_US.UTF-8", "TASK_INDEX": "99"})
    assert rig.run(engine, lease).kind is OutcomeKind.SUCCEEDED
    text = (rig.root / "env").read_text()
    env = dict(part.split("=", 1) for part in text.split("\0") if part)
    assert env["BL_NAME"] == "etl"
    assert env["LANG"] == "en_US.UTF-8"
    assert env["TASK_INDEX"] == "5"
    assert env[env["BL_TASK_KEY"]] == "0"
    assert env["BL_TASK_PREFIX"] == "5-"
    assert env["TIDEMILL_ATTEMPT"] == "1"
    assert env["TMPDIR"] == env["TIDEMILL_WORK_DIR"]
    assert env["BL_EXECUTION_DATA_URL"].startswith("http://127.0.0.1:")
    assert not {name for name in env if "KEY" in name} - {"BL_TASK_KEY"}
    assert not Path(env["TIDEMILL_WORK_DIR"]).exists(), "the work directory stays"
    assert (rig.root / "cwd").read_text().strip() == str(rig.data / "images" / lease.image.digest / "app")
    assert [line[5] for line in read_logs(engine, lambda found: len(found) >= 2)] == ["0022", '{"index": 5}']


def test_a_python_image_finds_its_own_programs_first(rig: Rig, engine: LocalEngine) -> None:
    image = rig.image("own", language="python", files={".venv/bin/own": "#!/bin/sh\necho $PYTHONUNBUFFERED $PATH\n"})
    assert rig.run(engine, rig.lease(image)).kind is OutcomeKind.SUCCEEDED
    said = read_logs(engine, len)[0][5]
    assert re.fullmatch(r"1 /\S+/app/\.venv/bin:/usr/local/sbin\S+", said)


def test_arguments_come_by_a_get_and_only_while_the_task_lives(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(
        rig.shell(f"echo $BL_EXECUTION_DATA_URL > {rig.root}/url; sleep 60"), 2, arguments='{"ü": [1, 2.5]}'
    )
    rig.launch(engine, lease)
    url = until(lambda: (rig.root / "url").exists() and (rig.root / "url").read_text().strip())
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"tasks": [{"ü": [1, 2.5]}]}
    with pytest.raises(requests.ConnectionError):
        requests.get(url + "x", timeout=10)
    engine.cancel(NODE, [lease.attempt], 0, rig.term)
    Reader(engine).outcome(lease.attempt)
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_what_asks_for_far_more_memory_than_its_limit_is_refused_it_where_no_kernel_counts(rig: Rig) -> None:
    engine = rig.engine(limits="none")
    script = f"{sys.executable} -c 'x = bytearray(1200 << 20)'"
    outcome = rig.run(engine, rig.lease(rig.shell(script), memory_mb=64))
    assert outcome.kind is OutcomeKind.EXIT_CODE
    assert "MemoryError" in read_logs(engine, len)[-1][5]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo '{not json' > $TIDEMILL_RESULT_FILE", "not JSON"),
        ("echo NaN > $TIDEMILL_RESULT_FILE", "not JSON"),
        ("head -c 3000 /dev/zero | tr '\\0' 1 > $TIDEMILL_RESULT_FILE", "at most 2000"),
        ("mkfifo $TIDEMILL_RESULT_FILE", "not a regular file"),
        ("ln -s /etc/passwd $TIDEMILL_RESULT_FILE", "cannot be read"),
        ("mkdir $TIDEMILL_RESULT_FILE", "not a regular file"),
    ],
)
def test_a_result_that_is_none_is_refused_and_changes_no_success(
    rig: Rig, engine: LocalEngine, script: str, error: str
) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell(script), result_max_bytes=2000))
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.result is None
    assert outcome.result_error is not None
    assert error in outcome.result_error


def test_a_failure_may_leave_a_result_too(rig: Rig, engine: LocalEngine) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell("echo '[1]' > $TIDEMILL_RESULT_FILE; exit 9")))
    assert (outcome.exit_code, outcome.result) == (9, "[1]\n")


def test_a_long_result_comes_whole(rig: Rig, engine: LocalEngine) -> None:
    script = "(echo '\"'; head -c 300000 /dev/zero | tr '\\0' x; echo '\"') | tr -d '\\n' > $TIDEMILL_RESULT_FILE"
    lease = rig.lease(rig.shell(script))
    outcome = rig.run(engine, lease)
    assert outcome.result == '"' + "x" * 300_000 + '"'
    files = list((rig.data / "node" / "results").iterdir())
    assert len(files) == 1
    reader = Reader(engine)
    reader.outcome(lease.attempt)
    reader.acknowledge()
    assert not files[0].exists()


def test_a_flood_of_output_is_cut_and_the_task_goes_on(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(
        rig.shell("head -c 20000000 /dev/zero | tr '\\0' 'a' | fold -w 99; echo end"), log_max_bytes=500_000
    )
    assert rig.run(engine, lease).kind is OutcomeKind.SUCCEEDED
    seen = until(lambda: [b for b in [engine.logs(NODE, Reader(engine).position, 1 << 30)] if b.blocks[-1].cut])
    blocks = seen[0].blocks
    assert [block.cut for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert 3000 < sum(block.lines["INFO"] for block in blocks) < 5000


def test_what_holds_a_pipe_open_does_not_keep_the_attempt_alive(rig: Rig, engine: LocalEngine) -> None:
    # by far longer than anybody here waits for an outcome
    outcome = rig.run(engine, rig.lease(rig.shell("sleep 600 & setsid sleep 600 & exit 0")))
    assert outcome.kind is OutcomeKind.SUCCEEDED


def test_partial_lines_are_kept(rig: Rig, engine: LocalEngine) -> None:
    rig.run(engine, rig.lease(rig.shell("printf 'one\\ntwo'; printf 'three' >&2")))
    said = read_logs(engine, lambda found: len(found) >= 3)
    assert sorted(line[5] for line in said) == ["one", "three", "two"]


def test_a_work_directory_with_anything_in_it_is_removed(rig: Rig, engine: LocalEngine) -> None:
    script = f"echo $TMPDIR > {rig.root}/where; mkdir -p $TMPDIR/a/b; touch $TMPDIR/a/b/c; ln -s / $TMPDIR/root"
    rig.run(engine, rig.lease(rig.shell(script)))
    where = Path((rig.root / "where").read_text().strip())
    until(lambda: not where.exists())
    assert Path("/etc").exists()


def test_an_image_that_cannot_be_fetched_costs_the_user_nothing(rig: Rig, engine: LocalEngine) -> None:
    missing = BlobRef(name="images/none.tar.gz", digest="0" * 64)
    outcome = rig.run(engine, rig.lease(missing))
    assert outcome.kind is OutcomeKind.LOST
    assert "could not be fetched" in outcome.message
    image = rig.shell("true")
    wrong = replace(image, digest="1" * 64)
    outcome = rig.run(engine, rig.lease(wrong, 1))
    assert outcome.kind is OutcomeKind.LOST
    assert not (rig.data / "images" / ("1" * 64)).exists()


def test_an_image_is_fetched_once_and_then_held(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell("exit 0")
    first = [rig.lease(image, index) for index in range(5)]
    rig.launch(engine, *first)
    reader = Reader(engine)
    assert all(reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED for lease in first)
    assert engine.nodes()[0].images == {image.digest}
    (rig.blobs / image.name).unlink()
    assert rig.run(engine, rig.lease(image, 9)).kind is OutcomeKind.SUCCEEDED


def test_launching_twice_starts_once(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell(f"echo x >> {rig.root}/starts; sleep 0.3"))
    for _ in range(3):
        acknowledged = engine.launch(NODE, [lease, lease], rig.term)
        assert [(a.attempt, a.refused) for a in acknowledged] == [(lease.attempt, None)] * 2
    reader = Reader(engine)
    reader.outcome(lease.attempt)
    rig.launch(engine, lease)
    assert lease.attempt in engine.inventory(NODE).attempts
    reader.acknowledge()
    assert lease.attempt not in engine.inventory(NODE).attempts
    assert (rig.root / "starts").read_text() == "x\n"


def test_what_does_not_fit_waits_in_order_and_can_be_withdrawn(rig: Rig) -> None:
    engine = rig.engine(slots=2, memory_mb=1024)
    (rig.root / "order").touch()
    (rig.root / "order").chmod(0o666)
    image = rig.shell(f"echo $TASK_INDEX >> {rig.root}/order; while [ ! -e {rig.root}/go ]; do sleep 0.02; done")
    leases = [rig.lease(image, index) for index in range(6)]
    rig.launch(engine, *leases)
    reader = Reader(engine)
    for lease in leases[:2]:
        reader.started(lease.attempt)
    assert engine.inventory(NODE).attempts == {lease.attempt for lease in leases}
    wish = [lease.attempt for lease in (leases[0], leases[3])]
    assert engine.withdraw(NODE, wish, rig.term) == [leases[3].attempt]
    engine.cancel(NODE, [leases[4].attempt], 1, rig.term)
    assert reader.outcome(leases[4].attempt).kind is OutcomeKind.CANCELLED
    (rig.root / "go").touch()
    for index in (0, 1, 2, 5):
        assert reader.outcome(leases[index].attempt).kind is OutcomeKind.SUCCEEDED
    order = [int(word) for word in (rig.root / "order").read_text().split()]
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order[2:]) == [2, 5]


def test_memory_is_never_promised_twice(rig: Rig) -> None:
    engine = rig.engine(slots=10, memory_mb=1000)
    image = rig.shell(f"while [ ! -e {rig.root}/go ]; do sleep 0.02; done")
    big, small, huge = (
        rig.lease(image, 0, memory_mb=600),
        rig.lease(image, 1, memory_mb=500),
        rig.lease(image, 2, memory_mb=9000),
    )
    rig.launch(engine, big, small, huge)
    reader = Reader(engine)
    reader.started(big.attempt)
    assert reader.read(0.3) == []
    (rig.root / "go").touch()
    for lease in (big, small, huge):
        assert reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
    times = [
        (reader.outcome(lease.attempt).started_at, reader.outcome(lease.attempt).ended_at)
        for lease in (big, small, huge)
    ]
    assert times[0][1] <= (times[1][0] or 0)
    assert times[1][1] <= (times[2][0] or 0)


def test_a_lease_that_nobody_renews_is_ended(rig: Rig, engine: LocalEngine) -> None:
    dying, renewed = (rig.lease(rig.shell("sleep 60"), index, ttl_s=0.8, grace_s=0.2) for index in (0, 1))
    rig.launch(engine, dying, renewed)
    reader = Reader(engine)
    reader.started(dying.attempt)
    engine.renew(NODE, [renewed.attempt], 60, rig.term)
    outcome = reader.outcome(dying.attempt)
    assert outcome.kind is OutcomeKind.LOST
    assert "expired" in outcome.message
    assert engine.inventory(NODE).attempts == {dying.attempt, renewed.attempt}


def test_a_killed_launcher_is_a_loss(rig: Rig, engine: LocalEngine) -> None:
    # not by the task: that cannot, where it is confined
    script = f"(while :; do sleep 1; done) & echo $! > {rig.root}/child; echo $PPID > {rig.root}/launcher; sleep 60"
    lease = rig.lease(rig.shell(DAEMON.format(root=rig.root) + script))
    rig.launch(engine, lease)
    rig.pid_from("child")
    os.kill(rig.pid_from("launcher"), signal.SIGKILL)
    outcome = Reader(engine).outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.LOST
    assert not alive(rig.pid_from("child"))
    assert daemons(rig) == []
    assert rig.run(engine, rig.lease(rig.shell("exit 0"), 1)).kind is OutcomeKind.SUCCEEDED


def test_a_task_is_not_stopped_by_a_signal_to_its_engine_process_group(rig: Rig, engine: LocalEngine) -> None:
    engine.nodes()
    assert os.getsid(rig.node_pid) == rig.node_pid
    assert os.getpgid(rig.node_pid) != os.getpgid(0)
    descriptors = {str(fd.readlink()) for fd in Path(f"/proc/{rig.node_pid}/fd").iterdir()}
    assert {str(rig.data / "node.log"), "/dev/null"} <= descriptors
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
