"""What a node says that an attempt ran with is what its processes had, by the kernel's own word."""

import os
from typing import Final

import pytest

from tests.node.prison import why_not_at
from tests.node.rig import NODE, Reader, Rig, until
from tests.node.test_survival import reconnected
from tidemill.model.lease import EventKind, OutcomeKind
from tidemill.model.protections import BY_USER, CGROUP_1, CGROUP_2, WATCHED, Had, Protection, read_had
from tidemill.node.holding import unknown
from tidemill.node.isolation.level import Level
from tidemill.node.limits.groups import Control
from tidemill.node.limits.look import of_node

SANDBOX: Final[dict[str, object]] = {"isolation": "sandbox"}
STATUS: Final = "cat /proc/self/status > {root}/status; cat /proc/self/cgroup > {root}/cgroup"


def need(level: Level) -> None:
    if why := why_not_at(level):
        pytest.skip(why)


def had(number: int | None) -> Had:
    assert number is not None
    return read_had(number)


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"limits": "none"}, {"task_uid_count": 0}, SANDBOX),
        *(SANDBOX | {"task_uid_count": 0}, SANDBOX | {"limits": "none"}),
    ],
    ids=["as it is", "no limits", "no users", "sandbox", "sandbox, no users", "sandbox, no limits"],
)
def test_what_is_said_of_an_attempt_is_what_the_kernel_says_of_its_process(
    rig: Rig, changes: dict[str, object]
) -> None:
    level = Level(str(changes.get("isolation", Level.PROCESS)))
    need(level)
    engine = rig.engine(**changes)
    lease = rig.lease(rig.shell(STATUS.format(root=rig.root)))
    rig.launch(engine, lease)
    reader = Reader(engine)
    ran = had(reader.outcome(lease.attempt).protections)
    started = next(event for event in reader.seen if event.kind is EventKind.STARTED)
    assert had(started.protections) == ran
    says = dict(line.split(":\t", 1) for line in (rig.root / "status").read_text().splitlines())
    active = {*ran.active}
    assert ran.level == level
    assert (Protection.OWN_ROOT in active) == (level is Level.SANDBOX)
    assert (Protection.NO_NEW_PRIVILEGES in active) == (says["NoNewPrivs"] == "1")
    assert (Protection.SECCOMP in active) == (says["Seccomp"] == "2")
    assert (Protection.CAPABILITIES in active) == (int(says["CapBnd"], 16) == 0 or os.geteuid() != 0)
    assert (Protection.OWN_UID in active) == (says["Uid"].split()[0] != str(os.geteuid()))
    facts = of_node(rig.data / "node")
    assert facts is not None
    assert (Protection.KILL in active) == (level is Level.SANDBOX or "group-kill" in facts.capabilities)
    for control in Control:
        assert (Protection(control) in active) == (control in facts.active)
        if control in facts.active:
            assert ran.by[Protection(control)] in {CGROUP_1, CGROUP_2}
    # in a sandbox a task is told that its group is the first of all
    if level is Level.PROCESS:
        in_a_group = "/tidemill-" in (rig.root / "cgroup").read_text()
        assert in_a_group == bool({Protection.MEMORY, Protection.PIDS, Protection.CPU} & active)
    assert (ran.by[Protection.MEMORY] == WATCHED) == (Control.MEMORY not in facts.active)
    assert (ran.by.get(Protection.PIDS) == BY_USER) == (
        Control.PIDS not in facts.active and Protection.OWN_UID in active
    )


@pytest.mark.parametrize("level", [Level.PROCESS, Level.SANDBOX])
def test_a_node_states_each_protection_once_and_in_the_words_of_attempts(rig: Rig, level: Level) -> None:
    need(level)
    engine = rig.engine(isolation=level)
    (node,) = engine.nodes()
    assert node.level == level
    assert [stated.name for stated in node.protections] == [*Protection]
    for stated in node.protections:
        assert stated.says
        assert stated.active == (stated.remedy == ""), stated
    ran = had(rig.run(engine, rig.lease(rig.shell("true"))).protections)
    assert {stated.name for stated in node.protections if stated.active} == {*ran.active}


@pytest.mark.parametrize("level", [Level.PROCESS, Level.SANDBOX])
def test_all_that_a_level_can_is_kept_with_attempts(rig: Rig, level: Level) -> None:
    need(level)
    (node,) = rig.engine(isolation=level).nodes()
    facts = of_node(rig.data / "node")
    assert facts is not None
    assert unknown(node.capabilities - facts.capabilities) == frozenset()


def test_a_build_is_no_user_of_its_own(rig: Rig) -> None:
    if os.geteuid() != 0:
        pytest.skip("only a node of root has users for builds and tasks")
    # builds are not in sandboxes, where what they link from a cache would be copied
    engine = rig.engine(isolation=Level.PROCESS if why_not_at(Level.SANDBOX) else Level.SANDBOX)
    lease = rig.build_lease({"blaxel.toml": 'name = "x"\n', "main.sh": "true"})
    engine.launch(NODE, [lease], rig.term)
    built = had(Reader(engine).outcome(lease.attempt).protections)
    assert built.level == "process"
    assert Protection.OWN_ROOT not in built.by
    assert Protection.OWN_UID not in built.by
    assert Protection.SECCOMP in built.by


def test_what_never_ran_had_nothing(rig: Rig) -> None:
    outcome = rig.run(rig.engine(), rig.lease(rig.image("/no/such/program")))
    assert (outcome.kind, outcome.protections) == (OutcomeKind.LAUNCH_ERROR, None)


def test_a_node_that_died_leaves_its_successor_what_its_attempts_had(rig: Rig) -> None:
    engine = rig.engine()
    lease = rig.lease(rig.shell("sleep 600"))
    rig.launch(engine, lease)
    reader = Reader(engine)
    reader.started(lease.attempt)
    said = reader.seen[0].protections
    assert said is not None
    rig.kill_node()
    reconnected(engine)
    again = Reader(engine)
    until(lambda: again.outcome(lease.attempt).kind is OutcomeKind.LOST)
    assert again.outcome(lease.attempt).protections == said
