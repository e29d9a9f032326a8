"""The checker finds what is broken: each rule is broken once, on purpose."""

import pytest
from sqlalchemy import text

from tests.scheduler.triggering import Clockwork, cron
from tidemill.engine.fake import Play
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import EXECUTION_FINAL, TASK_FINAL
from tidemill.store import check
from tidemill.testing.sim import Given, Sim


@pytest.fixture
def sim(_store: Sim) -> Sim:
    """Half of the work is done: task 0 failed once and succeeded, 1 succeeded with a result, 2 and 3 run."""
    _store.reset()
    _store.workspace(tasks=4)
    _store.scripts.plays[0, 1] = Play(kind=OutcomeKind.EXIT_CODE, exit_code=1)
    _store.scripts.plays[1, 1] = Play(result="1")
    _store.scripts.plays[2, 1] = _store.scripts.plays[3, 1] = Play(seconds=800.0)
    _store.submit(Given(tasks=4, parallelism=4, max_retries=1))
    _store.tick()
    _store.tick()
    for _ in range(2):
        _store.move(1.0)
        _store.tick()
    return _store


BREAKS = [
    ("I2: a task has ended", "UPDATE task SET ended_at = NULL WHERE idx = 0"),
    ("I2: a task has ended", "UPDATE task SET ended_at = 1 WHERE idx = 2"),
    ("I2: an execution has completed", "UPDATE execution SET completed_at = 1"),
    ("I2: an execution that has completed runs", "UPDATE execution SET state = 'cancelled', completed_at = 1"),
    ("I2: an execution's end says", "UPDATE execution SET state = 'succeeded', completed_at = 1"),
    ("I2: an execution's end says", "UPDATE execution SET succeeded = 4"),
    ("I2: what timed out", "UPDATE execution SET timed_out = 1, force = 1, deadline_at = 1"),
    ("I2: what timed out", "UPDATE execution SET timed_out = 1, state = 'cancelling', deadline_at = 1"),
    ("I2: what timed out", "UPDATE execution SET timed_out = 1, state = 'cancelling', force = 1"),
    ("I3: at most one attempt", "UPDATE attempt SET outcome = 'succeeded' WHERE idx = 0 AND number = 1"),
    ("I3: at most one attempt", "UPDATE task SET state = 'failed' WHERE idx = 0"),
    ("I3: a task that succeeded", "UPDATE attempt SET outcome = 'lost' WHERE idx = 1"),
    ("I3: a result is that", "UPDATE result SET attempt = 2"),
    ("I3: a result is that", "UPDATE task SET has_result = 0 WHERE idx = 1"),
    ("I3: a task with a result", "DELETE FROM result"),
    ("I4: no more attempts", "UPDATE task SET charged = 3 WHERE idx = 0"),
    ("I4: what a task was charged", "UPDATE attempt SET charged = 0"),
    ("I4: no attempt that was lost", "UPDATE attempt SET outcome = 'lost' WHERE idx = 0 AND number = 1"),
    ("I4: losses in a row", "UPDATE task SET lost_in_row = 5 WHERE idx = 2"),
    ("I5: live attempts stay within their execution's", "UPDATE execution SET parallelism = 1"),
    ("I5: live attempts stay within their workspace's", "UPDATE workspace SET max_concurrent_tasks = 1"),
    ("I5: live attempts stay within their node", "UPDATE node SET slots = 1"),
    ("I5: live attempts stay within their node", "UPDATE node SET memory_mb = 150"),
    ("I5: an attempt that runs alone", "UPDATE attempt SET alone = 1 WHERE idx = 2"),
    ("I5: live executions stay", "UPDATE workspace SET max_parallel_executions = 0"),
    ("I6: counters are the fold", "UPDATE execution SET running = 1"),
    ("I6: counters are the fold", "UPDATE execution SET waiting = 1"),
    ("I6: counters are the fold", "UPDATE execution SET failed = 1"),
    ("I6: counters are the fold", "UPDATE execution SET next_index = 3"),
    ("I6: tasks with rows", "UPDATE task SET idx = 7 WHERE idx = 3"),
    ("I6: a rerun, and nothing else", "INSERT INTO task_range SELECT key, 0, 0, 4 FROM execution"),
    ("I6: a rerun, and nothing else", "UPDATE execution SET origin = 1"),
    ("I6: ranges follow", "INSERT INTO task_range VALUES (99, 1, 0, 1)"),
    ("I6: ranges follow", "INSERT INTO task_range VALUES (99, 0, 5, 1), (99, 1, 3, 1)"),
    ("I6: a rerun is of its origin's", "UPDATE execution SET chain = 5"),
    ("I6: retries started", "UPDATE execution SET retried = 0"),
    ("I8: an execution's last event", "DELETE FROM event WHERE status = 'running'"),
    ("I8: an execution's last event", "UPDATE event SET status = 'failed' WHERE status = 'running'"),
    ("I8: an execution's last event", "UPDATE event SET key = 5, at = 1 WHERE status IN ('pending', 'running')"),
    ("I8: a task's last attempt", "UPDATE attempt SET change = NULL WHERE idx = 2"),
    ("I8: no number is given twice", "UPDATE attempt SET change = 1 WHERE idx = 2"),
    ("I8: no number is given twice", "UPDATE event_line SET last = last - 1"),
    ("I9: a live attempt of a task", "UPDATE task SET attempt = 2 WHERE idx = 2"),
    ("I9: a live attempt of a task", "UPDATE attempt SET ended_at = NULL WHERE idx = 1"),
    ("I9: a running task has", "UPDATE attempt SET ended_at = 1 WHERE idx = 2"),
    ("I1: what was accepted has", "DELETE FROM input_set"),
    ("I1: what was accepted has", "DELETE FROM revision"),
    ("I1: what was accepted has", "DELETE FROM job"),
    ("I1: what is forgotten", "INSERT INTO forgotten SELECT key, input_set, 1 FROM execution"),
    ("I1: what is left of", "DELETE FROM execution"),
    ("I1: what is left of", "UPDATE attempt SET owner = 5 WHERE idx = 0"),
    ("I1: what is left of", "UPDATE result SET execution = 5"),
    ("I1: a chunk of inputs", "DELETE FROM input_set"),
    ("I10: a request's name", "UPDATE execution_alias SET execution = 5"),
]
BUILD_BREAKS = [
    ("I9: a running build has", "UPDATE attempt SET ended_at = 1"),
    ("I9: a running build has", "DELETE FROM attempt"),
    ("I9: a live attempt of a build", "UPDATE build SET state = 'succeeded'"),
    ("I9: a live attempt of a build", "UPDATE build SET attempt = 2"),
    ("I9: a live attempt of a build", "DELETE FROM build"),
]
TRIGGER_BREAKS = [
    ("I7: a tick that fired", "UPDATE execution SET trigger_id = 'other'"),
    ("I7: a tick that fired", "UPDATE tick SET due_at = due_at + 60000000"),
    ("I7: a tick that fired", "UPDATE execution SET job = 5"),
    ("I7: an execution that a trigger started", "DELETE FROM tick"),
    ("I7: an execution that a trigger started", "UPDATE execution SET trigger_id = ''"),
    (
        "I7: an execution that a trigger started",
        "INSERT INTO tick SELECT job, trigger_id, 1, 1, outcome, reason, execution, settled_at FROM tick",
    ),
    ("I7: nothing that a trigger started", "UPDATE attempt SET claimed_at = (SELECT due_at - 1000 FROM execution)"),
    ("I7: a trigger's inputs", "DELETE FROM input_set"),
    ("I7: a trigger has its job", "DELETE FROM job"),
]


