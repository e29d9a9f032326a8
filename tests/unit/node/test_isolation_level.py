"""Which level a node works at, and when it refuses to work at all."""

import pytest

from tidemill.node.isolation.level import IsolationError, Level, choose
from tidemill.node.isolation.protections import Protections, read_probe

WHOLE = dict.fromkeys(Level, "")
NO_SANDBOX = WHOLE | {Level.SANDBOX: "no bwrap"}
PROCESS_ALONE = NO_SANDBOX | {Level.CONTAINER: "no runc"}
IN_PARTS = PROCESS_ALONE | {Level.PROCESS: "no landlock (Function not implemented)"}


@pytest.mark.parametrize(
    ("wanted", "minimum", "problems", "level"),
    [
        ("auto", "", WHOLE, Level.SANDBOX),
        ("auto", "", NO_SANDBOX, Level.CONTAINER),
        ("auto", "", PROCESS_ALONE, Level.PROCESS),
        ("auto", "", IN_PARTS, Level.PROCESS),
        ("process", "", WHOLE, Level.PROCESS),
        ("process", "", IN_PARTS, Level.PROCESS),
        ("auto", "process", PROCESS_ALONE, Level.PROCESS),
        ("auto", "container", WHOLE, Level.SANDBOX),
        ("container", "process", WHOLE, Level.CONTAINER),
    ],
)
def test_auto_takes_the_strongest_that_works_and_a_name_that_one(
    wanted: str, minimum: str, problems: dict[Level, str], level: Level
) -> None:
    assert choose(wanted, minimum, problems) is level


@pytest.mark.parametrize(
    ("wanted", "minimum", "problems", "says"),
    [
        ("sandbox", "", NO_SANDBOX, "isolation is sandbox, which this machine does not have: no bwrap"),
        ("auto", "sandbox", NO_SANDBOX, "minimum_isolation is sandbox, but tasks would run at container: no bwrap"),
        ("auto", "container", PROCESS_ALONE, "minimum_isolation is container, but tasks would run at process: no runc"),
        (
            "process",
            "sandbox",
            WHOLE,
            "minimum_isolation is sandbox, but tasks would run at process: isolation is process",
        ),
        ("auto", "process", IN_PARTS, "level process is not whole here: no landlock (Function not implemented)"),
    ],
)
def test_what_is_asked_for_is_never_fallen_below(
    wanted: str, minimum: str, problems: dict[Level, str], says: str
) -> None:
    with pytest.raises(IsolationError) as refused:
        choose(wanted, minimum, problems)
    assert str(refused.value).endswith(says)


def test_what_the_launcher_prints_is_understood() -> None:
    found = read_probe("privileges 1\ncapabilities 1\nuid missing 1\nfiles 7\ncalls missing 38\nview 1\nnetwork 1\n")
    assert found == Protections(
        launcher=True,
        capabilities=True,
        landlock=7,
        view=True,
        no_network=True,
        missing={"own_uid": "Operation not permitted", "seccomp": "Function not implemented"},
    )
    assert found.problem == "no seccomp (Function not implemented)"
    assert Protections().problem == "the launcher is not built"
