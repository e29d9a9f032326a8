"""`get nodes` over real HTTP."""

from collections.abc import Callable
from typing import Any

from .conftest import Ended, Reply, WireServer

PROTECTIONS: list[dict[str, Any]] = [
    {"name": "seccomp", "active": True, "says": "refused calls", "remedy": ""},
    {"name": "own_uid", "active": False, "says": "the server is not root", "remedy": "run it as root"},
]
FULL: dict[str, Any] = {
    "id": "local",
    "region": "eu",
    "memory": 4000,
    "slots": 8,
    "isolation": "sandbox",
    "protections": PROTECTIONS,
    "seenAt": "2026-06-01T01:00:00Z",
}
OLD: dict[str, Any] = {**FULL, "id": "old", "isolation": "", "slots": 0, "protections": []}

Tidemill = Callable[..., Ended]


def test_nodes_are_a_table_with_what_they_lack(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/nodes", Reply(body=[FULL, {**FULL, "id": "other"}, OLD]))
    ended = tidemill("get", "nodes")
    header, full, other, old = ended.out.splitlines()
    assert header.split() == ["ID", "REGION", "ISOLATION", "SLOTS", "MEMORY", "SEEN", "MISSING"]
    assert full.split()[:6] == ["local", "eu", "sandbox", "8", "4000", "MB"]
    assert full.endswith(" own_uid")
    assert other.startswith("other ")
    assert old.split()[2:4] == ["-", "0"]
    assert old.endswith(" -")
    assert ended.err.count("own_uid: the server is not root; run it as root") == 1
    assert "seccomp" not in ended.out + ended.err


def test_as_json_they_are_the_servers_objects(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/nodes", Reply(body=[FULL]))
    ended = tidemill("get", "nodes", "-o", "json")
    assert ended.json() == [FULL]
    assert ended.err == ""


def test_who_may_not_see_them_is_told_so(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/nodes", Reply(status=403, body={"code": 403, "message": "admins of main may"}))
    ended = tidemill("get", "nodes")
    assert ended.code == 1
    assert "admins of main may" in ended.err
