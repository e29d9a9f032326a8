"""kill -9 while somebody or something is made: it is there whole, with its row of the audit, or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from tests.api.asking import Api, opened
from tests.api.test_audit import whole
from tests.api.test_tokens import token
from tidemill.secrets import load_key_ring

# what is made, by which request, and the function of the store that is the last to write of it
MADE: Final = {
    "workspaces": ("/v0/workspaces", {"name": "fresh"}, "identity.set_role", "workspaces/fresh"),
    "service_accounts": ("/v0/service_accounts", {"name": "ci"}, "service_accounts.add", "service_accounts/"),
    "users": ("/v0/users", {"email": "ada@example.org"}, "identity.set_role", "users/"),
    "api_keys": ("/v0/profile/api_keys", {"name": "mine"}, "api_keys.add", "profile/api_keys/"),
}
TABLES: Final = ("workspace", "membership", "account", "service_account", "api_key", "audit")


@pytest.mark.parametrize("when", ["inside", "after"])
@pytest.mark.parametrize("what", sorted(MADE))
def test_it_is_made_with_its_row_or_not_at_all(tmp_path: Path, migrated: Path, what: str, when: str) -> None:
    (tmp_path / "tidemill.db").write_bytes(migrated.read_bytes())
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-c", KILLED, str(tmp_path), what, when]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    before = process.stdout.readline().strip()
    assert process.stdout.readline().strip() == when
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    (tmp_path / "arrivals").rmdir()
    again = opened(tmp_path, load_key_ring(tmp_path / "keyring.json", None))
    assert (rows(again) == before) is (when == "inside")
    assert whole(again) == []
    path, body, _, resource = MADE[what]
    told = again.parts.database.read(lambda connection: list(connection.scalars(text("SELECT resource FROM audit"))))
    assert [each.startswith(resource) for each in told] == ([] if when == "inside" else [True])
    answer = again.post(path, body)
    if when == "inside":
        # nothing of it is in the way
        assert answer.status_code == 200, answer.text
        if what == "service_accounts":
            assert token(again, {name: answer.json()[name] for name in ("client_id", "client_secret")})
    elif what in {"workspaces", "users"}:
        assert answer.status_code == 409
    again.close()


def rows(api: Api) -> str:
    """How many of each kind there are."""
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
    return str(api.parts.database.read(lambda connection: tuple(connection.execute(text(f"SELECT {counts}")).one())))


KILLED: Final = """
import importlib, sys, time
from pathlib import Path
from tests.api.asking import opened
from tests.api.test_identity_kill import MADE, rows
folder, what, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
api = opened(folder)
(folder / "keyring.json").write_text(api.parts.keyring.text())
path, body, last, _ = MADE[what]
module = importlib.import_module("tidemill.store." + last.split(".")[0])
real = getattr(module, last.split(".")[1])
def dies(*given, **named):
    real(*given, **named)
    print("inside", flush=True)
    time.sleep(60)  # to be killed in this unit, before its commit
if when == "inside":
    setattr(module, last.split(".")[1], dies)
print(rows(api), flush=True)
api.post(path, body).raise_for_status()
print("after", flush=True)
time.sleep(60)
"""
