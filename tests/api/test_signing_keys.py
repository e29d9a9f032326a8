"""The keys that sign tokens: rotated without ending a token, and ended with all of theirs at once."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.asking import MEMBER, STRANGER, Api, opened
from tests.api.test_access import assert_problem
from tests.api.test_identity import bearer
from tests.api.test_tokens import NOBODY, given, program, refreshed, rotated, signed_in, token
from tests.costs import cost
from tidemill.model.principal import Principal, Role
from tidemill.secrets import KeyRing, load_key_ring
from tidemill.service import signing_keys

SIGNING: Final = "/v0/keys/signing"
ROTATE: Final = f"{SIGNING}/rotate"


def listed(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v0/keys").json()["signing"]
    return found


def published(api: Api) -> list[str]:
    return [each["kid"] for each in api.get("/v0/.well-known/jwks.json", headers=NOBODY).json()["keys"]]


def takes(api: Api, access: str) -> int:
    return api.get("/v0/jobs", headers=bearer(access, "main")).status_code


def test_the_list_says_when_each_was_made_and_until_when_it_verifies(api: Api) -> None:
    assert listed(api) == []
    token(api, program(api))
    (first,) = published(api)
    made = {"createdAt": "2026-11-23T12:00:00.000000Z", "verifiesUntil": None}
    assert listed(api) == [{"id": first, "active": True, **made}]
    api.later(3600)
    answer = api.post(ROTATE).json()
    second = next(key for key in answer["signing"] if key["active"])
    assert second == {**second, "createdAt": "2026-11-23T13:00:00.000000Z", "verifiesUntil": None}
    old = {"id": first, "active": False, **made, "verifiesUntil": "2026-11-23T15:01:00.000000Z"}
    assert listed(api) == [second, old] == answer["signing"]
    api.later(2 * 3600 + 60)
    assert listed(api) == [second]
    assert "private" not in str(answer)


def test_tokens_of_the_old_key_are_good_and_published_after_a_rotation(api: Api) -> None:
    ci = program(api)
    before = token(api, ci)
    (old,) = published(api)
    api.later(1)
    fresh = rotated(api)
    assert published(api) == [fresh, old]
    assert [takes(api, each) for each in (before, token(api, ci))] == [200, 200]


def test_all_that_a_key_signed_is_refused_at_once_when_it_is_ended(api: Api) -> None:
    ci, person = program(api), signed_in(api)
    stolen = token(api, ci)
    (old,) = published(api)
    assert takes(api, stolen) == takes(api, person.access) == 200
    fresh = rotated(api)
    answer = api.delete(f"{SIGNING}/{old}")
    assert [key["id"] for key in answer.json()["signing"]] == [fresh]
    assert published(api) == [fresh]
    for each in (stolen, person.access):
        assert_problem(api.get("/v0/jobs", headers=bearer(each, "main")), 401, "UNAUTHORIZED")
        assert api.post("/v0/oauth/introspect", {"token": each}).json() == {"active": False}
    # programs and people go on with what they get anew
    assert takes(api, token(api, ci)) == 200
    assert takes(api, given(refreshed(api, person.refresh))["access_token"]) == 200


def test_another_process_refuses_them_with_its_next_request(api: Api) -> None:
    access = token(api, program(api))
    ours = api.context
    # what another process has: the same ledger, a key ring and an application of its own
    theirs = replace(ours, parts=replace(api.parts, keyring=KeyRing.parse(api.parts.keyring.text())))
    api.context = theirs
    assert takes(api, access) == 200
    api.context = ours
    (old,) = published(api)
    fresh = rotated(api)
    assert api.delete(f"{SIGNING}/{old}").status_code == 200
    api.context = theirs
    assert takes(api, access) == 401
    assert published(api) == [fresh]


def test_the_one_that_signs_is_never_ended(api: Api) -> None:
    access = token(api, program(api))
    (only,) = published(api)
    message = assert_problem(api.delete(f"{SIGNING}/{only}"), 409, "CONFLICT")
    assert "make another one first" in message
    assert takes(api, access) == 200


def test_one_that_there_is_not_or_that_has_ended_is_404(api: Api) -> None:
    token(api, program(api))
    (old,) = published(api)
    rotated(api)
    assert '"nothing"' in assert_problem(api.delete(f"{SIGNING}/nothing"), 404, "NOT_FOUND")
    api.later(2 * 3600 + 60)
    assert_problem(api.delete(f"{SIGNING}/{old}"), 404, "NOT_FOUND")


def test_only_admins_of_the_first_workspace_rotate_or_end_them(api: Api) -> None:
    token(api, program(api))
    (old,) = published(api)
    rotated(api)
    before = listed(api)
    for who in (MEMBER, STRANGER):
        assert_problem(api.post(ROTATE, headers=bearer(who)), 403, "FORBIDDEN")
        assert_problem(api.delete(f"{SIGNING}/{old}", headers=bearer(who)), 403, "FORBIDDEN")
    assert listed(api) == before


def test_both_are_audited(api: Api) -> None:
    token(api, program(api))
    (old,) = published(api)
    rotated(api)
    api.delete(f"{SIGNING}/{old}")
    rows = api.get("/v0/audit").json()["data"]
    assert [(row["action"], row["resource"], row["outcome"]) for row in rows[:2]] == [
        ("signing_keys.end", f"keys/signing/{old}", "success"),
        ("signing_keys.rotate", "keys/signing/rotate", "success"),
    ]


def test_each_is_one_unit_of_few_statements(api: Api) -> None:
    token(api, program(api))
    (old,) = published(api)
    caller = Principal(id="user-1", workspace="main", role=Role.ADMIN)
    assert cost(lambda: signing_keys.rotate(api.parts, caller, now=api.now[0])).statements == 3
    assert cost(lambda: signing_keys.end(api.parts, caller, old, now=api.now[0])).statements == 3


def test_of_rotations_at_once_one_key_signs(api: Api) -> None:
    ci = program(api)
    before = token(api, ci)
    caller = Principal(id="user-1", workspace="main", role=Role.ADMIN)
    start = threading.Barrier(4)

    def rotate() -> None:
        start.wait()
        signing_keys.rotate(api.parts, caller, now=api.now[0])

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = listed(api)
    assert (len(found), [key["active"] for key in found].count(True)) == (5, True)
    assert takes(api, before) == takes(api, token(api, ci)) == 200


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_kill_in_a_rotation_leaves_one_key_that_signs(tmp_path: Path, migrated: Path, when: str) -> None:
    (tmp_path / "tidemill.db").write_bytes(migrated.read_bytes())
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-c", KILLED, str(tmp_path), when]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    client_id, secret, access = (process.stdout.readline().strip() for _ in range(3))
    assert process.stdout.readline().strip() == when
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    (tmp_path / "arrivals").rmdir()
    again = opened(tmp_path, load_key_ring(tmp_path / "keyring.json", None))
    keys = listed(again)
    assert [key["active"] for key in keys].count(True) == 1
    assert len(keys) == (1 if when == "inside" else 2)
    ci = {"client_id": client_id, "client_secret": secret}
    assert takes(again, access) == takes(again, token(again, ci)) == 200
    assert len(published(again)) == len(keys)
    again.close()


KILLED = """
import sys, time
from pathlib import Path
from tests.api.asking import opened
from tests.api.test_signing_keys import program, rotated, token
from tidemill.store import signing_keys
api = opened(Path(sys.argv[1]))
(Path(sys.argv[1]) / "keyring.json").write_text(api.parts.keyring.text())
ci = program(api)
print(ci["client_id"], ci["client_secret"], token(api, ci), sep="\\n", flush=True)
real = signing_keys.replace
def slow(connection, new, *, ends_at):
    real(connection, new, ends_at=ends_at)
    print("inside", flush=True)
    time.sleep(60)  # to be killed in this unit, before its commit
if sys.argv[2] == "inside":
    signing_keys.replace = slow
rotated(api)
print("after", flush=True)
time.sleep(60)
"""
