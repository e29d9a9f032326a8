"""``runtime.network`` is ``none``: a task reaches nothing but its own loopback, and still has its arguments."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.launching import Launch
from tests.node.prison import PRISONS, Prison, prison_at, start_behind
from tests.node.rig import NODE, Rig, until
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import Outcome, OutcomeKind
from tidemill.node.isolation.protections import probe
from tidemill.node.launcher import launcher_path

HERE = probe(launcher_path(), None)
pytestmark = pytest.mark.skipif(
    not HERE.no_network, reason=f"no network namespaces here: {HERE.missing.get('no_network')}"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nodes of several users")

# each ends with 0 when it got what it wanted
ARGUMENTS = """$PYTHON -S -c 'import json, os, urllib.request
said = json.load(urllib.request.urlopen(os.environ["BL_EXECUTION_DATA_URL"], timeout=20))
raise SystemExit(said != {"tasks": [json.load(open(os.environ["TIDEMILL_TASK_FILE"]))]})'"""
ONLY_LOOPBACK = "test \"$(sed 1,2d /proc/net/dev | tr -d ' ' | cut -d: -f1)\" = lo"
TALK_TO_ITSELF = """$PYTHON -S -c 'import socket
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), timeout=5)'"""
REACH_OUTSIDE = {
    "the machine over its loopback": 'socket.create_connection(("127.0.0.1", PORT), timeout=5)',
    "the machine over IPv6": 'socket.create_connection(("::1", PORT), timeout=5)',
    "an abstract socket of the machine": 'socket.socket(socket.AF_UNIX).connect("\\0tidemill-test-PORT")',
}


@pytest.fixture(scope="module", params=PRISONS, ids=lambda place: f"{place[0].name.lower()}-{place[1]}")
def cell(request: pytest.FixtureRequest) -> Iterator[Prison]:
    with prison_at(*request.param) as found:
        yield found


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """At which this machine listens on both loopbacks, and by which an abstract socket is called."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        number: int = listener.getsockname()[1]
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0tidemill-test-{number}")
            abstract.listen()
            yield number


def reaching(what: str, port: int) -> str:
    return f"$PYTHON -S -c 'import socket; {REACH_OUTSIDE[what].replace('PORT', str(port))}'"


def succeeded(outcome: Outcome) -> bool:
    assert outcome.kind in {OutcomeKind.SUCCEEDED, OutcomeKind.EXIT_CODE}, outcome
    return outcome.kind is OutcomeKind.SUCCEEDED


def test_it_gets_its_arguments_where_they_always_are(cell: Prison) -> None:
    assert succeeded(cell.try_inside(ARGUMENTS, network=False))


def test_it_has_a_loopback_of_its_own_and_no_other_interface(cell: Prison) -> None:
    assert succeeded(cell.try_inside(f"{ONLY_LOOPBACK} && {TALK_TO_ITSELF}", network=False))
    assert not succeeded(cell.try_inside(f"{ONLY_LOOPBACK} && ! ls /sys/class/net/*/device"))


@pytest.mark.parametrize("what", REACH_OUTSIDE)
def test_it_does_not_reach(cell: Prison, port: int, what: str) -> None:
    assert not succeeded(cell.try_inside(reaching(what, port), network=False))


@pytest.mark.parametrize("what", list(REACH_OUTSIDE)[:2])
def test_with_a_network_the_same_is_reached(cell: Prison, port: int, what: str) -> None:
    assert succeeded(cell.try_inside(reaching(what, port)))


def test_nobody_else_reaches_what_it_listens_at(rig: Rig, engine: LocalEngine) -> None:
    serve = '$PYTHON -S -c \'import socket, time; s = socket.create_server(("127.0.0.1", 0)); '
    serve += 'open("port.partial", "w").write(str(s.getsockname()[1])); '
    image = rig.shell(serve.replace("port.partial", f"{rig.root}/port") + "s.accept()'")
    lease = rig.lease(image, environment={"PYTHON": "/usr/bin/python3"}, network=False)
    rig.launch(engine, lease)
    found = int(until(lambda: (rig.root / "port").exists() and (rig.root / "port").read_text()))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", found), timeout=5)
    engine.cancel(NODE, [lease.attempt], 0, rig.term)


def test_nothing_of_its_network_is_left(rig: Rig, engine: LocalEngine) -> None:
    image = rig.shell("true")
    assert rig.run(engine, rig.lease(image, 0)).kind is OutcomeKind.SUCCEEDED
    before = open_files(rig.node_pid)
    for index in range(1, 6):
        assert rig.run(engine, rig.lease(image, index, network=False)).kind is OutcomeKind.SUCCEEDED
    until(lambda: open_files(rig.node_pid) == before)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@as_root
def test_a_node_that_cannot_do_it_does_not_start_it(rig: Rig) -> None:
    # the limit is that of the user namespace alone which the node is in
    none = ("unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"')
    node = start_behind(rig, (*none, "sh"))
    try:
        engine = rig.engine()
        refused = rig.run(engine, rig.lease(rig.shell(f"touch {rig.root}/ran"), 0, network=False))
        assert refused.kind is OutcomeKind.LAUNCH_ERROR
        assert refused.message.startswith("runtime.network is none, but its node cannot keep a task from the network (")
        assert not (rig.root / "ran").exists()
        assert "no_network" not in engine.nodes()[0].capabilities
        assert rig.run(engine, rig.lease(rig.shell("true"), 1)).kind is OutcomeKind.SUCCEEDED
    finally:
        rig.close()
        node.wait(20)


def test_what_listens_comes_with_the_first_word_and_the_port_that_was_asked_for(launch: Launch) -> None:
    launched = launch("sh", "-c", "exit 3", options=["--network=none", "--listen=1234"])
    launched.control.settimeout(20)
    said, fds, _, _ = socket.recv_fds(launched.control, 64, 1)
    launched.said = said.removeprefix(b"listening\n")
    with socket.socket(fileno=fds[0]) as listener:
        assert listener.getsockname() == ("127.0.0.1", 1234)
    assert said.startswith(b"listening\n")
    assert launched.ended() == ["ended", "exit", "3"]


def test_a_port_that_is_taken_keeps_the_command_from_starting(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert launch("true", options=[f"--listen={port}"]).line() == "failed listener 98"
        assert launch("true", options=["--network=none", f"--listen={port}"]).line() == "listening"
