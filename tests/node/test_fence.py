"""Addresses of cloud metadata, and what else is forbidden, are out of reach of tasks: tried on a machine that has them.

The machine is a network namespace, in which the addresses are those of its own loopback; nothing leaves it.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from tests.node.prison import SYSTEM_PYTHON, start_behind, why_not_at
from tests.node.rig import Rig, until
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import OutcomeKind
from tidemill.node.discovery import stop_node
from tidemill.node.isolation import fence
from tidemill.node.isolation.fence import raise_fence, rules
from tidemill.node.isolation.level import Level

METADATA = ("169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254")
ELSEWHERE = ("127.0.0.1", "::1", "169.254.169.253")
WEB, DNS = 80, 53
# comes up, listens, and stays until its input is closed
CLOUD = f"""
import socket, subprocess, sys
for words in ("link set lo up", "addr add 169.254.169.254/32 dev lo", "addr add 169.254.169.253/32 dev lo",
              "-6 addr add fd00:ec2::254/128 dev lo nodad"):
    subprocess.run(["ip", *words.split()], check=True)
tcp = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in ({WEB}, {DNS})]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("169.254.169.254", {WEB}))
print("up", flush=True)
sys.stdin.read()
"""
# a table of this process: others try theirs at the same time
TRIED_BY_US = f"look_tests_{os.getpid()}"
# ends with 0 if it is connected, with 7 if that was refused
CONNECT = "import socket, sys\ntry: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)\n"
CONNECT += "except OSError: sys.exit(7)"
SEND = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 80))\n"
SEND += "try:\n for _ in range(2): s.send(b'x')\nexcept OSError: sys.exit(7)"


def why_not() -> str:
    if os.geteuid() != 0:
        return "only root makes packet rules"
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    done = subprocess.run(["unshare", "--net", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if done.returncode != 0:
        return f"no network namespaces: {done.stderr.decode().strip()}"
    try:
        raise_fence(TRIED_BY_US, [54321], ()).close()
    except OSError as error:
        return str(error.strerror)
    return ""


HERE = why_not()
pytestmark = pytest.mark.skipif(bool(HERE), reason=HERE)


@dataclass(frozen=True)
class Cloud:
    """A machine that has such addresses; words behind ``prefix`` run on it."""

    prefix: tuple[str, ...]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.prefix, *words], capture_output=True, text=True, check=False, timeout=60)

    def tables(self) -> list[str]:
        return [line.split()[-1] for line in self.run("nft", "list", "tables").stdout.splitlines()]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    words = ["unshare", "--net", str(SYSTEM_PYTHON), "-S", "-c", CLOUD]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with closing(process.stdin):
            assert process.stdout.readline() == b"up\n"
            yield Cloud(("nsenter", f"--net=/proc/{process.pid}/ns/net"))


@dataclass
class Guest:
    """A node on the cloud's machine."""

    rig: Rig
    engine: LocalEngine
    index: int = 0

    def reaches(self, script: str, *arguments: str) -> bool:
        """Whether a task does what ``script`` tries."""
        self.index += 1
        image = self.rig.image("sh", "-c", 'exec $PYTHON -S -c "$SCRIPT" $ARGUMENTS')
        environment = {"PYTHON": str(SYSTEM_PYTHON), "SCRIPT": script, "ARGUMENTS": " ".join(arguments)}
        outcome = self.rig.run(self.engine, self.rig.lease(image, self.index, environment=environment))
        assert outcome.exit_code in {0, 7}, outcome
        return outcome.kind is OutcomeKind.SUCCEEDED


Start = Callable[[Cloud], Guest]


@pytest.fixture
def start(rig: Rig) -> Iterator[Start]:
    """Starts the node of ``rig`` on a machine."""
    nodes: list[subprocess.Popen[bytes]] = []

    def start(cloud: Cloud) -> Guest:
        nodes.append(start_behind(rig, cloud.prefix))
        return Guest(rig, rig.engine())

    yield start
    rig.close()
    for node in nodes:
        node.wait(20)


