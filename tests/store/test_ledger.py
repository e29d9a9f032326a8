"""The guards of the ledger, each statement by itself."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, update

from tidemill.engine.fake import Play
from tidemill.model.errors import IllegalMove, NotFound
from tidemill.model.execution import Stats
from tidemill.model.ids import AttemptId, ExecutionKey, OwnerKind
from tidemill.model.lease import Event, EventKind, Outcome, OutcomeKind, Position
from tidemill.model.states import (
    BUILD_MOVES,
    EXECUTION_MOVES,
    TASK_MOVES,
    BuildEvent,
    BuildState,
    ExecutionEvent,
    ExecutionState,
    TaskEvent,
    TaskState,
)
from tidemill.store import ledger, nodes, schema
from tidemill.store.ledger import BuildMove, Counters, ExecutionMove, TaskMove, stats_of
from tidemill.store.ledger_settle import UNIT_BYTES, UNIT_EVENTS, Report, settle, units
from tidemill.testing.sim import NODE, Given, Sim


def a_move(key: ExecutionKey, index: int = 0, **changes: object) -> TaskMove:
    values: dict[str, object] = {
        "event": TaskEvent.SUCCEED,
        "execution": key,
        "index": index,
        "seen": TaskState.RUNNING,
        "fence": 1,
        "attempt": 1,
        "charged": 0,
        "lost_in_row": 0,
    }
    return TaskMove(**{**values, **changes})  # type: ignore[arg-type]  # a test's short hand


def move(sim: Sim, *moves: TaskMove) -> list[bool]:
    return sim.database.write(lambda connection: ledger.move_tasks(connection, moves, now=sim.clock.now))


def states(sim: Sim, key: ExecutionKey, count: int) -> list[TaskState | None]:
    rows = [sim.task(key, index) for index in range(count)]
    return [None if row is None else row.state for row in rows]


def test_a_task_is_moved_only_from_the_state_that_was_seen(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    assert move(sim, a_move(key)) == [True]
    before = sim.task(key)
    assert move(sim, a_move(key, event=TaskEvent.FAIL)) == [False]
    assert sim.task(key) == before


def test_a_task_is_moved_only_under_the_attempt_that_was_seen(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    before = sim.task(key)
    assert move(sim, a_move(key, fence=2)) == [False]
    assert move(sim, a_move(key, fence=0)) == [False]
    assert sim.task(key) == before


def test_only_the_task_that_was_named_is_moved(sim: Sim) -> None:
    key, other = sim.submit(Given(tasks=2)), sim.submit(Given(tasks=2))
    sim.tick()
    assert move(sim, a_move(key, 1)) == [True]
    assert states(sim, key, 2) == [TaskState.RUNNING, TaskState.SUCCEEDED]
    assert states(sim, other, 2) == [TaskState.RUNNING, TaskState.RUNNING]


def test_in_a_batch_the_others_are_moved_when_one_is_not(sim: Sim) -> None:
    key = sim.submit(Given(tasks=4))
    sim.tick()
    moves = [a_move(key, 0), a_move(key, 1, fence=7), a_move(key, 2), a_move(key, 99), a_move(key, 3)]
    assert move(sim, *moves) == [True, False, True, False, True]
    assert states(sim, key, 4) == [TaskState.SUCCEEDED, TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.SUCCEEDED]


@pytest.mark.parametrize(
    ("event", "seen"),
    [(event, state) for event, (sources, _) in TASK_MOVES.items() for state in TaskState if state not in sources],
)
def test_an_event_that_a_tasks_state_forbids_is_a_bug(sim: Sim, event: TaskEvent, seen: TaskState) -> None:
    with pytest.raises(IllegalMove):
        move(sim, a_move(ExecutionKey(1), event=event, seen=seen))


@pytest.mark.parametrize(
    ("event", "seen"),
    [(e, s) for e, (sources, _) in EXECUTION_MOVES.items() for s in ExecutionState if s not in sources],
)
def test_an_event_that_an_executions_state_forbids_is_a_bug(
    sim: Sim, event: ExecutionEvent, seen: ExecutionState
) -> None:
    wrong = ExecutionMove(event=event, key=1, seen=seen)
    with pytest.raises(IllegalMove):
        sim.database.write(lambda connection: ledger.move_executions(connection, [wrong], now=sim.clock.now))


@pytest.mark.parametrize(
    ("event", "seen"), [(e, s) for e, (sources, _) in BUILD_MOVES.items() for s in BuildState if s not in sources]
)
def test_an_event_that_a_builds_state_forbids_is_a_bug(sim: Sim, event: BuildEvent, seen: BuildState) -> None:
    wrong = BuildMove(event=event, key=1, seen=seen, fence=0, attempt=0)
    with pytest.raises(IllegalMove):
        sim.database.write(lambda connection: ledger.move_build(connection, wrong, now=sim.clock.now))


def test_an_execution_is_moved_only_from_the_state_that_was_seen(sim: Sim) -> None:
    key = sim.submit(Given())
    stale = ExecutionMove(event=ExecutionEvent.SUCCEED, key=key, seen=ExecutionState.RUNNING)
    assert sim.database.write(lambda c: ledger.move_executions(c, [stale], now=sim.clock.now)) == [False]
    assert sim.state(key) is ExecutionState.PENDING


@pytest.mark.parametrize(("seen", "fence"), [(BuildState.RUNNING, 0), (BuildState.PENDING, 1)])
def test_a_build_is_moved_only_as_it_was_seen(sim: Sim, seen: BuildState, fence: int) -> None:
    key = sim.upload()
    stale = BuildMove(event=BuildEvent.DROP, key=key, seen=seen, fence=fence, attempt=fence)
    assert not sim.database.write(lambda connection: ledger.move_build(connection, stale, now=sim.clock.now))


def test_stats_partition_the_total_in_every_state() -> None:
    counters = Counters(total=10, running=2, succeeded=3, failed=1, cancelled=1, retried=4)
    for state in (ExecutionState.QUEUED, ExecutionState.PENDING, ExecutionState.RUNNING):
        assert stats_of(state, counters) == Stats(
            total=10, pending=3, running=2, succeeded=3, failed=1, cancelled=1, retried=4
        )
    for state in (ExecutionState.CANCELLING, ExecutionState.CANCELLED):
        assert stats_of(state, counters) == Stats(
            total=10, pending=0, running=2, succeeded=3, failed=1, cancelled=4, retried=4
        )


def test_cancelling_an_execution_that_does_not_exist_is_an_error(sim: Sim) -> None:
    with pytest.raises(NotFound):
        sim.cancel(ExecutionKey(5))


def report(sim: Sim, *outcomes: Outcome, position: Position | None = None) -> None:
    """The live attempts, in order, ended like this."""
    pairs = zip(sim.live(), outcomes, strict=False)
    events = [
        Event(number=number, attempt=attempt, kind=EventKind.ENDED, at=0.0, outcome=outcome)
        for number, (attempt, outcome) in enumerate(pairs, 1)
    ]
    full = Report(node=NODE.id, events=events, position=position)
    sim.database.write(lambda connection: settle(connection, full, now=sim.clock.now, jitter=lambda: 0.5))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OutcomeKind.EXIT_CODE, "ExitCode"),
        (OutcomeKind.SIGNAL, "Signal"),
        (OutcomeKind.OUT_OF_MEMORY, "OutOfMemory"),
        (OutcomeKind.TIMED_OUT, "Timeout"),
        (OutcomeKind.LAUNCH_ERROR, "LaunchError"),
    ],
)
def test_each_failure_of_the_tasks_own_is_charged_and_told(sim: Sim, kind: OutcomeKind, reason: str) -> None:
    key = sim.submit(Given(max_retries=1))
    waits: list[timedelta | None] = []
    row = None
    for _ in range(2):
        sim.tick()
        report(sim, Outcome(kind=kind, ended_at=sim.clock.seconds(), message="why"))
        row = sim.task(key)
        assert row is not None
        waits.append(None if row.not_before is None else row.not_before - sim.clock.now)
        sim.move(60.0)
    assert row is not None
    assert waits == [timedelta(seconds=0.5), None]  # half of a second, by the dice; then no more
    assert (row.state, row.reason, row.charged, row.attempt) == (TaskState.FAILED, reason, 2, 2)
    assert sim.state(key) is ExecutionState.FAILED


def test_a_result_is_kept_with_the_end_and_only_with_it(sim: Sim) -> None:
    key = sim.submit(Given(tasks=3, max_retries=1))
    sim.tick()
    now = sim.clock.seconds()
    report(
        sim,
        Outcome(kind=OutcomeKind.SUCCEEDED, ended_at=now, result='{"ü": 1}'),
        Outcome(kind=OutcomeKind.EXIT_CODE, exit_code=1, ended_at=now, result="2"),
        Outcome(kind=OutcomeKind.SUCCEEDED, ended_at=now, result_error="not JSON"),
    )
    column = schema.result.c
    query = select(column.idx, column.attempt, column.data).where(column.execution == key)
    assert sim.database.read(lambda connection: connection.execute(query).all()) == [(0, 1, '{"ü": 1}'.encode())]
    assert [(row.state, row.reason) for index in range(3) if (row := sim.task(key, index))] == [
        (TaskState.SUCCEEDED, None),
        (TaskState.PENDING, "Retrying"),
        (TaskState.SUCCEEDED, "ResultRejected"),
    ]
    sim.run()
    assert sim.violations(at_rest=True) == []


def test_the_position_is_committed_with_what_it_stands_for(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    end = Outcome(kind=OutcomeKind.SUCCEEDED, ended_at=sim.clock.seconds())
    report(sim, end, position=Position(incarnation="n1-1", number=17))
    assert sim.position() == Position(incarnation="n1-1", number=17)
    assert sim.state(key) is ExecutionState.SUCCEEDED


def test_reports_of_attempts_that_nobody_knows_change_nothing(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.tick()
    (attempt,) = sim.live()
    stranger = AttemptId(OwnerKind.BUILD, 77, 0, 1)
    other = AttemptId(OwnerKind.TASK, 78, 0, 1)
    outcome = Outcome(kind=OutcomeKind.SUCCEEDED, ended_at=0.0)
    events = [
        Event(number=1, attempt=one, kind=kind, at=0.0, outcome=outcome if kind is EventKind.ENDED else None)
        for one in (stranger, other)
        for kind in (EventKind.STARTED, EventKind.ENDED)
    ]
    settled = sim.report(NODE.id, events)
    assert (settled.attempts, settled.executions) == (0, ())
    assert sim.live() == [attempt]
    assert sim.state(key) is ExecutionState.RUNNING


def test_a_batch_is_cut_into_units_that_keep_the_writer_free() -> None:
    def event(number: int, size: int) -> Event:
        outcome = Outcome(kind=OutcomeKind.SUCCEEDED, ended_at=0.0, result="x" * size)
        attempt = AttemptId(OwnerKind.TASK, 1, number, 1)
        return Event(number=number, attempt=attempt, kind=EventKind.ENDED, at=0.0, outcome=outcome)

    small = [event(number, 1) for number in range(2_500)]
    assert [len(unit) for unit in units(small)] == [UNIT_EVENTS, UNIT_EVENTS, 500]
    big = [event(number, 1 << 20) for number in range(7)]
    assert [len(unit) for unit in units(big)] == [3, 3, 1]
    assert [len(unit) for unit in units([event(1, 2 * UNIT_BYTES), event(2, 1)])] == [1, 1]
    assert list(units([])) == []


def test_every_term_is_higher_than_the_one_before(sim: Sim) -> None:
    def take(connection: Connection) -> int:
        return nodes.take_term(connection, "scheduler", holder="test", now=sim.clock.now)

    assert [sim.database.write(take) for _ in range(3)] == [2, 3, 4]


LIVE = "SELECT kind, owner, idx, number, node, workspace, memory_mb, alone, cancel_sent_at FROM attempt"


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (f"{LIVE} WHERE ended_at IS NULL", "COVERING INDEX attempt_live"),
        (
            "SELECT owner, COUNT(*) FROM attempt WHERE ended_at IS NULL AND owner IN (1, 2) GROUP BY owner",
            "COVERING INDEX attempt_live (owner=?)",
        ),
        (
            "SELECT idx FROM task WHERE execution = 1 AND state = 'pending' ORDER BY not_before LIMIT 3",
            "INDEX task_waiting (execution=?)",
        ),
        (
            "SELECT key FROM execution WHERE workspace = 'a' AND state = 'queued' AND job = 1 ORDER BY created_at",
            "INDEX execution_queued (workspace=? AND job=?)",
        ),
    ],
)
def test_what_each_pass_asks_is_carried_by_an_index(sim: Sim, query: str, index: str) -> None:
    rows = sim.database.read(lambda c: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all())
    assert [row[3] for row in rows if index in row[3]], rows
    assert not [row[3] for row in rows if "TEMP B-TREE" in row[3]], rows


def test_a_task_that_failed_says_how(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.scripts.default = Play(kind=OutcomeKind.SIGNAL, signal=11, message="killed by signal 11")
    sim.run()
    column = schema.task.c
    query = select(column.signal, column.exit_code, column.message, column.started_at, column.ended_at).where(
        column.execution == key
    )
    row = sim.database.read(lambda connection: connection.execute(query).one())
    assert (row.signal, row.exit_code, row.message) == (11, None, "killed by signal 11")
    assert row.started_at == row.ended_at is not None


def test_an_execution_that_lost_its_race_is_not_claimed(sim: Sim) -> None:
    """Its state was changed between the plan and the claim."""
    key = sim.submit(Given(tasks=3))
    stale = sim.planned()
    sim.database.write(
        lambda connection: connection.execute(
            update(schema.execution).where(schema.execution.c.key == key).values(state="cancelling", force=0)
        )
    )
    assert sim.claim(stale) == []
    assert sim.task(key) is None
