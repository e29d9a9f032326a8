"""GET of an execution reads and renders what has ended once, and says the same as if it did so each time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.costs import cost
from tidemill.api.ended_tasks import EndedTasks
from tidemill.api.wire_executions import execution_view
from tidemill.engine.fake import Play
from tidemill.model.ids import ExecutionKey
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import ExecutionState
from tidemill.store import executions, shown, tasks
from tidemill.store.shown import Extent, Opened, Shown
from tidemill.testing.sim import WORKSPACE, Given, Sim

SHOWN = 6


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    found = Sim(tmp_path)
    yield found
    found.close()


def opened(sim: Sim, key: ExecutionKey, known: Callable[[ExecutionKey], int]) -> Opened:
    extent = Extent(tasks=SHOWN, reruns=3, known=known)
    return sim.database.read(lambda connection: shown.find(connection, WORKSPACE, f"execution-{key}", None, extent))


def whole(sim: Sim, key: ExecutionKey) -> object:
    """What lists show of it: made of every task each time."""
    found = sim.database.read(lambda connection: executions.find_by_key(connection, key))
    first = sim.database.read(lambda connection: tasks.first_tasks(connection, [found], SHOWN))
    return json.loads(json.dumps(execution_view(Shown(execution=found, tasks=first[key]))))


def check(sim: Sim, key: ExecutionKey, *readers: EndedTasks) -> None:
    for reader in readers:
        assert json.loads(reader.answer(lambda known: opened(sim, key, known))) == whole(sim, key)


def test_at_every_step_it_says_what_all_tasks_together_say(sim: Sim) -> None:
    plays = {(1, 1): Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3), (2, 1): Play(seconds=2.5)}
    sim.scripts.plays.update(plays)
    key = sim.submit(Given(tasks=9, parallelism=3, max_retries=1))
    kept, tiny = EndedTasks(), EndedTasks(most_bytes=1)
    check(sim, key, kept, tiny)
    while sim.state(key) is not ExecutionState.SUCCEEDED:
        sim.tick()
        check(sim, key, kept, tiny)
        sim.move(0.5)
    check(sim, key, kept, tiny)


def test_a_rerun_has_the_indices_of_its_origin(sim: Sim) -> None:
    for index in (1, 4, 7):
        sim.scripts.plays[index, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3)
    origin = sim.submit(Given(tasks=9))
    sim.run()
    sim.scripts.plays.clear()
    key, kept = sim.rerun(origin), EndedTasks()
    check(sim, key, kept)
    sim.run()
    for _ in range(2):
        answer = json.loads(kept.answer(lambda known: opened(sim, key, known)))
        assert [task["metadata"]["name"] for task in answer["tasks"]] == ["task-1", "task-4", "task-7"]
        assert answer["metadata"].pop("rerunOf") == f"execution-{origin}"


def test_what_waits_for_a_retry_while_its_execution_is_ending_is_not_kept(sim: Sim) -> None:
    sim.scripts.plays[0, 1] = Play(seconds=1.0, kind=OutcomeKind.EXIT_CODE, exit_code=3)
    sim.scripts.plays[1, 1] = Play(seconds=60.0)
    key, kept = sim.submit(Given(tasks=3, parallelism=2, max_retries=5)), EndedTasks()
    sim.tick()
    sim.move(1.0)
    sim.hear()
    sim.cancel(key)
    assert sim.state(key) is ExecutionState.CANCELLING
    check(sim, key, kept)
    sim.run()
    assert sim.state(key) is ExecutionState.CANCELLED
    check(sim, key, kept, kept)


def test_what_has_ended_is_read_once(sim: Sim) -> None:
    key, kept = sim.submit(Given(tasks=SHOWN)), EndedTasks()
    sim.run()
    read: list[int] = []

    def look(known: Callable[[ExecutionKey], int]) -> Opened:
        found = opened(sim, key, known)
        read.append(len(found.first.tasks))
        return found

    steps = [cost(lambda: kept.answer(look)).steps for _ in range(2)]
    assert read == [SHOWN, 0]
    assert steps[1] < steps[0]


def test_of_many_executions_only_those_asked_for_last_are_kept(sim: Sim) -> None:
    keys = [sim.submit(Given(tasks=SHOWN)) for _ in range(3)]
    sim.run()
    one = len(EndedTasks().answer(lambda known: opened(sim, keys[0], known)))
    kept, counts = EndedTasks(most_bytes=2 * one), dict[ExecutionKey, int]()

    def ask(key: ExecutionKey) -> None:
        def look(known: Callable[[ExecutionKey], int]) -> Opened:
            counts[key] = known(key)
            return opened(sim, key, known)

        kept.answer(look)

    for key in (*keys, keys[2], keys[0]):
        ask(key)
    assert counts == {keys[0]: 0, keys[1]: 0, keys[2]: SHOWN}
