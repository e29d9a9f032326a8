"""A real server delivers callbacks to receivers that are well, slow, failing, redirecting and away, and is killed.

The ledger is made before it starts: executions that a trigger has started, and that have ended.
"""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from blaxel.core.common.webhook import verify_webhook_signature

from tests.api.asking import ADMIN, opened
from tests.e2e.drive import Server, until
from tests.outgoing.receiver import answer, receiving
from tidemill.model.addresses import Allowed
from tidemill.model.principal import Principal, Role
from tidemill.outgoing.guard import Guard
from tidemill.secrets import KeyRing
from tidemill.service import executions
from tidemill.service.executions import ExecutionRequest

JOB = "/v0/jobs/sweep"
WHO = Principal(id="cron", workspace="main", role=Role.ADMIN)
EACH = 12
ALLOW = ["127.0.0.0/8"]
TRIES = 3


class Crowd:
    """The receivers, by the trigger that calls them, and what befalls the server while it calls them."""

    def __init__(self, stack: ExitStack) -> None:
        self.open = threading.Event()
        self.failures = Counter[bytes]()
        self.fatal = Counter[str]()
        self.on_call: Callable[[str], None] = lambda _: None
        self.inside = stack.enter_context(receiving(answer(200), threads=True))
        scripts = {
            "well": self._well,
            "slow": self._slow,
            "failing": self._failing,
            "redirecting": answer(302, f"Location: http://127.0.0.1:{self.inside.port}/"),
        }
        self.receivers = {
            name: stack.enter_context(receiving(self._heard(name, script), threads=True))
            for name, script in scripts.items()
        }
        with socket.create_server(("127.0.0.1", 0)) as gone:
            self.away = gone.getsockname()[1]

    def urls(self) -> dict[str, str]:
        ports = {name: receiver.port for name, receiver in self.receivers.items()} | {"away": self.away}
        return {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}

    def told(self, name: str) -> Counter[str]:
        """How often each execution was told of."""
        return Counter(_execution(request) for request in self.receivers[name].heard)

    def _heard(self, name: str, script: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
        def answered(connection: socket.socket) -> None:
            self.on_call(name)
            script(connection)

        return answered

    def _well(self, connection: socket.socket) -> None:
        answer(200)(connection)

    def _slow(self, connection: socket.socket) -> None:
        self.open.wait(60)
        answer(200)(connection)

    def _failing(self, connection: socket.socket) -> None:
        """Every second call of an execution succeeds."""
        execution = _execution(self.receivers["failing"].heard[-1])
        self.fatal[execution] += 1
        answer(500 if self.fatal[execution] % 2 else 204)(connection)


def _execution(request: bytes) -> str:
    return str(json.loads(json.loads(request.partition(b"\r\n\r\n")[2])["response_body"])["executionId"])


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with ExitStack() as stack:
        made = Crowd(stack)
        yield made
        made.open.set()


def ledger(data: Path, urls: dict[str, str]) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Executions that have ended, by trigger, and the secrets of the triggers."""
    data.mkdir()
    ring = KeyRing.generate()
    (data / "keyring.json").write_text(ring.text())
    (data / "keyring.json").chmod(0o600)
    api = opened(data, ring)
    try:
        api.parts = replace(api.parts, guard=Guard(allowed=Allowed.parse(ALLOW)))
        api.context = replace(api.context, parts=api.parts)
        api.deployed()
        triggers = [
            {"id": name, "type": "http", "configuration": {"path": f"/{name}", "callbackUrl": url, "retry": TRIES - 1}}
            for name, url in urls.items()
        ]
        job = api.put(JOB, {"spec": {"triggers": triggers}}).json()
        made: dict[str, set[str]] = {name: set() for name in urls}
        for _ in range(EACH):
            for name in urls:
                new = executions.create(api.parts, WHO, "sweep", ExecutionRequest(trigger=name), now=api.now[0])
                assert api.delete(f"{JOB}/executions/{new.id}").json()["status"] == "cancelled"
                made[name].add(new.id)
        return made, {each["id"]: each["configuration"]["callbackSecret"] for each in job["spec"]["triggers"]}
    finally:
        api.close()


def states(server: Server) -> Counter[tuple[str, str]]:
    """How many callbacks of each trigger are in each state."""
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {ADMIN}"}) as http:
        answer = http.get(f"{JOB}/callbacks?limit=200", headers={"X-Blaxel-Workspace": "main"})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
    return Counter((each["triggerId"], each["status"]) for each in found)


@pytest.mark.timeout(180)
def test_all_is_delivered_at_least_once_through_kills_and_nobody_waits_for_the_slow(
    crowd: Crowd, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made, secrets = ledger(tmp_path / "data", crowd.urls())
    server = Server(tmp_path / "data", {"TIDEMILL_CALLBACK_ALLOW": json.dumps(ALLOW)})
    kills = 0
    calls = Counter[str]()
    lock = threading.Lock()

    def killing(name: str) -> None:
        """kill -9 once a receiver has everything and has not answered: between the sending and the mark."""
        nonlocal kills
        with lock:
            calls[name] += 1
            process = server.process
            if name == "well" and calls[name] in {3, 9} and process is not None:
                kills += 1
                process.kill()
                process.wait(60)

    crowd.on_call = killing
    try:
        for expected in (1, 2):
            server.start()
            until(lambda expected=expected: kills == expected, seconds=60)  # type: ignore[misc]  # bound to this turn
            server.reap()
        server.start()
        # whoever is well has all of it while the slow one still holds its two connections
        until(lambda: states(server)["well", "delivered"] == EACH, seconds=60)
        assert states(server)["slow", "delivered"] == 0
        until(lambda: states(server)["failing", "delivered"] == EACH, seconds=60)
        until(lambda: states(server)["redirecting", "parked"] == EACH, seconds=60)
        until(lambda: states(server)["away", "parked"] == EACH, seconds=60)
        crowd.open.set()
        until(lambda: states(server)["slow", "delivered"] == EACH, seconds=60)
        assert sum(states(server).values()) == EACH * len(made)
        assert crowd.inside.visits == 0
        counts = {name: crowd.told(name) for name in crowd.receivers}
        for name in ("well", "slow", "failing"):
            assert set(counts[name]) == made[name]  # nothing is lost
        twice = sum(count - 1 for count in counts["well"].values())
        # what was on its way to a receiver at a kill: two at most, each time; and one at least, for it had arrived
        assert 1 <= twice <= 2 * kills
        for name, receiver in crowd.receivers.items():
            assert all(_is_signed(request, secrets[name]) for request in receiver.heard), name
        # the receivers that were away come back, and all is told that was parked
        with receiving(answer(200), threads=True, at=("127.0.0.1", crowd.away)) as back:
            with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {ADMIN}"}) as http:
                http.post(f"{JOB}/callbacks/replay", headers={"X-Blaxel-Workspace": "main"})
            until(lambda: states(server)["away", "delivered"] == EACH, seconds=60)
            assert {_execution(request) for request in back.heard} == made["away"]
    finally:
        crowd.open.set()
        server.stop()
    for name, told in counts.items():
        record_property(name, f"{len(told)} executions told of {sum(told.values())} times, {kills} kills")
        print(f"{name}: {len(told)} executions told of {sum(told.values())} times, {kills} kills")


def _is_signed(request: bytes, secret: str) -> bool:
    """By the official function, with the time that it was sent at."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = dict(line.partition(": ")[::2] for line in head.decode().lower().split("\r\n")[1:])
    return bool(verify_webhook_signature(body, lines["x-blaxel-signature"], secret, lines["x-blaxel-timestamp"]))
