"""`tidemill keys` over real HTTP."""

from collections.abc import Callable
from typing import Any

from tests.cli.conftest import Ended, Reply, WireServer

OLD = {"id": "0ld", "active": False, "held": True, "envelopes": 7}
NEW = {"id": "n3w", "active": True, "held": True, "envelopes": 5}
LOST = {"id": "l0st", "active": False, "held": False, "envelopes": 1}


def keys(*found: dict[str, Any], done: bool = True) -> dict[str, Any]:
    return {"keys": list(found), "done": done, "made": False}


def test_the_list_says_what_each_key_is_for(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    wire.replies["GET /v0/keys"] = [Reply(body=keys(NEW, OLD, LOST))]
    ended = tidemill("keys", "list")
    assert ended.code == 0, ended.err
    words = [line.split() for line in ended.out.splitlines()[-3:]]
    assert words == [["n3w", "seals", "5"], ["0ld", "opens", "7"], ["l0st", "missing", "1"]]
    assert tidemill("keys", "list", "-o", "json").json() == keys(NEW, OLD, LOST)


def test_a_rotation_goes_on_until_it_is_done(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    steps = [keys(NEW, OLD, done=False), keys(NEW, {**OLD, "envelopes": 2}, done=False), keys({**NEW, "envelopes": 12})]
    wire.replies["POST /v0/keys/rotate"] = [Reply(body=step) for step in steps]
    ended = tidemill("keys", "rotate")
    assert (ended.code, [seen.line for seen in wire.seen]) == (0, ["POST /v0/keys/rotate"] * 3), ended.err
    assert ended.out.split()[-3:] == ["n3w", "seals", "12"]


def test_it_ends_where_a_step_gets_nothing_done(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    wire.replies["POST /v0/keys/rotate"] = [Reply(body=keys(NEW, OLD, done=False))]
    assert tidemill("keys", "rotate").code == 0
    assert len(wire.seen) == 2


def test_keys_of_tokens_are_listed_rotated_and_ended(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    old = {"id": "0ld", "active": False, "createdAt": "2026-11-23T10:00:00Z", "verifiesUntil": "2026-11-23T14:01:00Z"}
    new = {"id": "n3w", "active": True, "createdAt": "2026-11-23T12:00:00Z", "verifiesUntil": None}
    wire.replies["GET /v0/keys"] = [Reply(body=keys(NEW) | {"signing": [new, old]})]
    wire.replies["POST /v0/keys/signing/rotate"] = [Reply(body={"signing": [new, old]})]
    wire.replies["DELETE /v0/keys/signing/0ld"] = [Reply(body={"signing": [new]})]
    both = [
        ["n3w", "signs", "2026-11-23T12:00:00Z"],
        ["0ld", "verifies", "until", "2026-11-23T14:01:00Z", "2026-11-23T10:00:00Z"],
    ]
    assert [line.split() for line in tidemill("keys", "list").out.splitlines()][1:3] == both
    assert [line.split() for line in tidemill("keys", "rotate", "--signing").out.splitlines()][1:] == both
    assert [line.split() for line in tidemill("keys", "end", "0ld").out.splitlines()][1:] == both[:1]
    assert tidemill("keys", "rotate", "--signing", "-o", "json").json() == {"signing": [new, old]}
    assert tidemill("keys", "rotate", "--signing", "--drop").code == 2
    assert tidemill("keys", "end").code == 2


def test_what_does_not_open_is_told_beside_the_table(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    unopened = [{"table": "execution", "id": "7", "key": "0ld"}, {"table": "revision", "id": "1/a", "key": ""}]
    wire.replies["POST /v0/keys/rotate"] = [Reply(body=keys(NEW, OLD) | {"unopened": unopened})]
    ended = tidemill("keys", "rotate")
    assert (ended.code, len(wire.seen)) == (0, 1), ended.err
    assert ended.out.split()[-3:] == ["0ld", "opens", "7"]
    assert "execution 7 (key 0ld)" in ended.err
    assert "revision 1/a (key none)" in ended.err


def test_drop_is_one_request_that_says_so(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    wire.replies["POST /v0/keys/rotate"] = [Reply(body=keys(NEW))]
    assert tidemill("keys", "rotate", "--drop").code == 0
    assert [seen.query for seen in wire.seen] == [{"drop": "true"}]
