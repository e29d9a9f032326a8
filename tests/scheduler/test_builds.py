"""Builds on their way from an upload to an image."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from tidemill.engine.fake import Play
from tidemill.model.ids import BuildKey
from tidemill.model.image import image_blob, incoming_blob
from tidemill.model.lease import BuildLease, Lease, OutcomeKind
from tidemill.model.states import BuildState, JobState
from tidemill.store import ledger, schema
from tidemill.testing.sim import NODE, Sim

DIGEST = "a" * 64
BUILT = json.dumps({"digest": DIGEST, "size_bytes": 7, "command": ["x"], "manifest": {"maxConcurrentTasks": 3}})


def build_row(sim: Sim, key: BuildKey) -> tuple[str, int, int]:
    column = schema.build.c
    query = select(column.state, column.attempt, column.lost_in_row).where(column.key == key)
    state, attempt, lost = sim.database.read(lambda connection: connection.execute(query).one())
    return state, attempt, lost


def job_row(sim: Sim) -> tuple[str, str, str]:
    column = schema.job.c
    query = select(column.state, column.active_revision, column.staged_revision).where(column.name == "built")
    state, active, staged = sim.database.read(lambda connection: connection.execute(query).one())
    return state, active, staged


def leave_image(sim: Sim, key: BuildKey, number: int, tmp_path: Path) -> None:
    """What a node does before it reports the end of a build."""
    file = tmp_path / "image"
    file.write_bytes(b"an image")
    sim.blobs.put_file(incoming_blob(key, number), file)


def plays(sim: Sim, *plays: Play) -> list[Lease]:
    """Attempts go like these, the last one for all that follow; the leases they got."""
    leases: list[Lease] = []

    def script(lease: Lease) -> Play:
        leases.append(lease)
        return plays[min(lease.attempt.number, len(plays)) - 1]

    sim.reset(script)
    return leases


def test_a_build_that_succeeds_activates_its_revision(sim: Sim, tmp_path: Path) -> None:
    leases = plays(sim, Play(seconds=2.0, result=BUILT))
    key = sim.upload()
    sim.tick()
    assert build_row(sim, key) == (BuildState.RUNNING, 1, 0)
    leave_image(sim, key, 1, tmp_path)
    sim.run()
    assert build_row(sim, key) == (BuildState.SUCCEEDED, 1, 0)
    assert job_row(sim) == (JobState.DEPLOYED, "rev-1", "")
    assert sim.blobs.get(image_blob(DIGEST)) == b"an image"
    assert not sim.blobs.exists(incoming_blob(key, 1))
    image = schema.image.c
    query = select(image.name, image.digest, image.size_bytes)
    assert sim.database.read(lambda connection: connection.execute(query).all()) == [("built", DIGEST, 7)]
    (lease,) = leases
    assert isinstance(lease, BuildLease)
    assert lease.source is not None
    assert lease.source.name == f"sources/{'d' * 64}.zip"
    assert (lease.memory_mb, lease.timeout_s, lease.max_entries) == (100, 600, 200_000)
    assert sim.violations(at_rest=True) == []


def test_an_image_that_was_moved_before_a_crash_is_adopted_again(sim: Sim, tmp_path: Path) -> None:
    plays(sim, Play(result=BUILT))
    key = sim.upload()
    sim.tick()
    leave_image(sim, key, 1, tmp_path)
    sim.blobs.move(incoming_blob(key, 1), image_blob(DIGEST))  # and then the server died
    sim.restart()
    sim.run()
    assert build_row(sim, key)[0] == BuildState.SUCCEEDED


@pytest.mark.parametrize("result", [None, "{}", "[1]", '{"digest": "x", "size_bytes": 1}', BUILT.replace("a", "b")])
def test_a_build_without_its_image_fails(sim: Sim, result: str | None) -> None:
    plays(sim, Play(result=result))
    key = sim.upload()
    sim.run()
    assert build_row(sim, key)[0] == BuildState.FAILED
    assert job_row(sim) == (JobState.FAILED, "", "")


def test_a_mistake_of_its_user_ends_a_build(sim: Sim) -> None:
    plays(sim, Play(kind=OutcomeKind.EXIT_CODE, exit_code=1, message="error: no entry point"))
    key = sim.upload()
    sim.run()
    assert build_row(sim, key) == (BuildState.FAILED, 1, 0)
    assert job_row(sim) == (JobState.FAILED, "", "")
    event = schema.job_event.c
    messages = sim.database.read(lambda connection: connection.scalars(select(event.message)).all())
    assert "error: no entry point" in messages


def test_a_lost_build_is_made_again_and_given_up_in_the_end(sim: Sim) -> None:
    plays(sim, Play(seconds=600.0))
    key = sim.upload()
    for lost in range(1, 5):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        assert build_row(sim, key) == (BuildState.PENDING, lost, lost)
        sim.tick()
        assert build_row(sim, key) == (BuildState.PENDING, lost, lost)  # it waits
        sim.move(8.0)
    sim.tick()
    sim.engine.crash(NODE.id)
    sim.tick()
    assert build_row(sim, key) == (BuildState.FAILED, 5, 5)
    assert job_row(sim)[0] == JobState.FAILED
    assert sim.violations(at_rest=True) == []


def test_a_dropped_build_is_ended_on_its_node_and_changes_nothing_more(sim: Sim) -> None:
    plays(sim, Play(seconds=600.0))
    key = sim.upload()
    sim.tick()
    before = job_row(sim)
    assert sim.database.write(lambda connection: ledger.drop_build(connection, key, now=sim.clock.now))
    assert not sim.database.write(lambda connection: ledger.drop_build(connection, key, now=sim.clock.now))
    assert sim.violations() == []
    sim.tick()
    assert sim.engine.running(NODE.id) == frozenset()
    sim.tick()
    assert sim.live() == []
    assert build_row(sim, key) == (BuildState.FAILED, 1, 0)
    assert job_row(sim) == before
    assert sim.violations(at_rest=True) == []


def test_a_dropped_build_that_never_started_is_forgotten(sim: Sim) -> None:
    plays(sim, Play())
    key = sim.upload()
    assert sim.database.write(lambda connection: ledger.drop_build(connection, key, now=sim.clock.now))
    sim.tick()
    assert sim.engine.starts() == {}
    assert sim.violations(at_rest=True) == []


def test_an_ordered_stop_does_not_count_against_a_build(sim: Sim) -> None:
    plays(sim, Play(seconds=600.0))
    key = sim.upload()
    for number in range(1, 7):
        sim.tick()
        assert build_row(sim, key) == (BuildState.RUNNING, number, 0)
        sim.engine.close(stop_tasks=True)
        sim.hear()
    assert build_row(sim, key) == (BuildState.PENDING, 6, 0)


def test_a_dropped_build_that_succeeds_late_deploys_nothing(sim: Sim, tmp_path: Path) -> None:
    plays(sim, Play(seconds=2.0, result=BUILT))
    key = sim.upload()
    sim.tick()
    before = job_row(sim)
    leave_image(sim, key, 1, tmp_path)
    sim.move(2.0)
    sim.database.write(lambda connection: ledger.drop_build(connection, key, now=sim.clock.now))
    sim.tick()
    assert sim.live() == []
    assert build_row(sim, key)[0] == BuildState.FAILED
    assert job_row(sim) == before
