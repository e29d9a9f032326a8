"""The key ring rotates under a server that serves: nothing is lost, and nothing needs the old key in the end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.api.asking import MEMBER, STRANGER, Api, opened
from tests.api.test_access import assert_problem
from tests.api.test_identity import bearer
from tests.api.test_tokens import program, token
from tidemill.model.errors import Conflict
from tidemill.model.principal import Principal, Role
from tidemill.secrets import KeyRing
from tidemill.service import key_check, key_rotation
from tidemill.service.parts import Parts
from tidemill.store import envelopes

ROTATE = "/v0/keys/rotate"
SECRET = {"name": "TOKEN", "value": "s3cret", "secret": True}


@pytest.fixture
def home(api: Api, tmp_path: Path) -> Api:
    """Main is the workspace that the server began with; its key ring is in a file."""
    serve(api, tmp_path / "keyring.json")
    return api


def serve(api: Api, path: Path | None) -> None:
    if path is not None:
        path.write_text(api.parts.keyring.text())
    key_check.keep(api.parts.database, api.parts.keyring)
    api.parts = replace(api.parts, home="main", key_file=path)
    api.context = replace(api.context, parts=api.parts)


def filled(api: Api, executions: int = 3) -> None:
    api.deployed(envs=[SECRET, {"name": "PLAIN", "value": "v1.plain.text"}])
    for number in range(executions):
        api.post("/v0/jobs/sweep/executions", {"executionId": f"run-{number:05}", "env": {"K": f"value-{number}"}})


def secrets_of(api: Api, executions: int = 3) -> list[str]:
    """What the envelopes hold, opened with what the file of the ring says now."""
    path = api.parts.key_file
    assert path is not None
    ring = KeyRing.parse(path.read_text())
    found = []
    for page in key_rotation_pages(api.parts):
        found += [ring.open(held.sealed, held.about) for holder in page for held in holder.envelopes]
    assert len(found) == executions + 2
    return found


def key_rotation_pages(parts: Parts) -> Iterator[list[envelopes.Holder]]:
    for place in envelopes.places():
        yield parts.database.read(partial(envelopes.read_page, place=place, after=None))


def counts(api: Api) -> dict[str, int]:
    return {key["id"]: key["envelopes"] for key in api.get("/v0/keys").json()["keys"]}


def test_the_list_says_which_key_seals_and_what_needs_it(home: Api) -> None:
    filled(home)
    ring = home.parts.keyring
    answer = home.get("/v0/keys").json()
    assert answer == {
        "keys": [{"id": ring.active, "active": True, "held": True, "envelopes": 5}],
        "unopened": [],
        "done": True,
        "made": False,
        "signing": [],
    }
    assert not any(part in str(answer) for part in (ring.text(), ring.pepper.hex()))


def test_after_it_nothing_needs_the_old_key_and_all_of_it_opens(home: Api) -> None:
    filled(home)
    old = home.parts.keyring.active
    before = secrets_of(home)
    answer = home.post(ROTATE).json()
    new = home.parts.keyring.active
    assert new != old
    assert (answer["done"], answer["made"]) == (True, True)
    assert counts(home) == {new: 5, old: 0}
    assert secrets_of(home) == before
    path = home.parts.key_file
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyRing.parse(path.read_text()) == home.parts.keyring
    shown = home.get("/v0/jobs/sweep?show_secrets=true").json()["spec"]["runtime"]["envs"]
    assert shown == [SECRET, {"name": "PLAIN", "value": "v1.plain.text", "secret": False}]
    assert home.post("/v0/jobs/sweep/executions", {"env": {"K": "later"}}).status_code == 200
    assert counts(home) == {new: 6, old: 0}


def test_an_old_key_is_dropped_only_when_nothing_needs_it(home: Api) -> None:
    filled(home)
    old = home.parts.keyring.active
    ring = home.parts.keyring.rotated(home.now[0].timestamp())
    assert home.parts.key_file is not None
    home.parts.key_file.write_text(ring.text())
    home.parts.keyring.adopt(ring)
    assert old in assert_problem(home.post(f"{ROTATE}?drop=true"), 409, "CONFLICT")
    # goes on with what was begun, and makes no further key
    assert (home.post(ROTATE).json()["made"], home.parts.keyring.active) == (False, ring.active)
    assert "drop in 900 s" in assert_problem(home.post(f"{ROTATE}?drop=true"), 409, "CONFLICT")
    home.later(900)
    dropped = home.post(f"{ROTATE}?drop=true").json()
    assert [key["id"] for key in dropped["keys"]] == [ring.active]
    assert set(KeyRing.parse(home.parts.key_file.read_text()).keys) == {ring.active}
    secrets_of(home)


def test_keys_that_sign_tokens_are_sealed_again_too(home: Api) -> None:
    ci = program(home)
    assert token(home, ci)
    old = home.parts.keyring.active
    home.post(ROTATE)
    assert counts(home) == {home.parts.keyring.active: 2, old: 0}  # the key that signs, and the check
    home.later(900)
    home.post(f"{ROTATE}?drop=true")
    assert home.parts.key_file is not None
    restarted = KeyRing.parse(home.parts.key_file.read_text())
    assert set(restarted.keys) == {home.parts.keyring.active}
    home.parts = replace(home.parts, keyring=restarted)
    home.context = replace(home.context, parts=home.parts)
    assert home.get("/v0/jobs", headers=bearer(token(home, ci))).status_code == 200


def test_an_envelope_of_a_lost_key_is_told_and_holds_nothing_up(home: Api) -> None:
    filled(home)
    lost = KeyRing.generate()
    spoil(home, lost.seal("gone", "execution/1"))
    answer = home.post(ROTATE).json()
    assert answer["done"]
    assert {"id": lost.active, "active": False, "held": False, "envelopes": 1} in answer["keys"]
    assert answer["unopened"] == [{"table": "execution", "id": str(home.key("run-00000")), "key": lost.active}]


def spoil(api: Api, sealed: str, table: str = "execution SET env_sealed", where: str = "id = 'run-00000'") -> None:
    """Put something else where an envelope was."""
    statement = f"UPDATE {table} = ? WHERE {where}"
    done = api.parts.database.write(lambda connection: connection.exec_driver_sql(statement, (sealed,)).rowcount)
    assert done == 1


class TestWhatDoesNotOpen:
    """It was changed, or is no envelope at all: the others are sealed again, it keeps its key, and it is told of."""

    @pytest.fixture
    def spoiled(self, home: Api) -> Api:
        """One of three executions does not open, with the key that seals now."""
        filled(home)
        spoil(home, home.parts.keyring.seal("x", "execution/elsewhere"))
        return home

    def test_the_others_are_sealed_again_and_it_is_told_by_table_and_id(self, spoiled: Api) -> None:
        old = spoiled.parts.keyring.active
        assert spoiled.get("/v0/keys").json()["unopened"] == []  # nothing of an older key
        answer = spoiled.post(ROTATE).json()
        new = spoiled.parts.keyring.active
        assert (answer["done"], answer["made"]) == (True, True)
        told = [{"table": "execution", "id": str(spoiled.key("run-00000")), "key": old}]
        assert answer["unopened"] == spoiled.get("/v0/keys").json()["unopened"] == told
        assert counts(spoiled) == {new: 4, old: 1}

    def test_the_next_rotation_makes_a_key_all_the_same(self, spoiled: Api) -> None:
        keys = [spoiled.parts.keyring.active]
        for _ in range(2):
            answer = spoiled.post(ROTATE).json()
            keys.append(spoiled.parts.keyring.active)
            assert (answer["done"], answer["made"]) == (True, True)
        assert counts(spoiled) == {keys[2]: 4, keys[1]: 0, keys[0]: 1}

    def test_its_key_is_kept_and_all_others_go(self, spoiled: Api) -> None:
        first = spoiled.parts.keyring.active
        for _ in range(2):
            spoiled.post(ROTATE)
        spoiled.later(900)
        answer = spoiled.post(f"{ROTATE}?drop=true")
        assert answer.status_code == 200, answer.text
        kept = {first, spoiled.parts.keyring.active}
        assert {key["id"] for key in answer.json()["keys"]} == kept
        assert spoiled.parts.key_file is not None
        assert set(KeyRing.parse(spoiled.parts.key_file.read_text()).keys) == kept
        # once it is mended, or gone with its execution, so is the key
        spoil(spoiled, "")
        assert spoiled.post(f"{ROTATE}?drop=true").status_code == 200
        assert set(KeyRing.parse(spoiled.parts.key_file.read_text()).keys) == {spoiled.parts.keyring.active}

    @pytest.mark.parametrize("text", ["nonsense", "v1", "v1..", "v1.KEY.", "v1.KEY.!", "v1.KEY.AAAA", "\x00", "{}"])
    def test_whatever_stands_there(self, home: Api, text: str) -> None:
        filled(home)
        old = home.parts.keyring.active
        spoil(home, text.replace("KEY", old))
        answer = home.post(ROTATE).json()
        assert (answer["done"], [each["table"] for each in answer["unopened"]]) == (True, ["execution"])
        assert counts(home)[home.parts.keyring.active] == 4

    def test_a_variable_is_named_and_its_siblings_are_sealed_again(self, home: Api) -> None:
        home.deployed(envs=[SECRET, {"name": "OTHER", "value": "other", "secret": True}])
        old = home.parts.keyring.active
        (holder,) = next(key_rotation_pages(home.parts))
        bad = next(held for held in holder.envelopes if held.name == "OTHER")
        changed = [(holder, {bad.sealed: home.parts.keyring.seal("x", "elsewhere")})]
        home.parts.database.write(lambda connection: envelopes.replace_all(connection, changed))
        (told,) = home.post(ROTATE).json()["unopened"]
        assert told == {"table": "revision", "id": "/".join([*map(str, holder.key), "OTHER"]), "key": old}
        assert counts(home) == {home.parts.keyring.active: 2, old: 1}

    @pytest.mark.parametrize("text", ["{", "[]", '{"runtime": {}}', '{"runtime": {"envs": [1]}}'])
    def test_a_revision_that_cannot_be_read(self, home: Api, text: str) -> None:
        filled(home)
        spoil(home, text, "revision SET spec", "1")
        answer = home.post(ROTATE).json()
        assert (answer["done"], [(each["table"], each["key"]) for each in answer["unopened"]]) == (
            *(True, [("revision", "")]),
        )

    def test_no_more_are_named_than_fit_an_answer(self, home: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(key_rotation, "SHOWN", 2)
        filled(home)
        for number in range(3):
            spoil(home, "nonsense", where=f"id = 'run-0000{number}'")
        assert len(home.post(ROTATE).json()["unopened"]) == 2

    def test_the_doctor_says_which(self, spoiled: Api) -> None:
        folder = spoiled.parts.database.path.parent
        code, said = doctor(folder)
        key = spoiled.parts.keyring.active
        first = f"execution {spoiled.key('run-00000')} does not open with key {key}"
        assert (code, said.splitlines()) == (1, [first, "1 of 5 sealed values do not open"])
        spoil(spoiled, "")
        assert doctor(folder) == (0, "every sealed value opens: 4\n")
        (folder / "keyring.json").unlink()
        assert doctor(folder)[0] == 1


def doctor(folder: Path) -> tuple[int, str]:
    words = [sys.executable, "-m", "tidemill.main", "doctor", "--keys", "--data-dir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_ring_from_a_variable_is_not_rotated_but_what_older_keys_sealed_is(home: Api) -> None:
    filled(home)
    serve(home, None)
    for path in (ROTATE, f"{ROTATE}?drop=true"):
        assert "TIDEMILL_KEY_RING" in assert_problem(home.post(path), 409, "CONFLICT")
    assert len(home.parts.keyring.keys) == 1
    home.parts.keyring.adopt(home.parts.keyring.rotated(0))  # as after a start with another variable
    answer = home.post(ROTATE).json()
    assert (answer["done"], answer["made"]) == (True, False)
    assert counts(home)[home.parts.keyring.active] == 5


def test_only_admins_of_the_first_workspace_see_or_rotate_them(home: Api) -> None:
    for who in (MEMBER, STRANGER):
        assert_problem(home.get("/v0/keys", headers=bearer(who)), 403, "FORBIDDEN")
        assert_problem(home.post(ROTATE, headers=bearer(who)), 403, "FORBIDDEN")
    assert len(home.parts.keyring.keys) == 1
    home.post(ROTATE)
    assert home.get("/v0/audit?action=keys.rotate").json()["data"][0]["outcome"] == "success"


def test_two_steps_at_once_make_one_key(home: Api) -> None:
    with home.parts.rotating:
        assert_problem(home.post(ROTATE), 409, "CONFLICT")
    assert home.post(ROTATE).status_code == 200
    assert len(home.parts.keyring.keys) == 2


def test_of_rotations_at_the_same_moment_each_ends_or_is_refused_and_all_of_it_opens(home: Api) -> None:
    filled(home)
    before = secrets_of(home)
    caller = Principal(id="user-1", workspace="main", role=Role.ADMIN)
    start, ended = threading.Barrier(4), list[str]()

    def rotate() -> None:
        start.wait()
        try:
            ended.append("made" if key_rotation.rotate(home.parts, caller, now=home.now[0]).made else "went on")
        except Conflict:
            ended.append("refused")

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4
    assert ended.count("went on") == 0
    # the file, which a restart reads, has the keys of all of them, and one is active
    path = home.parts.key_file
    assert path is not None
    ring = KeyRing.parse(path.read_text())
    assert len(ring.keys) == 1 + ended.count("made") >= 2
    assert ring.active == home.parts.keyring.active
    assert counts(home)[ring.active] == 5
    assert secrets_of(home) == before


def test_requests_go_on_meanwhile(home: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelopes, "PAGE", 2)  # more than one page, without thousands of rows
    filled(home, 9)
    made, ended = list[str](), threading.Event()

    def rotate() -> None:
        caller = Principal(id="user-1", workspace="main", role=Role.ADMIN)
        try:
            for _ in range(3):
                key_rotation.rotate(home.parts, caller, now=home.now[0])
        finally:
            ended.set()

    thread = threading.Thread(target=rotate)
    thread.start()
    while not ended.is_set() or not made:
        answer = home.post("/v0/jobs/sweep/executions", {"env": {"K": "meanwhile"}})
        assert answer.status_code == 200
        made.append(answer.json()["executionId"])
        shown = home.get("/v0/jobs/sweep?show_secrets=true").json()["spec"]["runtime"]["envs"]
        assert shown[0] == SECRET
    thread.join()
    monkeypatch.undo()
    assert home.post(ROTATE).json()["done"]
    assert home.get("/v0/keys").json()["done"]
    assert secrets_of(home, 9 + len(made)).count('{"K": "meanwhile"}') == len(made)


def test_a_row_that_changed_meanwhile_is_left_to_its_new_owner(home: Api) -> None:
    filled(home)
    pages = list(key_rotation_pages(home.parts))
    home.put("/v0/jobs/sweep", {"spec": {"runtime": {"memory": 64}}})
    before = contents(home)
    new = [(holder, {held.sealed: "v1.x.y" for held in holder.envelopes}) for page in pages for holder in page]
    stale = [(replace(holder, seen=holder.seen.replace("v1.", "v1.0", 1)), sealed) for holder, sealed in new]
    stale = [(holder, {**sealed, holder.seen: "v1.x.y"}) for holder, sealed in stale]
    home.parts.database.write(lambda connection: envelopes.replace_all(connection, stale))
    assert contents(home) == before
    fresh = [(holder, {**sealed, holder.seen: "v1.x.y"}) for holder, sealed in new]
    home.parts.database.write(lambda connection: envelopes.replace_all(connection, fresh))
    assert contents(home) != before


def contents(api: Api) -> list[object]:
    """All that is sealed, as it stands there."""
    query = (
        "SELECT spec FROM revision UNION ALL SELECT env_sealed FROM execution UNION ALL SELECT sealed FROM key_check"
    )
    return api.parts.database.read(lambda connection: list(connection.exec_driver_sql(query).scalars()))


def test_a_kill_in_the_middle_loses_nothing_and_the_next_step_goes_on(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "tidemill.db").write_bytes(migrated.read_bytes())
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
    assert writer.stdout is not None
    seen = [writer.stdout.readline().strip() for _ in range(6)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(10)
    writer.stdout.close()
    assert seen == ["page"] * 6
    (tmp_path / "arrivals").rmdir()
    ring = key_check.load(tmp_path / "tidemill.db", tmp_path / "keyring.json", None)
    again = opened(tmp_path, ring)
    serve(again, tmp_path / "keyring.json")
    held = counts(again)
    assert min(held.values()) > 0  # in the middle: both keys are needed
    answer = again.post(ROTATE).json()
    assert (answer["done"], answer["made"]) == (True, False)
    assert sorted(secrets_of(again, 20)).count('{"K": "value-7"}') == 1
    again.close()


KILLED = """
import sys, time
from pathlib import Path
from tests.api.asking import opened
from tests.api.test_keys import filled, serve
from tidemill.store import envelopes
api = opened(Path(sys.argv[1]))
serve(api, Path(sys.argv[1]) / "keyring.json")
filled(api, 20)
envelopes.PAGE = 2
real = envelopes.replace_all
def told(connection, changed):
    real(connection, changed)
    print("page", flush=True)
    if len(done) == 5:
        time.sleep(60)  # to be killed in this unit, before its commit
    done.append(1)
done = []
envelopes.replace_all = told
api.post("/v0/keys/rotate")
"""
