"""What doctor says of limits, from the facts of a node or of a look."""

from pathlib import Path

from tidemill.node.limits.facts import LimitFacts, Missing
from tidemill.node.limits.findings import bounds
from tidemill.node.limits.groups import Control, Kill
from tidemill.node.limits.look import FACTS_FILE

NODES = LimitFacts(
    active={Control.MEMORY: "cgroup v2, /a", Control.PIDS: "cgroup v2, /a"},
    missing={Control.CPU: Missing("cgroup v2, /a has not been given the controller cpu", "ask systemd")},
    kill=Kill.AT_ONCE,
)


def test_a_node_that_runs_speaks_for_itself(tmp_path: Path) -> None:
    (tmp_path / FACTS_FILE).write_text(NODES.to_json())
    found = {each.name: each for each in bounds(tmp_path, node_runs=True, limits="auto")}
    assert [(name, each.active) for name, each in found.items()] == [
        ("memory", True),
        ("pids", True),
        ("cpu", False),
        ("kill", True),
    ]
    assert found["memory"].says == "the memory of a task is limited, and its kills are counted (cgroup v2, /a)"
    assert found["cpu"].says == "all tasks share CPU alike: cgroup v2, /a has not been given the controller cpu"
    assert (found["memory"].remedy, found["cpu"].remedy) == ("", "ask systemd")


def test_without_groups_a_list_of_processes_of_its_own_is_killed_as_one(tmp_path: Path) -> None:
    kills = {
        own: bounds(tmp_path, node_runs=False, limits="none", own_processes=own)[-1].active for own in (True, False)
    }
    assert kills == {True: True, False: False}


def test_what_a_node_said_that_has_ended_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / FACTS_FILE).write_text(NODES.to_json())
    found = bounds(tmp_path, node_runs=False, limits="none")
    assert [(each.name, each.active, each.remedy) for each in found] == [
        (name, False, "set task_limits to auto") for name in (*Control, "kill")
    ]


def test_a_node_that_has_not_said_is_looked_for(tmp_path: Path) -> None:
    found = bounds(tmp_path, node_runs=True, limits="auto")
    assert {each.name for each in found} >= {*Control}
    for each in found:
        assert each.active == (each.remedy == "")
