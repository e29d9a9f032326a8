"""The plan by itself: whatever it is shown, it keeps to every cap, and leaves no room that somebody could use."""

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.ids import AttemptId, BuildKey, ExecutionKey, JobKey, NodeId, OwnerKind
from tidemill.model.lease import NodeInfo
from tidemill.model.outlook import Waiter
from tidemill.scheduler.plan import Cancel, Overtaken, Promote, Snapshot, next_due, plan
from tidemill.store.ledger_claim import BuildClaim, RetryClaim, TaskClaim
from tidemill.store.snapshot import Claimable, LiveAttempt, PendingBuild, Queued, Retry, View

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EMPTY = View(live=(), claimable=(), builds=(), queued=(), promotable={}, task_caps={}, doomed=())


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    sizes = st.sampled_from([100, 500, 1_000, 4_000])
    nodes = [
        NodeInfo(id=NodeId(f"n{n}"), region="", memory_mb=draw(sizes), slots=draw(st.integers(0, 5)), incarnation="x")
        for n in range(draw(st.integers(0, 3)))
    ]
    claimable = tuple(
        Claimable(
            key=ExecutionKey(number),
            workspace=draw(st.sampled_from("ab")),
            job=JobKey(draw(st.integers(1, 3))),
            memory_mb=draw(sizes),
            parallelism=draw(st.integers(1, 6)),
            unclaimed=draw(st.integers(0, 8)),
            served_at=NOW - timedelta(seconds=draw(st.integers(0, 9))),
            retries=tuple(
                Retry(
                    index=100 + n,
                    not_before=NOW + timedelta(seconds=draw(st.integers(-9, 3))),
                    alone=draw(st.booleans()),
                )
                for n in range(draw(st.integers(0, 3)))
            ),
        )
        for number in range(draw(st.integers(0, 5)))
    )
    builds = tuple(
        PendingBuild(key=BuildKey(n), memory_mb=draw(sizes), not_before=None, created_at=NOW)
        for n in range(draw(st.integers(0, 2)))
    )
    caps = {"a": draw(st.integers(0, 4))} if draw(st.booleans()) else {}
    view = View(live=(), claimable=claimable, builds=builds, queued=(), promotable={}, task_caps=caps, doomed=())
    waiters = [Waiter(kind=OwnerKind.BUILD, owner=build.key) for build in builds]
    for one in claimable:
        waiters.append(Waiter(kind=OwnerKind.TASK, owner=one.key))
        waiters += [Waiter(kind=OwnerKind.TASK, owner=one.key, index=retry.index) for retry in one.retries]
    overtaken = tuple(draw(st.lists(st.sampled_from(waiters), unique=True))) if waiters else ()
    return Snapshot(now=NOW, nodes=nodes, view=view, overtaken=overtaken, favoured=draw(st.integers(0, 3)))


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_no_plan_passes_a_cap(snapshot: Snapshot) -> None:
    executions = {execution.key: execution for execution in snapshot.view.claimable}
    builds = {build.key: build for build in snapshot.view.builds}
    slots = {node.id: node.slots for node in snapshot.nodes}
    memory = {node.id: node.memory_mb for node in snapshot.nodes}
    used: dict[object, int] = {}
    alone: set[NodeId] = set()
    cleared: set[NodeId] = set()
    for one in plan(snapshot):
        if isinstance(one, Overtaken):
            cleared |= set() if one.cleared is None else {one.cleared}
            continue
        assert isinstance(one, TaskClaim | RetryClaim | BuildClaim)
        count = one.count if isinstance(one, TaskClaim) else 1
        size = builds[one.build].memory_mb if isinstance(one, BuildClaim) else executions[one.execution].memory_mb
        slots[one.node] -= count
        memory[one.node] -= size * count
        used[one.node] = used.get(one.node, 0) + count
        if not isinstance(one, BuildClaim):
            used[one.execution, "all"] = used.get((one.execution, "all"), 0) + count
            used[executions[one.execution].workspace] = used.get(executions[one.execution].workspace, 0) + count
        if isinstance(one, TaskClaim):
            used[one.execution, "new"] = used.get((one.execution, "new"), 0) + count
        if isinstance(one, RetryClaim):
            (retry,) = [retry for retry in executions[one.execution].retries if retry.index == one.index]
            assert retry.not_before <= NOW
            assert retry.alone == one.alone
            alone |= {one.node} if one.alone else set()
    assert min([*slots.values(), *memory.values()], default=0) >= 0
    for key, execution in executions.items():
        assert used.get((key, "all"), 0) <= execution.parallelism
        assert used.get((key, "new"), 0) <= execution.unclaimed
    assert all(used.get(name, 0) <= cap for name, cap in snapshot.view.task_caps.items())
    assert all(used[node] == 1 for node in alone)
    assert len(cleared) <= snapshot.favoured


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_the_same_look_gives_the_same_plan(snapshot: Snapshot) -> None:
    assert plan(snapshot) == plan(snapshot)


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_no_room_is_left_that_a_task_could_use(snapshot: Snapshot) -> None:
    """Unless a node is kept clear for something that was overtaken, or something runs alone."""
    decisions = plan(snapshot)
    claims = [one for one in decisions if isinstance(one, TaskClaim)]
    view = snapshot.view
    if view.builds or any(execution.retries for execution in view.claimable):
        return
    if any(isinstance(one, Overtaken) and one.cleared is not None for one in decisions):
        return
    free = {node.id: [node.slots, node.memory_mb] for node in snapshot.nodes}
    taken: dict[int, int] = {}
    in_workspace: dict[str, int] = {}
    by_key = {execution.key: execution for execution in view.claimable}
    for one in claims:
        free[one.node][0] -= one.count
        free[one.node][1] -= one.count * by_key[one.execution].memory_mb
        taken[one.execution] = taken.get(one.execution, 0) + one.count
        name = by_key[one.execution].workspace
        in_workspace[name] = in_workspace.get(name, 0) + one.count
    for execution in view.claimable:
        wants = min(execution.unclaimed, execution.parallelism) > taken.get(execution.key, 0)
        cap = view.task_caps.get(execution.workspace)
        allowed = cap is None or in_workspace.get(execution.workspace, 0) < cap
        fits = any(slots > 0 and memory >= execution.memory_mb for slots, memory in free.values())
        assert not (wants and allowed and fits)


