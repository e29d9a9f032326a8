"""What explanations are made of, and what it costs to read it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, update

from tidemill.engine.fake import Play
from tidemill.model.execution import Failure
from tidemill.model.ids import ExecutionKey
from tidemill.model.lease import OutcomeKind
from tidemill.model.outlook import Outlook
from tidemill.store import schema
from tidemill.store.explain import FAILURES_COUNTED, Gathered, Question, gather
from tidemill.testing.sim import Given, Sim


def gathered(sim: Sim, key: ExecutionKey, task: int | None = None) -> Gathered:
    question = Question(workspace="main", execution=f"execution-{key}", job=None, task=task)
    return sim.database.read(lambda connection: gather(connection, question, Outlook()))


def statements(sim: Sim, key: ExecutionKey, task: int | None) -> list[tuple[str, Any]]:
    """What is asked of the database, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        seen.append((statement, parameters))

    def work(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", note)
        try:
            question = Question(workspace="main", execution=f"execution-{key}", job="etl", task=task)
            gather(connection, question, Outlook())
        finally:
            event.remove(connection, "before_cursor_execute", note)

    sim.database.read(work)
    return seen


def failed(sim: Sim, counts: Sequence[tuple[str, int]]) -> ExecutionKey:
    """An execution that failed, with so many tasks for each reason, one after the other."""
    key = sim.submit(Given())
    total = sum(count for _, count in counts)
    reasons = [reason for reason, count in counts for _ in range(count)]

    def make(connection: Connection) -> None:
        now = {"created_at": sim.clock.now, "updated_at": sim.clock.now}
        rows = [
            {"execution": key, "idx": index, "state": "failed", "attempt": 1, "reason": reason, "exit_code": 3, **now}
            for index, reason in enumerate(reasons)
        ]
        connection.execute(insert(schema.task), rows)
        connection.execute(
            update(schema.execution)
            .where(schema.execution.c.key == key)
            .values(
                total=total,
                next_index=total,
                failed=total,
                state="failed",
                completed_at=sim.clock.now,
            )
        )

    sim.database.write(make)
    return key


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "failed"])
@pytest.mark.parametrize("task", [None, 1])
def test_every_question_is_carried_by_an_index(sim: Sim, state: str, task: int | None) -> None:
    if state == "queued":
        sim.workspace(executions_at_once=0)
    sim.scripts.plays = {(0, 1): Play(kind=OutcomeKind.EXIT_CODE, exit_code=1)}
    key = sim.submit(Given(tasks=3, parallelism=2, max_retries=int(state == "running")))
    if state == "failed":
        sim.run()
    else:
        sim.tick()
        sim.move(1)
        sim.hear()
    if state == "cancelling":
        sim.tick()
        sim.cancel(key)
    assert sim.state(key) == state
    asked = statements(sim, key, task)
    assert 4 <= len(asked) <= 12
    for statement, parameters in asked:
        plan = sim.database.read(
            lambda connection, words=statement, values=parameters: [  # type: ignore[misc]  # bound to this turn
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values)
            ]
        )
        scans = [line for line in plan if line.startswith("SCAN") and not line.startswith(_SMALL)]
        assert scans == [], statement


# what is small: parameters, constants, subqueries with a limit, workspaces, and the index of live attempts
_SMALL = (
    "SCAN pairs", "SCAN json_each", "SCAN CONSTANT", "SCAN anon", "SCAN (subquery",
    "SCAN workspace", "SCAN attempt USING INDEX attempt_live",
)  # fmt: skip


def test_failures_are_counted_exactly_while_one_reason_alone_is_very_frequent(sim: Sim) -> None:
    key = failed(sim, [("Timeout", 7), ("ExitCode", FAILURES_COUNTED + 500)])
    found = gathered(sim, key).facts.failures
    most = Failure(
        reason="ExitCode",
        count=FAILURES_COUNTED + 500,
        more=False,
        first_index=7,
        message="",
        exit_code=3,
        signal=None,
    )
    assert found == (most, replace(most, reason="Timeout", count=7, first_index=0))


def test_of_several_very_frequent_reasons_the_least_number_is_told(sim: Sim) -> None:
    key = failed(sim, [("Timeout", FAILURES_COUNTED + 1), ("Signal", 1), ("ExitCode", FAILURES_COUNTED + 500)])
    found = gathered(sim, key).facts.failures
    assert [(one.reason, one.count, one.more) for one in found] == [
        ("Timeout", FAILURES_COUNTED, True),
        ("ExitCode", FAILURES_COUNTED, True),
        ("Signal", 1, False),
    ]


def test_the_failures_are_read_from_their_index_alone(sim: Sim) -> None:
    asked = [one for one in statements(sim, failed(sim, [("Timeout", 3)]), None) if "UNION" in one[0]]
    ((statement, parameters),) = asked
    plan = sim.database.read(
        lambda connection: [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    )
    reads = [line for line in plan if "SEARCH task" in line]
    assert reads
    assert all("COVERING INDEX task_failed" in line for line in reads), plan


def test_what_the_failures_say_is_what_the_first_of_them_left(sim: Sim) -> None:
    sim.scripts.default = Play(kind=OutcomeKind.SIGNAL, signal=9, message="killed by signal 9")
    key = sim.submit(Given(tasks=3))
    sim.run()
    (found,) = gathered(sim, key).facts.failures
    assert (found.reason, found.count, found.first_index) == ("Signal", 3, 0)
    assert (found.message, found.signal) == ("killed by signal 9", 9)
