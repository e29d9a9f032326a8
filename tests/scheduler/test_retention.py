"""What is forgotten, when, and what a server that dies in the middle of it leaves."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from tidemill.engine.fake import Play
from tidemill.model.errors import NotFound
from tidemill.model.ids import ExecutionKey, OwnerKind
from tidemill.model.image import image_blob, incoming_blob, source_blob
from tidemill.model.lease import OutcomeKind
from tidemill.model.rerun import Selection
from tidemill.model.states import ExecutionState, JobState, TaskState
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.store import executions, results, schema
from tidemill.testing.sim import DIGEST, WORKSPACE, Given, Sim

DAY_S = 86_400.0
ALL = Selection(states=frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED}))
TABLES = (
    "execution", "execution_alias", "task", "result", "attempt", "task_range", "log_block", "input_set", "input_chunk",
    "forgotten",
)  # fmt: skip
NOTHING = dict.fromkeys(TABLES, 0)


@pytest.fixture(autouse=True)
def _real_policy(sim: Sim) -> None:
    sim.policy = SchedulerPolicy(task_url="http://sim/v0", run_url="http://sim")
    sim.restart()


def rows(sim: Sim) -> Mapping[str, int]:
    tables = schema.metadata.tables
    return sim.database.read(
        lambda connection: {
            name: connection.execute(select(func.count()).select_from(tables[name])).scalar_one() for name in TABLES
        }
    )


def busy(sim: Sim, tasks: int = 3) -> ExecutionKey:
    """An execution that has ended, with retries, results and output."""
    sim.scripts.default = Play(seconds=1.0, result='{"a":1}', output=("hello", "bye"))
    sim.scripts.plays[0, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1, output=("oh",))
    key = sim.submit(Given(tasks=tasks, max_retries=1))
    sim.run()
    assert sim.state(key) is ExecutionState.SUCCEEDED
    return key


def in_small_units(sim: Sim, limit: int = 3) -> None:
    sim.policy = SchedulerPolicy(task_url="http://sim/v0", run_url="http://sim", swept_rows=limit)
    sim.restart()


def test_an_execution_that_has_ended_goes_after_its_time_with_all_that_is_its(sim: Sim) -> None:
    key = busy(sim)
    before = rows(sim)
    assert all(count > 0 for name, count in before.items() if name not in {"task_range", "forgotten"})
    sim.move(30 * DAY_S - 1)
    sim.sweep()
    assert rows(sim) == before
    sim.move(2)
    sim.sweep()
    assert rows(sim) == NOTHING
    with pytest.raises(NotFound):
        sim.database.read(lambda connection: executions.find_by_key(connection, key))
    assert sim.violations(at_rest=True) == []


def test_what_has_not_ended_is_kept_however_old(sim: Sim) -> None:
    sim.scripts.default = Play(seconds=100 * DAY_S, result="1")
    key = sim.submit(Given(tasks=2, timeout_s=86_400))
    sim.tick()
    before = rows(sim)
    sim.move(50 * DAY_S)
    sim.sweep()
    assert rows(sim) == before
    assert sim.state(key) is ExecutionState.RUNNING


def test_what_was_looked_at_while_it_ran_goes_later(sim: Sim) -> None:
    """The sweep looks at each execution once: when it has outlived its time."""
    young = sim.submit(Given(tasks=1))
    sim.run()
    again = sim.rerun(young, ALL)
    sim.scripts.default = Play(seconds=40 * DAY_S)
    sim.tick()
    sim.move(35 * DAY_S)
    assert sim.sweep() == 2  # what is looked at always, and events of its beginning
    assert sim.state(young) is ExecutionState.SUCCEEDED
    sim.run()
    sim.move(31 * DAY_S)
    sim.sweep()
    assert rows(sim) == NOTHING
    assert sim.violations(at_rest=True) == []
    assert again > young


def test_a_chain_is_kept_until_its_newest_has_expired(sim: Sim) -> None:
    sim.scripts.plays[1, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1)
    sim.scripts.default = Play(seconds=1.0, result="7")
    origin = sim.submit(Given(tasks=3))
    other = sim.submit(Given(tasks=1))
    sim.run()
    sim.scripts.plays.clear()
    sim.move(20 * DAY_S)
    sim.rerun(origin)
    sim.run()
    sim.move(15 * DAY_S)
    sim.sweep()
    with pytest.raises(NotFound):
        sim.database.read(lambda connection: executions.find_by_key(connection, other))
    page = sim.database.read(lambda connection: results.read_chain(connection, origin, 0))
    assert [one.task.index for one in page.ended if one.result == b"7"] == [0, 1, 2]
    sim.move(16 * DAY_S)
    sim.sweep()
    assert rows(sim) == NOTHING
    assert sim.violations(at_rest=True) == []


def test_a_server_that_dies_between_any_two_units_leaves_what_the_next_sweep_finishes(sim: Sim) -> None:
    for units in range(1, 40):
        sim.reset()
        in_small_units(sim, 2)
        origin = busy(sim, tasks=3)
        sim.scripts.plays.clear()
        sim.rerun(origin, ALL)
        sim.run()
        sim.move(31 * DAY_S)
        recent = sim.submit(Given(tasks=2))
        sim.run()
        done = sim.sweep(units)
        assert sim.violations(at_rest=True) == []
        found = sim.database.read(lambda c: executions.find_chain(c, origin))  # noqa: B023
        assert len(found) in {0, 2}  # all of it or nothing
        if found:
            assert sim.stats(origin).succeeded == 3
            read = sim.database.read(lambda c: results.read_page(c, origin, 0, stop_at_open=False))  # noqa: B023
            assert len(read.ended) == 3
        sim.sweep()
        left = rows(sim)
        assert (left["execution"], left["task"], left["input_set"], left["forgotten"]) == (1, 2, 1, 0)
        assert sim.violations(at_rest=True) == []
        assert sim.state(recent) is ExecutionState.SUCCEEDED
        if done < units:
            return
    raise AssertionError("a sweep of a few rows takes no forty units")


def test_no_unit_deletes_more_than_it_may(sim: Sim) -> None:
    in_small_units(sim, 5)
    busy(sim, tasks=20)
    sim.move(31 * DAY_S)
    before = sum(rows(sim).values())
    for _ in sim.retention.units(sim.clock.now):
        now = sum(rows(sim).values())
        assert before - now <= 5
        before = now
    assert rows(sim) == NOTHING


def test_a_long_chain_goes_newest_first(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.store.forgotten.FORGOTTEN_AT_ONCE", 2)
    keys = [sim.submit(Given(tasks=1))]
    sim.run()
    for _ in range(4):
        keys.append(sim.rerun(keys[-1], ALL))
        sim.run()
    sim.move(31 * DAY_S)
    seen = []
    for _ in sim.retention.units(sim.clock.now):
        left = sim.database.read(lambda connection: executions.find_chain(connection, keys[0]))
        seen.append([one.key for one in reversed(left)])
        assert sim.violations(at_rest=True) == []
    assert [each for each in seen if each] == [keys[: len(each)] for each in seen if each]
    assert {len(each) for each in seen} == {5, 3, 1, 0}
    assert rows(sim) == NOTHING


def test_inputs_go_with_the_last_execution_that_uses_them(sim: Sim) -> None:
    """Two executions that share a set and are no chain: as those of one trigger do."""
    first = busy(sim)
    sim.move(10 * DAY_S)
    second = busy(sim)
    column = schema.execution.c

    def share(connection: object) -> None:
        shared = select(column.input_set).where(column.key == first).scalar_subquery()
        connection.execute(schema.execution.update().where(column.key == second).values(input_set=shared))  # type: ignore[attr-defined]

    sim.database.write(share)
    sim.move(25 * DAY_S)
    sim.sweep()
    left = rows(sim)
    assert (left["execution"], left["input_set"], left["input_chunk"]) == (1, 1, 1)
    assert sim.violations(at_rest=True) == []
    sim.move(10 * DAY_S)
    sim.sweep()
    assert rows(sim) == NOTHING


def test_reports_of_what_is_forgotten_change_nothing(sim: Sim) -> None:
    sim.submit(Given(tasks=1))
    sim.tick()
    events = sim.engine.events(sim.infos[0].id, sim.position(), 0).events
    sim.run()
    sim.move(31 * DAY_S)
    sim.sweep()
    sim.report(sim.infos[0].id, events)
    sim.tick()
    assert rows(sim) == NOTHING
    assert sim.violations(at_rest=True) == []


def test_builds_go_after_their_time_and_jobs_with_what_they_had(sim: Sim) -> None:
    sim.upload()
    sim.scripts.default = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=1, output=("no",))
    sim.run()
    busy(sim)
    job = schema.job
    ended = {"state": JobState.TERMINATED.value, "terminated_at": sim.clock.now}
    sim.database.write(lambda connection: connection.execute(job.update().values(ended)))
    sim.move(29 * DAY_S)
    sim.sweep()
    count = select(func.count()).select_from(job)
    assert sim.database.read(lambda connection: connection.execute(count).scalar_one()) == 2
    sim.move(2 * DAY_S)
    sim.sweep()
    for table in (job, schema.revision, schema.job_event, schema.build, schema.attempt, schema.log_block):
        left = select(func.count()).select_from(table)
        assert sim.database.read(lambda connection: connection.execute(left).scalar_one()) == 0, table.name  # noqa: B023
    assert sim.violations(at_rest=True) == []


class TestFiles:
    def test_a_log_file_goes_when_no_output_lies_in_it_any_more(self, sim: Sim) -> None:
        busy(sim)
        (first,) = self.log_files(sim)
        sim.move(31 * DAY_S)
        busy(sim)
        assert len(self.log_files(sim)) == 2
        sim.sweep()
        (second,) = self.log_files(sim)
        assert second != first
        sim.move(31 * DAY_S)
        sim.sweep()
        assert self.log_files(sim) == []
        with pytest.raises(NotFound):
            sim.logfiles.read(second, 0, 1)

    def test_a_log_file_of_the_last_day_stays_however_short_the_retention(self, sim: Sim) -> None:
        sim.policy = SchedulerPolicy(task_url="http://sim/v0", run_url="http://sim", retention_days=0.01)
        sim.restart()
        busy(sim)
        assert len(self.log_files(sim)) == 1
        sim.move(DAY_S / 2)
        sim.sweep()
        assert rows(sim) == NOTHING
        assert len(self.log_files(sim)) == 1

    def test_output_that_came_after_its_execution_was_forgotten_goes_too(self, sim: Sim) -> None:
        key = busy(sim)
        query = select(schema.log_block)
        block = sim.database.read(lambda connection: connection.execute(query).first())
        assert block is not None
        sim.move(31 * DAY_S)
        sim.sweep()
        late = {**block._asdict(), "block_id": "late", "owner": key, "kind": OwnerKind.TASK.value}
        sim.database.write(lambda connection: connection.execute(schema.log_block.insert().values(late)))
        sim.restart()
        sim.sweep()
        assert rows(sim) == NOTHING

    def test_a_blob_that_nothing_leads_to_goes_after_an_hour(self, sim: Sim) -> None:
        build = sim.upload()
        kept = [image_blob(DIGEST), source_blob(DIGEST), incoming_blob(build, 1)]
        gone = [image_blob("e" * 64), source_blob("e" * 64), incoming_blob(5, 1)]
        sim.submit(Given())
        for name in (*kept, *gone):
            sim.blobs.put_stream(name, iter([b"x"]))
            self.made(sim, name, sim.clock.now)
        sim.move(3_590)
        sim.sweep()
        assert all(sim.blobs.exists(name) for name in (*kept, *gone))
        sim.move(3_600)
        sim.sweep()
        # an open build may have left any image that is younger than itself
        assert [name for name in (*kept, *gone) if sim.blobs.exists(name)] == [*kept, gone[0]]
        ended = schema.build.update().values(state="failed", ended_at=sim.clock.now)
        sim.database.write(lambda connection: connection.execute(ended))
        sim.sweep()
        assert [name for name in (*kept, *gone) if sim.blobs.exists(name)] == kept[:1]

    def test_an_image_that_a_kept_revision_runs_stays_and_goes_with_it(self, sim: Sim) -> None:
        sim.submit(Given())
        sim.run()
        name = image_blob(DIGEST)
        image = schema.image
        for tag, digest in (("kept", DIGEST), ("old", "e" * 64)):
            sim.blobs.put_stream(image_blob(digest), iter([b"x"]))
            self.made(sim, image_blob(digest), sim.clock.now)
            values = {"workspace": WORKSPACE, "name": "etl", "tag": tag, "digest": digest, "size_bytes": 1}
            row = {**values, "created_at": sim.clock.now}
            sim.database.write(lambda connection: connection.execute(image.insert().values(row)))  # noqa: B023
        sim.move(40 * DAY_S)
        sim.sweep()
        query = select(image.c.tag)
        assert list(sim.database.read(lambda connection: connection.scalars(query).all())) == ["kept"]
        assert sim.blobs.exists(name)
        assert not sim.blobs.exists(image_blob("e" * 64))
        job = {"state": JobState.TERMINATED.value, "terminated_at": sim.clock.now - timedelta(days=31)}
        sim.database.write(lambda connection: connection.execute(schema.job.update().values(job)))
        sim.move(3_601)
        sim.sweep()
        assert not sim.blobs.exists(name)

    def log_files(self, sim: Sim) -> list[str]:
        """Those of the only job there is now: other tests have left theirs."""
        query = select(schema.job.c.key)
        job = sim.database.read(lambda connection: connection.execute(query).scalar_one())
        return [name for name in sim.logfiles.older("9999999999") if name.startswith(f"{job}/")]

    def made(self, sim: Sim, name: str, at: datetime) -> None:
        os.utime(sim.blobs.path(name), (at.timestamp(), at.timestamp()))
