"""What a node leaves to its successor: kill -9, torn journals, planned stops, acknowledgements, terms."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.node.rig import NODE, Reader, Rig, alive, lines, read_logs, until
from tidemill.engine.local import LocalEngine
from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import EventKind, Outcome, OutcomeKind, Position, Refusal
from tidemill.node.discovery import read_card, stop_node
from tidemill.node.journal import Ending, Journal, Past, Running, read_journal
from tidemill.node.workdir import TMPFS_ROOTS, tmpfs_name

DAEMON = "setsid sh -c 'trap \"\" TERM HUP INT; (echo $$ > {root}/daemon; while :; do sleep 1; done) & wait' & "


def reconnected(engine: LocalEngine) -> str:
    """Asks until a node answers again; returns its incarnation."""

    def ask() -> str:
        try:
            return engine.nodes()[0].incarnation
        except EngineUnavailable:
            return ""

    return str(until(ask))


def test_kill_9_of_the_node_ends_its_tasks_and_loses_no_outcome(rig: Rig, engine: LocalEngine) -> None:
    done = rig.lease(rig.shell("echo '{}' > $TIDEMILL_RESULT_FILE; echo printed; exit 4"))
    long = rig.lease(rig.shell("printf '\"%09000d\"' 7 > $TIDEMILL_RESULT_FILE"), 1)
    script = f"trap '' TERM; echo $$ > {rig.root}/main; {DAEMON.format(root=rig.root)} while :; do sleep 1; done"
    busy = rig.lease(rig.shell(script), 2)
    rig.launch(engine, done, long, busy)
    # read, and not acknowledged
    until(lambda: len(engine.events(NODE, Position(), 1).events) == 5)
    main, daemon = rig.pid_from("main"), rig.pid_from("daemon")
    read_logs(engine, len)
    before = engine.nodes()[0].incarnation
    rig.kill_node()
    until(lambda: not alive(main) and not alive(daemon))

    assert reconnected(engine) != before
    assert engine.inventory(NODE).attempts == {done.attempt, long.attempt, busy.attempt}
    again = Reader(engine)
    assert again.outcome(done.attempt).exit_code == 4
    assert again.outcome(done.attempt).result == "{}\n"
    assert again.outcome(long.attempt).result == f'"{7:09000}"'
    lost = again.outcome(busy.attempt)
    assert (lost.kind, lost.planned) == (OutcomeKind.LOST, False)
    assert [event.number for event in again.seen] == [1, 2, 3]
    assert read_logs(engine, len)[0][5] == "printed"
    again.acknowledge()
    assert engine.inventory(NODE).attempts == frozenset()
    rig.kill_node()
    reconnected(engine)
    assert engine.inventory(NODE).attempts == frozenset()


def test_a_position_of_a_dead_incarnation_acknowledges_nothing(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell("true"))
    rig.launch(engine, lease)
    reader = Reader(engine)
    reader.outcome(lease.attempt)
    rig.kill_node()
    reconnected(engine)
    old = Position(incarnation=reader.position.incarnation, number=99)
    assert [event.attempt for event in engine.events(NODE, old, 1).events] == [lease.attempt]
    assert engine.inventory(NODE).attempts == {lease.attempt}


def test_blocks_keep_their_ids_and_are_forgotten_when_acknowledged(rig: Rig, engine: LocalEngine) -> None:
    rig.run(engine, rig.lease(rig.shell("echo first")))
    read_logs(engine, len)
    before = engine.logs(NODE, Position(), 1 << 20)
    rig.kill_node()
    reconnected(engine)
    after = engine.logs(NODE, Position(incarnation=before.incarnation, number=5), 1 << 20)
    assert [block.block_id for block in after.blocks] == [block.block_id for block in before.blocks]
    assert [block.number for block in after.blocks] == [1]
    rig.run(engine, rig.lease(rig.shell("echo second"), 1))
    found = until(lambda: [b for b in engine.logs(NODE, Position(), 1 << 20).blocks if b.number == 2])
    assert [line[5] for line in lines(found)] == ["second"]
    committed = Position(incarnation=after.incarnation, number=1)
    assert [block.number for block in engine.logs(NODE, committed, 1 << 20).blocks] == [2]
    assert [block.number for block in engine.logs(NODE, Position(), 1 << 20).blocks] == [2]


def test_one_block_comes_however_few_bytes_are_asked_for(rig: Rig) -> None:
    engine = rig.engine(log_block_bytes=1000)
    rig.run(engine, rig.lease(rig.shell("for i in 1 2 3 4 5 6 7 8; do head -c 700 /dev/zero | tr '\\0' x; echo; done")))
    until(lambda: len(engine.logs(NODE, Position(), 1 << 20).blocks) >= 4)
    assert len(engine.logs(NODE, Position(), 1).blocks) == 1


def test_the_wait_for_events_ends_when_a_log_block_comes(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell("echo early; sleep 30"))
    rig.launch(engine, lease)
    reader = Reader(engine)
    reader.started(lease.attempt)
    batch = engine.events(NODE, reader.position, 20)
    assert batch.events == ()
    assert batch.log_head == 1


def test_a_spool_that_is_full_drops_output_and_marks_the_cut(rig: Rig) -> None:
    engine = rig.engine(log_spool_bytes=2000, log_block_bytes=1000)
    script = "for i in $(seq 300); do head -c 30 /dev/urandom | base64; done"
    rig.run(engine, rig.lease(rig.shell(script)))
    first = until(lambda: engine.logs(NODE, Position(), 1 << 20).blocks)
    position = Position(incarnation=engine.nodes()[0].incarnation, number=first[-1].number)
    rig.launch(engine, rig.lease(rig.shell("echo after"), 1))
    until(lambda: any(block.cut for block in engine.logs(NODE, position, 1 << 20).blocks))


def test_a_planned_stop_is_a_planned_loss_and_what_waited_is_forgotten(rig: Rig) -> None:
    engine = rig.engine(slots=1)
    script = "trap 'echo bye; exit' TERM; echo ready; sleep 60 & wait"
    busy, queued = rig.lease(rig.shell(script)), rig.lease(rig.shell("true"), 1)
    rig.launch(engine, busy, queued)
    # not earlier: until it has set its trap, it ends by the signal
    read_logs(engine, len)
    pid = rig.node_pid
    os.kill(pid, signal.SIGTERM)
    until(lambda: not alive(pid))
    left = [root / tmpfs_name(rig.data) for root in TMPFS_ROOTS if (root / tmpfs_name(rig.data)).exists()]
    assert not left, "its work directory stays"
    other = rig.engine()
    reader = Reader(other)
    outcome = reader.outcome(busy.attempt)
    assert (outcome.kind, outcome.planned) == (OutcomeKind.LOST, True)
    assert other.inventory(NODE).attempts == {busy.attempt}
    assert read_logs(other, lambda found: len(found) == 2)[1][5] == "bye"


def test_a_node_that_closes_takes_nothing_new(rig: Rig, engine: LocalEngine) -> None:
    script = f"trap '' TERM; echo ready; while [ ! -e {rig.root}/go ]; do sleep 0.02; done"
    busy = rig.lease(rig.shell(script), grace_s=15)
    rig.launch(engine, busy)
    # not earlier: until it has set its trap, it ends by the signal
    read_logs(engine, len)
    os.kill(rig.node_pid, signal.SIGTERM)
    late = rig.lease(rig.shell("true"), 1)
    until(lambda: engine.launch(NODE, [late], rig.term)[0].refused is Refusal.CLOSING)
    assert engine.launch(NODE, [busy], rig.term)[0].refused is None
    assert engine.nodes()[0].slots == 0
    (rig.root / "go").touch()


def test_a_term_that_is_over_is_refused_by_the_successor_too(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell("sleep 60"))
    engine.launch(NODE, [lease], 5)
    Reader(engine).started(lease.attempt)
    with pytest.raises(StaleTerm):
        engine.launch(NODE, [rig.lease(lease.image, 1)], 4)
    with pytest.raises(StaleTerm):
        engine.cancel(NODE, [lease.attempt], 0, 4)
    with pytest.raises(StaleTerm):
        engine.withdraw(NODE, [lease.attempt], 4)
    with pytest.raises(StaleTerm):
        engine.renew(NODE, [lease.attempt], 1, 4)
    assert engine.inventory(NODE).attempts == {lease.attempt}
    rig.kill_node()
    reconnected(engine)
    with pytest.raises(StaleTerm):
        engine.launch(NODE, [rig.lease(lease.image, 2)], 4)
    assert engine.launch(NODE, [rig.lease(lease.image, 3)], 5)[0].refused is None


def test_a_torn_journal_loses_its_last_line_only(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, Past(boot="b"))
    first, second = (AttemptId(OwnerKind.TASK, 1, index, 1) for index in (0, 1))
    outcome = Outcome(kind=OutcomeKind.EXIT_CODE, exit_code=0, ended_at=1.5)
    journal.starting(first)
    journal.starting(second)
    journal.running(second, Running(12, 34))
    journal.ended(1, Ending(first, outcome))
    journal.ended(2, Ending(second, replace(outcome, result="[]")))
    journal.write()
    journal.close()
    whole = read_journal(path)
    assert [ending.attempt for ending in whole.endings.values()] == [first, second]
    assert whole.endings[1].outcome == outcome
    assert whole.running == {}
    content = path.read_bytes()
    end = content.index(b"\0")
    path.write_bytes(content[: end - 20] + b"\0" * 20 + content[end:])
    torn = read_journal(path)
    assert list(torn.endings) == [1]
    assert torn.running == {second: Running(12, 34)}
    path.write_bytes(content[: end - 20])
    assert read_journal(path) == torn


def test_the_journal_is_allocated_ahead_and_rewritten_when_most_of_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, Past())
    assert path.stat().st_size == 4 << 20
    assert path.stat().st_blocks * 512 >= 4 << 20
    attempts = [AttemptId(OwnerKind.TASK, 1, index, 1) for index in range(6000)]
    for number, attempt in enumerate(attempts, start=1):
        journal.starting(attempt)
        outcome = Outcome(kind=OutcomeKind.EXIT_CODE, exit_code=1, message="m" * 300, ended_at=1.0)
        journal.ended(number, Ending(attempt, outcome))
    journal.done(5990)
    journal.raise_term(3)
    journal.write()
    journal.compact_if_worth_it()
    journal.starting(AttemptId(OwnerKind.TASK, 2, 0, 1))
    journal.write()
    journal.close()
    assert len(path.read_bytes().rstrip(b"\0")) < 10_000
    past = read_journal(path)
    assert list(past.endings) == list(range(5991, 6001))
    assert past.term == 3
    assert list(past.running) == [AttemptId(OwnerKind.TASK, 2, 0, 1)]


def test_a_journal_that_cannot_be_rewritten_goes_on_in_its_old_file(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, Past())
    for number in range(1, 6001):
        attempt = AttemptId(OwnerKind.TASK, 1, number, 1)
        journal.starting(attempt)
        outcome = Outcome(kind=OutcomeKind.EXIT_CODE, exit_code=1, message="m" * 300, ended_at=1.0)
        journal.ended(number, Ending(attempt, outcome))
    journal.done(6000)
    journal.write()
    path.with_suffix(".partial").mkdir()  # no file can be made there, as on a full disk
    journal.compact_if_worth_it()
    kept = AttemptId(OwnerKind.TASK, 2, 0, 1)
    journal.starting(kept)
    journal.write()
    journal.close()
    assert list(read_journal(path).running) == [kept]


def test_the_journal_holds_no_secret(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell("true"), arguments='{"a": "SECRET1"}', environment={"TOKEN": "SECRET2"})
    rig.run(engine, lease)
    rig.kill_node()
    for file in rig.data.rglob("*"):
        if file.is_file():
            assert b"SECRET" not in file.read_bytes(), file


def test_events_are_numbered_and_read_in_order(rig: Rig, engine: LocalEngine) -> None:
    leases = [rig.lease(rig.shell("true"), index) for index in range(40)]
    rig.launch(engine, *leases)
    reader = Reader(engine)
    for lease in leases:
        reader.outcome(lease.attempt)
    assert [event.number for event in reader.seen] == list(range(1, 81))
    ended = [event.attempt for event in reader.seen if event.kind is EventKind.ENDED]
    assert sorted(ended) == [lease.attempt for lease in leases]


def test_a_frozen_node_is_killed_when_it_is_to_stop(rig: Rig, engine: LocalEngine) -> None:
    lease = rig.lease(rig.shell(f"echo $$ > {rig.root}/frozen; sleep 600"))
    rig.launch(engine, lease)
    task = rig.pid_from("frozen")
    card = read_card(rig.data / "node.json")
    assert card is not None
    os.kill(card.pid, signal.SIGSTOP)
    assert stop_node(rig.data, patience_s=0.3)
    assert not alive(card.pid)
    until(lambda: not alive(task))


def test_a_node_that_was_frozen_kills_what_has_expired_first_thing(rig: Rig, engine: LocalEngine) -> None:
    """Its grace has passed as well, whatever a renewal says that has waited at its door meanwhile."""
    ticks = rig.root / "ticks"
    script = f"trap '' TERM; while :; do echo x >> {ticks}; sleep 0.1; done"
    lease = rig.lease(rig.shell(script), ttl_s=0.3, grace_s=2.0)
    rig.launch(engine, lease)
    reader = Reader(engine)
    reader.started(lease.attempt)
    until(ticks.exists)
    node = rig.node_pid
    os.kill(node, signal.SIGSTOP)
    before = count(ticks)
    until(lambda: count(ticks) >= before + 24)  # each takes 0.1 s and more: time to live and grace have passed
    renewal = threading.Thread(target=lambda: engine.renew(NODE, [lease.attempt], 60, rig.term))
    renewal.start()
    woken = count(ticks)
    os.kill(node, signal.SIGCONT)
    outcome = reader.outcome(lease.attempt)
    renewal.join()
    assert outcome.kind is OutcomeKind.LOST
    assert count(ticks) < woken + 10, "it was given its grace again"


def count(ticks: Path) -> int:
    return ticks.read_text().count("x")