@pytest.mark.parametrize("level", [Level.PROCESS, Level.SANDBOX])
def test_a_task_reaches_no_metadata_and_all_the_rest(rig: Rig, cloud: Cloud, start: Start, level: Level) -> None:
    if why := why_not_at(level):
        pytest.skip(why)
    rig.settings = replace(rig.settings, isolation=level)
    guest = start(cloud)
    assert guest.engine.nodes()[0].level == level
    assert "forbidden_addresses" in guest.engine.nodes()[0].capabilities
    for address in METADATA:
        assert not guest.reaches(CONNECT, address, str(WEB)), address
        assert cloud.run(str(SYSTEM_PYTHON), "-S", "-c", CONNECT, address, str(WEB)).returncode == 0, address
    assert not guest.reaches(SEND, METADATA[0])
    for address in ELSEWHERE:
        assert guest.reaches(CONNECT, address, str(WEB)), address
    # some clouds have their name servers there
    assert guest.reaches(CONNECT, METADATA[0], str(DNS))


def test_a_server_may_forbid_other_addresses_or_none(rig: Rig, cloud: Cloud, start: Start) -> None:
    rig.settings = replace(rig.settings, task_forbidden_addresses=("169.254.169.0/24", "169.254.169.253"))
    guest = start(cloud)
    assert not guest.reaches(CONNECT, ELSEWHERE[2], str(WEB))
    assert guest.reaches(CONNECT, METADATA[1], str(WEB))
    assert stop_node(rig.data)
    rig.settings = replace(rig.settings, task_forbidden_addresses=())
    guest = start(cloud)
    assert guest.reaches(CONNECT, METADATA[0], str(WEB))
    assert "forbidden_addresses" not in guest.engine.nodes()[0].capabilities


def test_rules_go_with_their_node_and_those_of_a_killed_one_with_the_next(rig: Rig, cloud: Cloud, start: Start) -> None:
    first = rig.settings.task_uid_first
    others = f"add table inet tidemill_{first + 7}; add table inet tidemill_tests; add table inet operators"
    assert cloud.run("nft", others).returncode == 0
    start(cloud)
    (own,) = set(cloud.tables()) - {"tidemill_tests", "operators"}
    rig.kill_node()
    assert own in cloud.tables()
    rig.settings = replace(rig.settings, task_forbidden_addresses=())
    start(cloud)
    assert sorted(cloud.tables()) == ["operators", "tidemill_tests"]
    assert stop_node(rig.data)
    rig.settings = replace(rig.settings, task_forbidden_addresses=(METADATA[0],))
    start(cloud)
    assert own in cloud.tables()
    assert stop_node(rig.data)
    until(lambda: own not in cloud.tables())


def test_a_node_that_may_not_make_rules_says_so_and_runs(rig: Rig, cloud: Cloud, start: Start) -> None:
    powerless = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--")
    guest = start(Cloud((*cloud.prefix, *powerless)))
    assert "forbidden_addresses" not in guest.engine.nodes()[0].capabilities
    assert guest.reaches(CONNECT, METADATA[0], str(WEB))


def test_rules_that_do_not_hold_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without = (
        f"table inet tidemill_{TRIED_BY_US} "
        "{ chain output { type filter hook output priority 0; policy accept; }; }\n"
    )
    monkeypatch.setattr(fence, "rules", lambda *_: without)
    with pytest.raises(OSError, match="does not follow them"):
        raise_fence(TRIED_BY_US, [54321], ())
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert TRIED_BY_US not in tables


def test_users_are_named_by_their_runs_and_networks_do_not_overlap() -> None:
    said = rules("t", [5, 7, 6, 9], [ip_network("10.1.0.0/16"), ip_network("10.0.0.0/8"), ip_network("fe80::1")])
    assert "elements = { 5-7, 9-9 }" in said
    assert "elements = { 5-5, 20-29 }" in rules("t", [5], [ip_network("10.1.0.0/16")], range(20, 30))
    assert "ip daddr { 10.0.0.0/8 }" in said
    assert "ip6 daddr { fe80::1/128 }" in said