def after(sim: Sim, statement: str) -> list[str]:
    sim.database.write(lambda connection: connection.execute(text(statement)))
    return sim.violations()


def test_a_sound_ledger_has_no_violations(sim: Sim) -> None:
    assert sim.violations() == []


@pytest.mark.parametrize(("rule", "statement"), BREAKS)
def test_what_is_broken_is_found(sim: Sim, rule: str, statement: str) -> None:
    found = after(sim, statement)
    assert [line for line in found if line.startswith(rule)], found


@pytest.mark.parametrize(("rule", "statement"), BUILD_BREAKS)
def test_what_is_broken_about_builds_is_found(sim: Sim, rule: str, statement: str) -> None:
    sim.reset(lambda _: Play(seconds=600.0))
    sim.upload()
    sim.tick()
    assert sim.violations() == []
    found = after(sim, statement)
    assert [line for line in found if line.startswith(rule)], found


@pytest.mark.parametrize(("rule", "statement"), TRIGGER_BREAKS)
def test_what_is_broken_about_triggers_is_found(sim: Sim, rule: str, statement: str) -> None:
    sim.reset()
    work = Clockwork(sim)
    work.deploy(cron())
    work.look()
    sim.move(60.0)
    work.look()
    sim.tick()
    assert len(work.executions()) == 1
    assert sim.violations() == []
    found = after(sim, statement)
    assert [line for line in found if line.startswith(rule)], found


def test_every_rule_is_broken_somewhere_above() -> None:
    broken = [rule for rule, _ in (*BREAKS, *BUILD_BREAKS, *TRIGGER_BREAKS)]
    assert [rule for rule in check.ALWAYS if not any(rule.startswith(prefix) for prefix in broken)] == []


def test_at_rest_what_has_not_ended_counts_as_well(sim: Sim) -> None:
    sim.upload()
    # due, and without inputs so far
    sim.database.write(
        lambda connection: connection.execute(
            text("INSERT INTO tick SELECT key, 't', 1, 1, 'due', '', NULL, NULL FROM job LIMIT 1")
        )
    )
    assert sim.violations() == []
    rules = {line.rpartition(": ")[0] for line in sim.violations(at_rest=True)}
    assert rules == set(check.AT_REST)


def test_the_words_of_the_queries_are_those_of_the_states() -> None:
    final = {"succeeded", "failed", "cancelled"}
    assert {state.value for state in TASK_FINAL} == final == {state.value for state in EXECUTION_FINAL}


def test_a_long_list_is_cut(sim: Sim) -> None:
    sim.scripts.plays.clear()
    sim.submit(Given(job="many", tasks=50, parallelism=50))
    for _ in range(30):
        sim.move(1.0)
        sim.tick()
    found = after(sim, "UPDATE task SET ended_at = NULL WHERE state = 'succeeded'")
    assert len([line for line in found if line.startswith("I2: a task has ended")]) == check.SHOWN
