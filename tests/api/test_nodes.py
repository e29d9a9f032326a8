"""GET /v0/nodes, and what attempts had: the words of nodes as they stated them."""

from dataclasses import replace

import pytest

from tests.api.asking import MEMBER, NODE, STRANGER, Api
from tests.api.test_access import assert_problem
from tests.api.test_attempts import PATH, get, started
from tests.api.test_identity import bearer
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import Event, EventKind, NodeInfo, OutcomeKind
from tidemill.model.protections import ACTIVE, CGROUP_1, WATCHED, Had, Protection, Stated
from tidemill.store import ledger_settle, nodes

HAS = Stated(name="seccomp", active=True, says="system calls that only an attacker needs fail")
LACKS = Stated(name="memory", active=False, says="the node looks: no cgroup", remedy="start it as root")
HAD = Had(
    level="process",
    by={Protection.SECCOMP: ACTIVE, Protection.MEMORY: WATCHED, Protection.PIDS: CGROUP_1},
)
SHOWN = {
    "level": "process",
    "active": ["seccomp", "pids"],
    "missing": [
        *("no_new_privileges", "capabilities", "landlock", "signals", "own_uid", "hidden_processes"),
        *("own_root", "own_temporary", "metadata", "memory", "cpu", "kill"),
    ],
    "by": {"memory": "watched", "pids": "cgroup v1"},
}


@pytest.fixture
def home(api: Api) -> Api:
    """Main is the workspace that the server began with."""
    api.parts = replace(api.parts, home="main")
    api.context = replace(api.context, parts=api.parts)
    return api


def seen(api: Api, node: str, level: str, *stated: Stated) -> None:
    info = NodeInfo(
        id=NodeId(node), region="eu", memory_mb=4_000, slots=8, incarnation="i", level=level, protections=stated
    )
    api.parts.database.write(lambda connection: nodes.seen(connection, [info], now=api.now[0]))


def report(api: Api, execution: str, *events: tuple[int, EventKind, int | None]) -> None:
    """What the node says of the first attempts of tasks, in one batch."""
    key = api.key(execution)
    told = [
        Event(
            number=number,
            attempt=AttemptId(OwnerKind.TASK, key, index, 1),
            kind=kind,
            at=api.now[0].timestamp(),
            protections=number_of,
        )
        for number, (index, kind, number_of) in enumerate(events, start=1)
    ]
    batch = ledger_settle.Report(node=NODE, events=told)
    api.parts.database.write(
        lambda connection: ledger_settle.settle(connection, batch, now=api.now[0], jitter=lambda: 1.0)
    )


def test_nodes_are_listed_with_what_they_have_and_lack_and_how_to_get_it(home: Api) -> None:
    assert home.get("/v0/nodes").json() == []
    seen(home, "n2", "sandbox")
    seen(home, "n1", "process", LACKS)
    home.later(5)
    seen(home, "n1", "process", HAS, LACKS)
    answer = home.get("/v0/nodes").json()
    assert [(node["id"], node["isolation"]) for node in answer] == [("n1", "process"), ("n2", "sandbox")]
    assert answer[0] == {
        "id": "n1",
        "region": "eu",
        "memory": 4_000,
        "slots": 8,
        "isolation": "process",
        "protections": [
            {"name": "seccomp", "active": True, "says": HAS.says, "remedy": ""},
            {"name": "memory", "active": False, "says": LACKS.says, "remedy": "start it as root"},
        ],
        "seenAt": "2026-11-23T12:00:05.000000Z",
    }


def test_only_admins_of_the_first_workspace_see_nodes(home: Api) -> None:
    seen(home, "n1", "process", LACKS)
    for who in (MEMBER, STRANGER):
        assert_problem(home.get("/v0/nodes", headers=bearer(who)), 403, "FORBIDDEN")


def test_an_attempt_shows_what_it_runs_with_from_its_start_to_its_end(api: Api) -> None:
    execution = started(api, 1)
    api.node()
    api.claim(execution, 1)
    assert "protections" not in get(api, execution, 0)["attempts"][0]
    report(api, execution, (0, EventKind.STARTED, HAD.to_number()))
    assert get(api, execution, 0)["attempts"][0]["protections"] == SHOWN
    # an end that says nothing takes nothing away
    api.end_task(execution, 0, OutcomeKind.EXIT_CODE, exit_code=1)
    assert get(api, execution, 0)["attempts"][0]["protections"] == SHOWN


def test_an_attempt_whose_start_and_end_come_together_shows_it_too(api: Api) -> None:
    execution = started(api, 2)
    api.node()
    api.claim(execution, 2)
    api.end_task(execution, 0, protections=HAD.to_number())
    api.end_task(execution, 1)
    assert get(api, execution, 0)["attempts"][0]["protections"] == SHOWN
    assert "protections" not in get(api, execution, 1)["attempts"][0]


def test_why_tells_what_the_newest_attempt_of_a_task_had(api: Api) -> None:
    execution = started(api, 2)
    api.node()
    api.claim(execution, 1)
    report(api, execution, (0, EventKind.STARTED, HAD.to_number()))
    asked = f"{PATH}/{execution}/explain?task="
    assert api.get(f"{asked}0").json()["protections"] == SHOWN
    assert "protections" not in api.get(f"{asked}1").json()
    assert "protections" not in api.get(f"{PATH}/{execution}/explain").json()
    api.end_task(execution, 0, OutcomeKind.EXIT_CODE, exit_code=1)
    assert api.get(f"{asked}0").json()["protections"] == SHOWN
