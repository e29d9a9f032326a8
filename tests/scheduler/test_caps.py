"""How much may run at once, and whose turn it is."""

from dataclasses import replace

from tidemill.engine.fake import Play
from tidemill.model.ids import NodeId
from tidemill.model.lease import OutcomeKind
from tidemill.model.states import ExecutionState
from tidemill.store.ledger_claim import RetryClaim, promote
from tidemill.testing.sim import NODE, Given, Sim

WIDE = replace(NODE, slots=100, memory_mb=100_000)


def running(sim: Sim, *keys: int) -> list[int]:
    """How many live attempts each of these executions has."""
    return [sum(attempt.owner == key for attempt in sim.live()) for key in keys]


def test_an_execution_keeps_to_its_parallelism(sim: Sim) -> None:
    key = sim.submit(Given(tasks=50, parallelism=3))
    for _ in range(5):
        sim.tick()
        assert running(sim, key) == [3]
        sim.move(0.25)


def test_a_node_keeps_to_its_slots(sim: Sim) -> None:
    keys = [sim.submit(Given(tasks=50)), sim.submit(Given(tasks=50, job="other"))]
    sim.tick()
    assert sum(running(sim, *keys)) == NODE.slots


def test_a_node_keeps_to_its_memory(sim: Sim) -> None:
    key = sim.submit(Given(tasks=50, memory_mb=3_000))
    sim.tick()
    assert running(sim, key) == [2]


def test_a_workspace_keeps_to_its_tasks_over_all_jobs(sim: Sim) -> None:
    sim.workspace("small", tasks=2)
    keys = [sim.submit(Given(workspace="small", job=job, tasks=9)) for job in ("a", "b")]
    other = sim.submit(Given(workspace="big", tasks=9))
    sim.tick()
    assert running(sim, *keys, other) == [1, 1, 2]


def test_a_build_takes_room_on_its_node(sim: Sim) -> None:
    sim.upload(memory_mb=6_000)
    key = sim.submit(Given(tasks=9, memory_mb=1_000))
    sim.tick()
    assert running(sim, key) == [2]


def test_more_executions_than_a_workspace_allows_wait_and_are_promoted_in_turn(sim: Sim) -> None:
    sim.workspace(executions_at_once=2)
    keys = [sim.submit(Given(job="a")) for _ in range(4)]
    late = sim.submit(Given(job="b"))
    queued = ExecutionState.QUEUED
    assert [sim.state(key) for key in (*keys, late)] == [ExecutionState.PENDING] * 2 + [queued] * 3
    sim.tick()
    sim.move(1.0)
    sim.tick()  # two have ended
    sim.tick()
    # one of each job: the queue of "a" does not go first because it is longer
    assert [sim.state(key) for key in (*keys[2:], late)] == [ExecutionState.RUNNING, queued, ExecutionState.RUNNING]
    sim.run()
    assert sim.violations(at_rest=True) == []


def test_a_cancelling_execution_keeps_its_place_until_it_has_ended(sim: Sim) -> None:
    sim.workspace(executions_at_once=1)
    first = sim.submit(Given())
    sim.tick()
    second = sim.submit(Given())
    sim.cancel(first)
    sim.tick()
    assert sim.state(second) is ExecutionState.QUEUED
    sim.run()
    assert sim.state(second) is ExecutionState.SUCCEEDED


def test_a_stale_claim_does_not_pass_the_parallelism(sim: Sim) -> None:
    key = sim.submit(Given(tasks=9, parallelism=2))
    stale = sim.planned()
    assert len(sim.claim(stale)) == 2
    assert sim.claim(stale) == []
    assert running(sim, key) == [2]


def test_a_stale_claim_of_a_retry_claims_it_once(sim: Sim) -> None:
    key = sim.submit(Given(tasks=1, max_retries=1))
    sim.scripts.default = Play(kind=OutcomeKind.EXIT_CODE, exit_code=1)
    sim.tick()
    sim.hear()
    sim.move(1.0)
    stale = sim.planned()
    assert [one.attempt.number for one in sim.claim(stale)] == [2]
    assert sim.claim(stale) == []
    assert running(sim, key) == [1]


