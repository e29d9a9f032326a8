"""A rerun runs what was selected and nothing else, at the indices of its origin."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, select, update

from tidemill.engine.fake import Play
from tidemill.model.execution import Reason, Task
from tidemill.model.ids import AttemptId, ExecutionKey, OwnerKind, new_key
from tidemill.model.lease import OutcomeKind, TaskLease
from tidemill.model.rerun import NOT_SUCCEEDED, Selection, merged
from tidemill.model.states import ExecutionState, TaskState
from tidemill.scheduler.leases import LeaseMaker
from tidemill.store import executions, ledger_claim, ranges, reruns, results, schema, task_pages, tasks
from tidemill.store.ledger_claim import TaskClaim
from tidemill.store.ranges import Range
from tidemill.testing.sim import NODE, Given, Sim

FAILS = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3)


def failed_at(sim: Sim, *indices: int, total: int = 10, max_retries: int = 0) -> ExecutionKey:
    """An execution that has ended; the tasks at ``indices`` failed in every attempt, then they would succeed."""
    for index in indices:
        for attempt in range(1, max_retries + 2):
            sim.scripts.plays[index, attempt] = FAILS
    key = sim.submit(Given(tasks=total, max_retries=max_retries))
    sim.run()
    sim.scripts.plays.clear()
    return key


def rows(sim: Sim, key: ExecutionKey) -> list[int]:
    query = select(schema.task.c.idx).where(schema.task.c.execution == key).order_by(schema.task.c.idx)
    return sim.database.read(lambda connection: list(connection.scalars(query)))


def pages(sim: Sim, key: ExecutionKey, *, descending: bool = False, limit: int = 2) -> list[int]:
    """Indices as a client that pages through the tasks sees them."""
    found: list[int] = []
    while True:
        page = task_pages.TaskPage(descending=descending, after=found[-1] if found else None, limit=limit)

        def read(page: task_pages.TaskPage = page) -> list[Task]:
            return sim.database.read(
                lambda connection: task_pages.find_page(connection, executions.find_by_key(connection, key), page)
            )

        more = [task.index for task in read()]
        if not more:
            return found
        found += more


def test_only_what_failed_runs_again_with_its_index_and_arguments(sim: Sim) -> None:
    origin = failed_at(sim, 2, 3, 7)
    seen = len(sim.engine.starts())
    key = sim.rerun(origin)
    sim.run()
    assert sim.state(key) is ExecutionState.SUCCEEDED
    assert rows(sim, key) == [2, 3, 7]
    assert len(sim.engine.starts()) - seen == 3
    attempts = [AttemptId(OwnerKind.TASK, key, index, 1) for index in (2, 3, 7)]
    made = LeaseMaker(database=sim.database, keyring=sim.keyring, policy=sim.policy).make(attempts)
    assert [lease.arguments for lease in made.leases if isinstance(lease, TaskLease)] == [
        f'{{"index":{index}}}' for index in (2, 3, 7)
    ]
    assert sim.violations(at_rest=True) == []


def test_positions_are_claimed_over_several_batches(sim: Sim) -> None:
    origin = failed_at(sim, *range(1, 40, 2), total=40)
    key = sim.rerun(origin)
    sim.tick()
    assert rows(sim, key) == [1, 3, 5, 7]
    assert sim.stats(key).pending == 16
    assert sim.violations() == []
    sim.run()
    assert rows(sim, key) == list(range(1, 40, 2))
    assert sim.stats(key).succeeded == 20


def test_a_rerun_retries_loses_and_fails_as_any_execution(sim: Sim) -> None:
    origin = failed_at(sim, 1, 4, 6, max_retries=1)
    # number 1 of each is lost with its node, and charged to nobody
    sim.scripts.plays[1, 2] = sim.scripts.plays[4, 2] = sim.scripts.plays[4, 3] = FAILS
    key = sim.rerun(origin)
    sim.tick()
    sim.engine.crash(NODE.id)
    sim.run()
    stats = sim.stats(key)
    assert (sim.state(key), stats.succeeded, stats.failed, stats.retried) == (ExecutionState.FAILED, 2, 1, 2)
    assert rows(sim, key) == [1, 4, 6]
    assert sim.violations(at_rest=True) == []


def test_a_cancelled_rerun_can_be_run_again_with_what_never_began(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=1.0)
    origin = failed_at(sim, *range(0, 20, 2), total=20)
    first = sim.rerun(origin)
    sim.tick()
    sim.cancel(first)
    sim.run()
    assert sim.state(first) is ExecutionState.CANCELLED
    assert (sim.stats(first).succeeded, sim.stats(first).cancelled) == (4, 6)
    again = sim.rerun(first, NOT_SUCCEEDED)
    sim.run()
    assert rows(sim, again) == [8, 10, 12, 14, 16, 18]
    chains = sim.database.read(
        lambda connection: [executions.find_by_key(connection, key).chain for key in (origin, first, again)]
    )
    assert chains == [origin] * 3
    assert sim.violations(at_rest=True) == []


def test_an_execution_cancelled_before_it_began_is_selected_without_rows(sim: Sim) -> None:
    origin = sim.submit(Given(tasks=7))
    sim.cancel(origin)
    key = sim.rerun(origin, Selection(states=frozenset({TaskState.CANCELLED}), indices=((1, 2), (5, 9))))
    sim.run()
    assert rows(sim, key) == [1, 2, 5, 6]


def test_a_task_whose_retry_was_cancelled_is_selected_as_cancelled(sim: Sim) -> None:
    sim.scripts.plays[0, 1] = FAILS
    origin = sim.submit(Given(tasks=1, max_retries=1))
    sim.tick()
    sim.move(1.0)
    sim.tick()
    row = sim.task(origin)
    assert row is not None
    assert row.state is TaskState.PENDING
    assert sim.cancel(origin) is ExecutionState.CANCELLED
    key = sim.rerun(origin, Selection(states=frozenset({TaskState.CANCELLED}), reasons=frozenset({Reason.CANCELLED})))
    sim.run()
    assert sim.stats(key).succeeded == 1


def test_pages_of_tasks_follow_the_indices_both_ways(sim: Sim) -> None:
    origin = failed_at(sim, 1, 2, 5, 8, 9)
    key = sim.rerun(origin)
    assert pages(sim, key) == [1, 2, 5, 8, 9]
    sim.run()
    assert pages(sim, key) == [1, 2, 5, 8, 9]
    assert pages(sim, key, descending=True) == [9, 8, 5, 2, 1]
    assert pages(sim, key, descending=True, limit=4) == [9, 8, 5, 2, 1]
    assert pages(sim, origin) == list(range(10))
    assert pages(sim, origin, descending=True) == list(reversed(range(10)))


def test_the_first_tasks_of_reruns_and_others_are_read_together(sim: Sim) -> None:
    origin = failed_at(sim, 1, 2, 5, 8, 9)
    key = sim.rerun(origin)
    sim.run()

    def read(connection: Connection) -> list[list[tuple[int, TaskState]]]:
        both = [executions.find_by_key(connection, one) for one in (origin, key)]
        found = tasks.first_tasks(connection, both, 3)
        return [[(task.index, task.state) for task in found[one.key]] for one in both]

    good, bad = TaskState.SUCCEEDED, TaskState.FAILED
    assert sim.database.read(read) == [[(0, good), (1, bad), (2, bad)], [(1, good), (2, good), (5, good)]]


def test_a_chain_tells_of_each_index_the_newest_success_else_the_newest_state(sim: Sim) -> None:
    origin = failed_at(sim, 1, 3, 4, total=6)
    sim.scripts.plays[3, 1] = FAILS
    first = sim.rerun(origin)
    sim.run()
    sim.scripts.plays.clear()
    sim.scripts.plays[1, 1] = FAILS
    second = sim.rerun(origin, Selection(indices=((1, 1), (3, 3))))
    page = sim.database.read(lambda connection: results.read_chain(connection, origin, 0))
    assert page.next_position >= 6
    told = {ended.task.index: (ended.execution, ended.task.state) for ended in page.ended}
    good, ids = TaskState.SUCCEEDED, {key: f"execution-{key}" for key in (origin, first, second)}
    assert told == {
        0: (ids[origin], good),
        1: (ids[first], good),
        2: (ids[origin], good),
        3: (ids[second], TaskState.PENDING),
        4: (ids[first], good),
        5: (ids[origin], good),
    }
    sim.run()
    page = sim.database.read(lambda connection: results.read_chain(connection, origin, 0))
    assert [ended.execution for ended in page.ended if ended.task.index in {1, 3}] == [ids[first], ids[second]]


def test_many_ranges_cost_a_claim_and_a_page_no_more_than_one_does(sim: Sim) -> None:
    origin = failed_at(sim, 1, 2)
    few = sim.rerun(origin)
    key = sim.rerun(origin)
    many = [Range(first_position=at, first_index=2 * at, count=1) for at in range(1, 20_000)]

    def spread(connection: Connection) -> None:
        connection.execute(
            update(schema.task_range).where(schema.task_range.c.execution == key).values(first_index=0, count=1)
        )
        ranges.add(connection, key, many)
        connection.execute(update(schema.execution).where(schema.execution.c.key == key).values(total=20_000))

    sim.database.write(spread)
    for_few, for_many = (_statements(sim, one) for one in (few, key))
    assert len(for_few) == len(for_many)
    ranged = [one for one in for_many if "task_range" in one[0]]
    assert ranged
    for statement, parameters in ranged:
        plan = sim.database.read(
            lambda connection, text=statement, values=parameters: [  # type: ignore[misc]  # bound to this turn
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            ]
        )
        looks = [line for line in plan if "task_range" in line or "before" in line]
        assert looks
        assert all(line.startswith("SEARCH") and "first_" in line for line in looks), plan
    near, far = (_steps(sim, key, at) for at in (10, 19_990))
    assert far < 2 * near
    assert sim.database.read(lambda connection: ranges.by_position(connection, {key: (9_999, 10_002)})) == {
        key: [19_998, 20_000, 20_002]
    }
    assert sim.database.read(lambda connection: ranges.by_index(connection, key, 101, 107)) == [102, 104, 106]


def test_ranges_of_an_execution_that_was_never_made_go_after_an_hour(sim: Sim) -> None:
    origin = failed_at(sim, 1, 4)
    kept = sim.rerun(origin)
    half = ExecutionKey(new_key(int(sim.clock.now.timestamp() * 1000)))
    made = [Range(first_position=at, first_index=2 * at, count=1) for at in range(1_500)]
    sim.database.write(lambda connection: ranges.add(connection, half, made))

    def left() -> dict[int, int]:
        column = schema.task_range.c
        query = select(column.execution, func.count().label("rows")).group_by(column.execution)
        return {row.execution: row.rows for row in sim.database.read(lambda c: c.execute(query).all())}

    assert sim.violations() == []
    sim.move(3_590)
    sim.sweep()
    assert left() == {kept: 2, half: 1_500}
    sim.move(20)
    sim.sweep(units=2)
    assert left() == {kept: 2, half: 500}
    sim.sweep()
    assert left() == {kept: 2}


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_numbered_ranges_hold_exactly_what_was_selected(chosen: set[int], low: int, high: int) -> None:
    found = list(ranges.number([(index, 1) for index in sorted(chosen)]))
    assert [one.first_index + at for one in found for at in range(one.count)] == sorted(chosen)
    assert [one.first_position for one in found] == [
        sum(other.count for other in found[:place]) for place in range(len(found))
    ]
    named = Selection(indices=merged([(low, high)] if low <= high else [(high, low)]))
    kept = [first + at for first, count in reruns.chosen([(0, 61)], named) for at in range(count)]
    assert kept == list(range(min(low, high), max(low, high) + 1))


def _steps(sim: Sim, key: ExecutionKey, position: int) -> int:
    """How many steps of its virtual machine SQLite takes to find three positions, and the same indices."""
    counted = [0]

    def step() -> int:
        counted[0] += 1
        return 0

    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(step, 1)
        ranges.by_position(connection, {key: (position, position + 3)})
        ranges.by_index(connection, key, 2 * position, 2 * position + 6)
        driver.set_progress_handler(None, 1)

    sim.database.read(work)
    return counted[0]


def _statements(sim: Sim, key: ExecutionKey) -> list[tuple[str, Any]]:
    """What a claim of three tasks of an execution and a page of them in the middle ask the database."""
    found: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, ___: object, ____: object) -> None:
        found.append((statement, parameters))

    def work(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", note)
        try:
            claims = [TaskClaim(execution=key, node=NODE.id, count=1)]
            ledger_claim.claim(connection, claims, term=sim.ticker.term, now=sim.clock.now)
            found_now = executions.find_by_key(connection, key)
            task_pages.find_page(connection, found_now, task_pages.TaskPage(after=1, limit=50))
            results.read_chain(connection, found_now.chain, 0)
        finally:
            event.remove(connection, "before_cursor_execute", note)

    sim.database.write(work)
    return found
