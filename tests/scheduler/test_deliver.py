"""Callbacks over real sockets from a real ledger, with a clock that the test moves: no try is waited for."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from blaxel.core.common.webhook import verify_webhook_signature

from tests.api.asking import Api, opened
from tests.e2e.drive import until
from tests.outgoing.receiver import Receiver, Script, answer, receiving
from tests.scheduler.triggering import Clockwork, at, cron
from tidemill.model.addresses import Allowed
from tidemill.model.callback import pause
from tidemill.model.principal import Principal, Role
from tidemill.outgoing.client import Client
from tidemill.outgoing.guard import Guard, resolve
from tidemill.scheduler.deliver import Deliverer, Tools
from tidemill.service import executions
from tidemill.service.executions import ExecutionRequest
from tidemill.store import schema
from tidemill.store.database import Database
from tidemill.testing.sim import Given, Sim

JOB = "/v0/jobs/sweep"
WHO = Principal(id="cron", workspace="main", role=Role.ADMIN)
AGES = 10**9


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "tidemill.db"
    Database(path).close()
    return path


@dataclass
class Server:
    """The parts of a server that callbacks need; loopback is allowed, and ``names`` resolve to what they say."""

    api: Api
    names: dict[str, Sequence[str]] = field(default_factory=dict)
    deliverer: Deliverer | None = None

    def look_up(self, host: str, port: int) -> Sequence[str]:
        return self.names[host] if host in self.names else resolve(host, port)

    def triggers(self, **urls: str) -> dict[str, str]:
        """Set the callbacks of the job; the secrets that were made."""
        triggers = [
            {"id": name, "type": "http", "configuration": {"path": f"/{name}", "callbackUrl": url, "retry": 3}}
            for name, url in urls.items()
        ]
        job = self.api.put(JOB, {"spec": {"triggers": triggers}}).json()
        return {each["id"]: each["configuration"]["callbackSecret"] for each in job["spec"]["triggers"]}

    def ended(self, trigger: str = "t1") -> str:
        """An execution that the trigger has started, and that was cancelled; its id."""
        request = ExecutionRequest(trigger=trigger)
        made = executions.create(self.api.parts, WHO, "sweep", request, now=self.api.now[0])
        self.api.delete(f"{JOB}/executions/{made.id}")
        return made.id

    def starts(self, database: Database | None = None) -> Deliverer:
        client = Client(guard=self.api.parts.guard, steady=time.monotonic)
        tools = Tools(
            database=database or self.api.parts.database,
            keyring=self.api.parts.keyring,
            client=client,
            clock=lambda: self.api.now[0],
            jitter=lambda: 1.0,
        )
        self.deliverer = Deliverer(tools)
        self.deliverer.start()
        return self.deliverer

    def stops(self) -> None:
        if self.deliverer is not None:
            self.deliverer.stop()
            self.deliverer.join()
            self.deliverer = None

    def later(self, seconds: float) -> None:
        self.api.later(seconds)
        self.api.parts.database.deliveries.signal()

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"{JOB}/callbacks").json()["data"]
        return found

    def settled(self, count: int = 1, **facts: object) -> list[dict[str, Any]]:
        """Once ``count`` callbacks look like that."""

        def look() -> list[dict[str, Any]] | None:
            found = [each for each in self.listed() if facts.items() <= each.items()]
            return found if len(found) == count else None

        return until(look) or []


@pytest.fixture
def server(tmp_path: Path, migrated: Path) -> Iterator[Server]:
    shutil.copy(migrated, tmp_path / "tidemill.db")
    api = opened(tmp_path)
    found = Server(api)
    guard = Guard(allowed=Allowed.parse(["127.0.0.0/8"]), resolver=found.look_up)
    api.parts = replace(api.parts, guard=guard)
    api.context = replace(api.context, parts=api.parts)
    api.deployed()
    yield found
    found.stops()
    api.close()


def url(receiver: Receiver, path: str = "/") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


def parts_of(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def is_signed(request: bytes, secret: str, at: float) -> bool:
    headers, body = parts_of(request)
    # the official function compares with the time of the machine: the clock of the test is another one
    assert abs(int(headers["x-blaxel-timestamp"]) - at) <= 1
    stamp = headers["x-blaxel-timestamp"]
    return bool(verify_webhook_signature(body, headers["x-blaxel-signature"], secret, stamp, AGES))


def test_an_end_is_told_and_signed_as_the_official_function_wants_it(server: Server) -> None:
    with receiving(answer(200)) as receiver:
        secret = server.triggers(t1=url(receiver, "/in?a=b"))["t1"]
        server.starts()
        execution = server.ended()
        (found,) = server.settled(status="delivered")
        (request,) = receiver.heard
    headers, body = parts_of(request)
    assert request.startswith(b"POST /in?a=b HTTP/1.1\r\n")
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("tidemill/")
    assert is_signed(request, secret, server.api.now[0].timestamp())
    assert not is_signed(request, f"{secret}x", server.api.now[0].timestamp())
    assert not is_signed(request.replace(b"499", b"200"), secret, server.api.now[0].timestamp())
    told = json.loads(body)
    assert list(told) == ["status_code", "response_body", "response_length", "timestamp"]
    assert told["status_code"] == 499
    assert told["response_length"] == len(told["response_body"])
    assert told["timestamp"] == int(server.api.now[0].timestamp()) == int(headers["x-blaxel-timestamp"])
    shown = server.api.get(f"{JOB}/executions/{execution}").json()
    assert json.loads(told["response_body"]) == {
        "executionId": execution,
        "status": "cancelled",
        "stats": shown["stats"],
    }
    assert (found["tries"], found["lastAnswer"], "lastError" in found) == (1, 200, False)


def test_a_receiver_that_fails_is_tried_again_later_and_later_then_parked(server: Server) -> None:
    with receiving(answer(500)) as receiver:
        server.triggers(t1=url(receiver))
        server.starts()
        server.ended()
        for tries, wait in ((1, 1), (2, 2), (3, 4)):
            (found,) = server.settled(tries=tries)
            assert (found["status"], found["lastAnswer"]) == ("pending", 500)
            assert found["lastError"] == "the receiver answered 500"
            assert receiver.visits == tries
            # none too early: what is due now would be sent before this is seen to be delivered
            server.later(wait - 0.001)
            with receiving(answer(200)) as other:
                server.triggers(t1=url(receiver), t2=url(other))
                server.ended("t2")
                server.settled(tries, triggerId="t2", status="delivered")
            assert receiver.visits == tries
            server.later(0.001)
        (found,) = server.settled(status="parked")
        assert (found["tries"], found["lastAnswer"]) == (4, 500)
        assert receiver.visits == 4
        assert server.api.post(f"{JOB}/callbacks/replay").json() == {"replayed": 1}
        (found,) = server.settled(tries=1, triggerId="t1")
        assert receiver.visits == 5


@pytest.mark.parametrize(
    ("tries", "low", "high"), [(1, 0.5, 1), (2, 1, 2), (5, 8, 16), (12, 1024, 2048), (13, 1800, 3600)]
)
def test_waits_double_up_to_an_hour_and_half_of_each_is_by_chance(tries: int, low: float, high: float) -> None:
    assert pause(tries, 0.0).total_seconds() == low
    assert pause(tries, 1.0).total_seconds() == high
    assert pause(100, 1.0).total_seconds() == 3_600


def test_a_redirect_to_the_inside_is_no_way_in(server: Server) -> None:
    with receiving(answer(200)) as inside:
        with receiving(answer(307, f"Location: http://127.0.0.1:{inside.port}/")) as receiver:
            server.triggers(t1=url(receiver))
            server.starts()
            server.ended()
            (found,) = server.settled(tries=1)
        assert inside.visits == 0
    assert (found["status"], found["lastAnswer"]) == ("pending", 307)
    assert found["lastError"] == "the receiver answered 307; redirects are not followed"


def test_a_name_that_moves_inside_after_it_was_set_is_refused_and_says_no_address(server: Server) -> None:
    server.names["hooks.example.org"] = ["10.1.2.3"]
    with receiving(answer(200)) as receiver:
        server.triggers(t1=f"http://hooks.example.org:{receiver.port}/")
        server.starts()
        server.ended()
        (found,) = server.settled(tries=1)
        assert "not on the public Internet" in found["lastError"]
        assert "10.1" not in json.dumps(found)
        assert receiver.visits == 0
        # and when it has moved back
        server.names["hooks.example.org"] = ["127.0.0.1"]
        server.later(1)
        server.settled(status="delivered", tries=2)


def test_a_receiver_that_is_not_there_is_said(server: Server) -> None:
    with receiving(answer(200)) as receiver:
        address = url(receiver)
    server.triggers(t1=address)
    server.starts()
    server.ended()
    (found,) = server.settled(tries=1)
    assert "no connection could be made" in found["lastError"]
    assert "lastAnswer" not in found


def silent(released: threading.Event) -> Script:
    """Takes a request and keeps its sender waiting."""

    def script(connection: socket.socket) -> None:
        released.wait(60)
        answer(200)(connection)

    return script


def test_slow_receivers_hold_up_nobody_else(server: Server) -> None:
    released = threading.Event()
    with slow(released) as dead, receiving(answer(200)) as quick:
        server.triggers(slow=url(dead), quick=url(quick))
        server.starts()
        for _ in range(5):
            server.ended("slow")
        until(lambda: dead.visits == 2)
        for _ in range(5):
            server.ended("quick")
        server.settled(5, triggerId="quick", status="delivered")
        # two at a time, and no third one
        assert dead.visits == 2
        assert quick.visits == 5
        released.set()
        server.settled(5, triggerId="slow", status="delivered")
        assert dead.visits == 5


def slow(released: threading.Event) -> Any:
    return receiving(silent(released), threads=True)


def test_a_stop_cuts_what_is_being_sent_and_the_next_start_sends_it_again(server: Server) -> None:
    released = threading.Event()
    with slow(released) as receiver:
        server.triggers(t1=url(receiver))
        server.starts()
        server.ended()
        until(lambda: receiver.visits == 1)
        server.stops()
        (found,) = server.listed()
        assert (found["status"], found["tries"], "lastError" in found) == ("pending", 0, False)
        released.set()
        server.starts()
        server.settled(status="delivered", tries=1)
        assert receiver.visits == 2


class Dying:
    """A database that a server has until it has sent: what came of that it can write down no more."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner

    def write(self, work: Callable[[Any], Any], **options: Any) -> Any:
        if "settle" in getattr(getattr(work, "func", work), "__name__", ""):
            raise OSError("killed")
        return self._inner.write(work, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_what_was_sent_and_not_written_down_is_sent_once_more(server: Server) -> None:
    with receiving(answer(200)) as receiver:
        server.triggers(t1=url(receiver))
        server.starts(Dying(server.api.parts.database))  # type: ignore[arg-type]  # all that it has not is the database's
        execution = server.ended()
        until(lambda: len(receiver.heard) == 1)
        server.stops()
        assert [each["status"] for each in server.listed()] == ["pending"]
        server.starts()
        server.settled(status="delivered", tries=1)
        assert [execution.encode() in request for request in receiver.heard] == [True, True]


def test_a_lease_of_a_server_that_died_ends_without_a_start(server: Server) -> None:
    with receiving(answer(200)) as receiver:
        server.triggers(t1=url(receiver))
        server.starts(Dying(server.api.parts.database))  # type: ignore[arg-type]
        server.ended()
        until(lambda: len(receiver.heard) == 1)
        until(lambda: server.deliverer is not None and not server.deliverer._sending)
        server.later(59)
        server.later(2)
        until(lambda: len(receiver.heard) == 2)


def test_while_a_secret_is_rotated_receivers_that_know_either_one_are_reached(server: Server) -> None:
    known: list[str] = []

    def verifying(connection: socket.socket) -> None:
        headers, body = parts_of(receiver.heard[-1])
        good = any(verify_webhook_signature(body, headers["x-blaxel-signature"], secret) for secret in known)
        answer(200 if good else 401)(connection)

    with receiving(verifying) as receiver:
        older = server.triggers(t1=url(receiver))["t1"]
        known.append(older)
        newer = server.api.post(f"{JOB}/triggers/t1/callback_secret?overlap=60").json()["callbackSecret"]
        server.starts()
        server.ended()
        server.settled(1, status="delivered", tries=1)
        assert receiver.visits == 2
        known[:] = [newer]
        server.ended()
        server.settled(2, status="delivered", tries=1)
        assert receiver.visits == 3
        # when its time is over the older one is shown no more
        known[:] = [older]
        server.later(61)
        server.ended()
        (found,) = server.settled(1, status="pending", tries=1)
        assert found["lastAnswer"] == 401
        assert receiver.visits == 4


def test_what_a_cron_trigger_started_is_told_of_when_it_has_ended(sim: Sim) -> None:
    sim.clock.now = at("2026-06-01T12:00:30")
    work = Clockwork(sim)
    work.deploy(
        cron(tasks=[{"a": 1}, {"b": 2}], callbackUrl="https://hooks.example.org/"), cron("0 3 * * *", name="quiet")
    )
    work.look("2026-06-01T12:01")
    sim.run()
    (made,) = work.executions()
    rows = sim.database.read(lambda connection: connection.execute(schema.outbox.select()).all())
    assert [(row.execution, row.trigger_id, row.status, row.code) for row in rows] == [
        (made.key, "t1", "succeeded", 200)
    ]
    assert rows[0].stats["succeeded"] == 2
    # the same trigger by hand: a request is nobody's trigger
    sim.submit(Given())
    sim.run()
    assert len(sim.database.read(lambda connection: connection.execute(schema.outbox.select()).all())) == 1


def test_a_callback_without_a_trigger_is_parked_until_there_is_one(server: Server) -> None:
    with receiving(answer(200)) as receiver:
        server.triggers(t1=url(receiver))
        server.ended()
        server.triggers()
        server.starts()
        (found,) = server.settled(status="parked")
        assert found["lastError"] == "its trigger has no callbackUrl any more"
        assert receiver.visits == 0
        secret = server.triggers(t1=url(receiver))["t1"]
        server.api.post(f"{JOB}/callbacks/replay")
        server.settled(status="delivered")
        assert is_signed(receiver.heard[0], secret, server.api.now[0].timestamp())


def test_a_fault_of_our_own_is_a_try_that_failed_and_not_one_without_end(server: Server) -> None:
    def broken(host: str, port: int) -> Sequence[str]:
        raise ZeroDivisionError(f"{host}:{port}")

    server.api.parts = replace(server.api.parts, guard=replace(server.api.parts.guard, resolver=broken))
    server.triggers(t1="https://hooks.example.org/")
    server.starts()
    server.ended()
    (found,) = server.settled(tries=1)
    assert (found["status"], found["lastError"]) == ("pending", "the server could not send it: ZeroDivisionError")


def test_a_crowd_is_told_once_each(server: Server) -> None:
    with receiving(answer(200), threads=True) as one, receiving(answer(204), threads=True) as two:
        server.triggers(one=url(one), two=url(two))
        server.starts()
        told = [server.ended(name) for _ in range(20) for name in ("one", "two")]
        server.settled(40, status="delivered", tries=1)
        heard = [json.loads(json.loads(parts_of(each)[1])["response_body"]) for each in (*one.heard, *two.heard)]
        assert sorted(each["executionId"] for each in heard) == sorted(told)