def test_a_stale_claim_of_a_retry_does_not_cut_its_wait_short(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.scripts.default = Play(seconds=9.0)
    sim.tick()
    sim.engine.crash(NODE.id)
    sim.hear()
    assert sim.claim([RetryClaim(execution=key, index=0, node=NODE.id)]) == []
    sim.move(1.0)
    assert len(sim.claim([RetryClaim(execution=key, index=0, node=NODE.id)])) == 1


def test_a_stale_promotion_does_not_pass_the_workspaces_limit(sim: Sim) -> None:
    sim.workspace(executions_at_once=1)
    first, second = sim.submit(Given()), sim.submit(Given())
    assert sim.database.write(lambda connection: promote(connection, [second], now=sim.clock.now)) == []
    sim.cancel(first)
    wishes = [first, second, second]
    assert sim.database.write(lambda connection: promote(connection, wishes, now=sim.clock.now)) == [second]


def test_free_capacity_goes_round_jobs_and_not_to_the_biggest(sim: Sim) -> None:
    big = sim.submit(Given(tasks=9_000, parallelism=1_000, job="big"))
    sim.tick()
    assert running(sim, big) == [4]
    sim.move(0.5)
    small = sim.submit(Given(tasks=1, job="small"))
    sim.tick()
    assert running(sim, small) == [0]
    sim.move(0.5)  # what runs has ended
    sim.tick()
    assert running(sim, big, small) == [3, 1]


def test_on_a_single_slot_a_small_execution_waits_for_one_task(sim: Sim) -> None:
    sim.nodes(replace(NODE, slots=1))
    big = sim.submit(Given(tasks=9_000, parallelism=1_000, job="big"))
    sim.tick()
    small = sim.submit(Given(tasks=1, job="small"))
    sim.move(1.0)
    sim.tick()
    assert running(sim, big, small) == [0, 1]


def test_many_executions_of_one_job_do_not_starve_another_job(sim: Sim) -> None:
    sim.nodes(replace(NODE, slots=1))
    many = [sim.submit(Given(job="many")) for _ in range(20)]
    big = sim.submit(Given(tasks=20, job="big"))
    order = []
    for _ in range(12):
        sim.tick()
        order.append("big" if running(sim, big) == [1] else "many")
        sim.move(1.0)
    assert order == ["many", "big"] * 6
    assert sum(sim.state(key) is ExecutionState.SUCCEEDED for key in many) in {5, 6}


def test_workspaces_take_turns_whatever_they_hold(sim: Sim) -> None:
    sim.nodes(WIDE)
    crowd = [
        sim.submit(Given(workspace="crowd", job=f"job-{number}", tasks=500, parallelism=500)) for number in range(5)
    ]
    alone = sim.submit(Given(workspace="alone", tasks=500, parallelism=500))
    sim.tick()
    assert running(sim, *crowd, alone) == [10, 10, 10, 10, 10, 50]


def test_executions_of_one_job_take_turns(sim: Sim) -> None:
    keys = [sim.submit(Given(tasks=9)) for _ in range(4)]
    sim.tick()
    assert running(sim, *keys) == [1, 1, 1, 1]


def test_a_task_lost_twice_runs_alone(sim: Sim) -> None:
    key = sim.submit(Given(job="fragile", timeout_s=9_000))
    sim.scripts.default = Play(seconds=2_000.0)
    for _ in range(2):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        sim.move(4.0)
    others = sim.submit(Given(tasks=50, job="others"))
    sim.scripts.default = Play(seconds=1.0)
    seen_alone = False
    for _ in range(40):
        sim.tick()
        assert sim.violations() == []
        fragile, rest = running(sim, key, others)
        assert not (fragile and rest)
        seen_alone = seen_alone or bool(fragile)
        sim.move(0.5)
    assert seen_alone
    sim.run()


def test_what_needs_a_whole_node_is_not_starved_by_small_tasks(sim: Sim) -> None:
    for index in range(400):  # they never end together: by itself the node is never empty
        sim.scripts.plays[index, 1] = Play(seconds=(0.9, 1.3, 1.7, 2.3)[index % 4])
    small = sim.submit(Given(tasks=400, job="small", memory_mb=2_000))
    sim.tick()
    sim.move(0.5)
    whole = sim.submit(Given(job="whole", memory_mb=8_000))
    ticks = 0
    while sim.state(whole) is not ExecutionState.SUCCEEDED:
        sim.tick()
        sim.move(0.1)
        ticks += 1
        assert ticks < 150, sim.stats(small)
    assert sim.violations() == []


def test_tasks_spread_over_nodes(sim: Sim) -> None:
    sim.nodes(NODE, replace(NODE, id=NodeId("n2"), incarnation="n2-1"))
    sim.submit(Given(tasks=4))
    sim.tick()
    assert [len(sim.engine.running(NodeId(node))) for node in ("n1", "n2")] == [2, 2]
    sim.run()