def test_each_node_is_told_once_of_all_that_it_shall_end() -> None:
    doomed = tuple(
        LiveAttempt(
            attempt=AttemptId(OwnerKind.TASK, 1, index, 1),
            node=NodeId(f"n{index % 2}"),
            workspace="a",
            memory_mb=1,
            alone=False,
            cancel_sent=False,
        )
        for index in range(4)
    )
    view = View(live=doomed, claimable=(), builds=(), queued=(), promotable={}, task_caps={}, doomed=doomed)
    ids = [one.attempt for one in doomed]
    assert plan(Snapshot(now=NOW, nodes=(), view=view)) == [
        Cancel(node=NodeId("n0"), attempts=(ids[0], ids[2])),
        Cancel(node=NodeId("n1"), attempts=(ids[1], ids[3])),
    ]


def test_queues_of_jobs_take_turns_as_far_as_there_is_room() -> None:
    def queue(job: int, *keys: int) -> Queued:
        return Queued(workspace="a", job=JobKey(job), keys=tuple(map(ExecutionKey, keys)))

    view = View(
        live=(),
        claimable=(),
        builds=(),
        queued=(queue(1, 10, 11, 12), queue(2, 20), queue(3, 30, 31)),
        promotable={"a": 5},
        task_caps={},
        doomed=(),
    )
    turns: dict[Hashable, int] = {("queue", JobKey(1)): 2, ("queue", JobKey(2)): 1}
    decisions = plan(Snapshot(now=NOW, nodes=(), view=view, turns=turns))
    assert [one.execution for one in decisions if isinstance(one, Promote)] == [30, 20, 10, 31, 11]


def test_the_next_due_time_is_that_of_what_only_waits_for_its_time() -> None:
    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    assert next_due(EMPTY, NOW) is None
    execution = Claimable(
        key=ExecutionKey(1),
        workspace="a",
        job=JobKey(1),
        memory_mb=1,
        parallelism=9,
        unclaimed=0,
        served_at=NOW,
        retries=tuple(Retry(index=n, not_before=at(seconds), alone=False) for n, seconds in enumerate((-5, 0, 7, 9))),
    )
    build = PendingBuild(key=BuildKey(1), memory_mb=1, not_before=at(3), created_at=NOW)
    view = View(live=(), claimable=(execution,), builds=(build,), queued=(), promotable={}, task_caps={}, doomed=())
    assert next_due(view, NOW) == at(3)
    assert next_due(view, at(3)) == at(7)
