"""What a task can never do, tried from inside a container; test_escapes.py sees that each is a way elsewhere."""

from collections.abc import Iterator

import pytest

from tests.node.escapes import EVERY
from tests.node.prison import Node, Prison, prison, why_not_at
from tidemill.model.lease import OutcomeKind
from tidemill.node.isolation.level import Level

WHY_NOT = why_not_at(Level.CONTAINER)
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

# the task's own, and gone with it
OF_ITS_OWN = {"leave a file in /tmp"}


@pytest.fixture(scope="module")
def cell() -> Iterator[Prison]:
    with prison(Node.ROOT, Level.CONTAINER) as found:
        yield found


@pytest.mark.parametrize("name", EVERY)
def test_no_way_leads_out_of_a_container(cell: Prison, name: str) -> None:
    outcome = cell.try_inside(EVERY[name])
    found_a_way = outcome.kind is OutcomeKind.SUCCEEDED
    assert found_a_way == (name in OF_ITS_OWN), outcome
    assert found_a_way or outcome.kind is OutcomeKind.EXIT_CODE
