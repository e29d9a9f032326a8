"""How much may run at once, and whose turn it is."""

from dataclasses import replace

from tidemill.engine.fake import Play
from tidemill.model.ids import ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import OutcomeKind
from tidemill.model.outlook import Waiter
from tidemill.model.states import ExecutionState, TaskState
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


def cleared(sim: Sim) -> list[Waiter]:
    """For whom nodes are kept from all others."""
    return [node.cleared_for for node in sim.ticker.outlook.nodes if node.cleared_for is not None]


def uneven(sim: Sim) -> None:
    """Tasks that never end together: by itself a node that they fill is never empty."""
    for index in range(4_000):
        sim.scripts.plays[index, 1] = Play(seconds=(0.9, 1.3, 1.7, 2.3)[index % 4])


def pass_until_ended(sim: Sim, *keys: ExecutionKey, seconds: float) -> None:
    """Look ten times a second until these have succeeded. Raises AssertionError after ``seconds``."""
    for _ in range(int(seconds * 10)):
        sim.tick()
        assert sim.violations() == []
        if all(sim.state(key) is ExecutionState.SUCCEEDED for key in keys):
            return
        sim.move(0.1)
    raise AssertionError([sim.stats(key) for key in keys])


def test_a_big_task_does_not_starve_behind_small_ones_of_its_own_workspace(sim: Sim) -> None:
    # each second all is free; "a" is first and takes some of the one node that is big enough, and a small one of "b"
    # takes the other node: each workspace has had its turn, and "a" is first again
    sim.nodes(NODE, replace(NODE, id=NodeId("n2"), incarnation="n2-1", memory_mb=4_000))
    for workspace in "ab":
        sim.submit(Given(workspace=workspace, tasks=2_000, job="small", memory_mb=4_000, parallelism=1))
    sim.tick()
    big = sim.submit(Given(workspace="b", job="big", memory_mb=8_000))
    for _ in range(30):
        sim.move(1.0)
        sim.tick()
    assert sim.state(big) is ExecutionState.SUCCEEDED


def test_big_tasks_of_two_workspaces_take_turns(sim: Sim) -> None:
    uneven(sim)
    sim.submit(Given(workspace="a", tasks=4_000, job="small", memory_mb=2_000))
    crowd = [sim.submit(Given(workspace="a", job=f"big-{number}", memory_mb=8_000)) for number in range(30)]
    sim.tick()
    sim.move(0.5)
    other = sim.submit(Given(workspace="b", job="big", memory_mb=8_000))
    pass_until_ended(sim, other, seconds=60)
    assert sum(sim.state(key) is ExecutionState.SUCCEEDED for key in crowd) < 10


def test_a_big_build_does_not_starve_behind_small_tasks(sim: Sim) -> None:
    uneven(sim)
    sim.submit(Given(tasks=2_000, job="small", memory_mb=2_000))
    sim.tick()
    sim.move(0.5)
    sim.upload(memory_mb=8_000)
    for _ in range(300):
        sim.tick()
        if any(attempt.kind is OwnerKind.BUILD for attempt in sim.live()):
            return
        sim.move(0.1)
    raise AssertionError("the build never ran")


def test_a_task_that_must_run_alone_is_not_starved_by_its_own_execution(sim: Sim) -> None:
    uneven(sim)
    key = sim.submit(Given(tasks=3_000, parallelism=4))
    sim.scripts.plays[0, 1] = sim.scripts.plays[0, 2] = Play(seconds=3_000.0)
    for _ in range(2):
        sim.tick()
        sim.engine.crash(NODE.id)
        sim.tick()
        sim.move(4.0)
    for _ in range(400):
        sim.tick()
        assert sim.violations() == []
        row = sim.task(key, 0)
        assert row is not None
        if row.state is TaskState.SUCCEEDED:
            return
        sim.move(0.1)
    raise AssertionError(sim.stats(key))


def test_a_node_is_cleared_for_one_and_the_others_go_on(sim: Sim) -> None:
    sim.nodes(NODE, replace(NODE, id=NodeId("n2"), incarnation="n2-1"))
    uneven(sim)
    small = sim.submit(Given(tasks=4_000, job="small", memory_mb=2_000))
    sim.tick()
    sim.move(0.5)
    big = sim.submit(Given(job="big", memory_mb=8_000))
    seen = set()
    while sim.state(big) is not ExecutionState.SUCCEEDED:
        sim.tick()
        assert len(cleared(sim)) <= 1
        seen |= {waiter.owner for waiter in cleared(sim)}
        assert running(sim, small)[0] >= 4
        sim.move(0.1)
    assert seen == {big}
    assert cleared(sim) == []


def test_a_workspace_keeps_its_turn_when_one_of_its_jobs_fits_nowhere(sim: Sim) -> None:
    sim.policy = replace(sim.policy, starving_after_s=1_000.0)
    sim.restart()
    long = sim.submit(Given(workspace="c", job="long", memory_mb=6_000))
    sim.scripts.default = Play(seconds=500.0)
    sim.tick()
    assert running(sim, long) == [1]
    sim.scripts.default = Play(seconds=1.0)
    sim.submit(Given(workspace="b", job="big", memory_mb=8_000))
    a = sim.submit(Given(workspace="a", tasks=500, job="small", memory_mb=2_000))
    b = sim.submit(Given(workspace="b", tasks=500, job="small", memory_mb=2_000))
    order = []
    for _ in range(12):
        sim.tick()
        order.append("ab"[running(sim, a, b).index(1)])
        sim.move(1.0)
    assert order in (["a", "b"] * 6, ["b", "a"] * 6)


def test_what_was_sent_before_the_clock_was_set_back_has_its_turns(sim: Sim) -> None:
    sim.nodes(replace(NODE, slots=1))
    before = sim.submit(Given(tasks=3))
    sim.clock.set_back(3_600.0)
    after = sim.submit(Given(tasks=50))
    for _ in range(8):
        sim.tick()
        sim.move(1.0)
    assert sim.state(before) is ExecutionState.SUCCEEDED
    assert sim.state(after) is ExecutionState.RUNNING


def test_a_million_tasks_delay_one_of_another_job_by_what_runs_and_no_more(sim: Sim) -> None:
    # each takes the whole node, and waits for long: nobody is overtaken, and turns are taken in order
    sim.scripts.default = Play(seconds=60.0)
    big = sim.submit(Given(tasks=1_000_000, parallelism=1_000, job="big", memory_mb=8_000))
    sim.tick()
    sim.move(30.0)
    small = sim.submit(Given(job="small", memory_mb=8_000))
    for _ in range(30):
        sim.tick()
        assert running(sim, big, small) == [1, 0]
        sim.move(1.0)
    sim.tick()
    assert running(sim, big, small) == [0, 1]
