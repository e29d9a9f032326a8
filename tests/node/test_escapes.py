"""What a task can never do, tried from inside a task of a real node, and outside of one to see that the trial works."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.escapes import EVERY, NOT_FOR_ROOT
from tests.node.prison import Node, Prison, prison, why_not, why_not_at
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.level import Level

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nodes of several users")

# where the node has but one user, every task is the owner of its files and the peer of its sockets, and may do what no
# part of the kernel but the user's number keeps it from (docs/isolation.md)
ONE_USER = {"change a program by its mode", "speak to another program of the node's user"}
GAPS = {
    Node.ROOT: set[str](),
    Node.ROOT_ALONE: ONE_USER,
    Node.CONTAINED: set[str](),
    Node.ORDINARY: ONE_USER,
}
# in a sandbox these are the task's, whoever it runs as, and go with it
OF_ITS_OWN = {"leave a file in /tmp"}


@pytest.fixture(scope="module", params=list(Node), ids=lambda kind: kind.name.lower())
def kind(request: pytest.FixtureRequest) -> Node:
    found: Node = request.param
    if why := why_not(found):
        pytest.skip(why)
    return found


@pytest.fixture(scope="module", params=[Level.PROCESS, Level.SANDBOX])
def level(request: pytest.FixtureRequest) -> Level:
    found: Level = request.param
    return found


@pytest.fixture(scope="module")
def cell(kind: Node, level: Level) -> Iterator[Prison]:
    if why := why_not_at(level):
        pytest.skip(why)
    with prison(kind, level) as found:
        yield found


@pytest.mark.parametrize("name", EVERY)
def test_no_way_leads_out_of_a_task(cell: Prison, kind: Node, level: Level, name: str) -> None:
    outcome = cell.try_inside(EVERY[name])
    found_a_way = outcome.kind is OutcomeKind.SUCCEEDED
    assert found_a_way == (name in (GAPS[kind] if level is Level.PROCESS else OF_ITS_OWN)), outcome
    assert found_a_way or outcome.kind is OutcomeKind.EXIT_CODE


@pytest.fixture(scope="module")
def open_cell() -> Iterator[Prison]:
    with prison(Node.ROOT, Level.PROCESS) as found:
        yield found


@pytest.mark.parametrize("name", EVERY)
def test_each_way_is_one_where_nothing_stands_in_it(open_cell: Prison, tmp_path: Path, name: str) -> None:
    if name == "load a module" and not Path("/proc/modules").exists():
        pytest.skip("this machine has no modules to load")
    assert open_cell.try_outside(EVERY[name], tmp_path, nobody=name in NOT_FOR_ROOT) == 0
