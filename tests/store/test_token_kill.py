"""kill -9 in the middle of a refresh: one refresh token is good afterwards, never two and never none."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.model.errors import GrantRefused
from tidemill.model.principal import Role
from tidemill.secrets import load_key_ring
from tidemill.service import first_start, tokens
from tidemill.service.parts import Limits, Parts
from tidemill.service.tokens import Approval
from tidemill.store import identity
from tidemill.store import tokens as stored
from tidemill.store.database import Database
from tidemill.store.schema import sign_in
from tidemill.store.tokens import SignIn

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.secrets import load_key_ring
from tidemill.service import tokens
from tidemill.service.parts import Limits, Parts
from tidemill.store.database import Database

folder, refresh = Path(sys.argv[1]), sys.argv[2]
parts = Parts(
    database=Database(folder / "tidemill.db"), keyring=load_key_ring(folder / "keyring.json", None),
    blobs=Blobs(folder / "blobs"), logfiles=LogFiles(folder / "logs"), arrivals=folder, limits=Limits(),
)
while True:
    refresh = tokens.refresh(parts, refresh, "", now=datetime(2026, 11, 23, 12, 0, tzinfo=UTC)).refresh
    print(refresh, flush=True)
"""


def parts_of(folder: Path) -> Parts:
    return Parts(
        database=Database(folder / "tidemill.db"),
        keyring=load_key_ring(folder / "keyring.json", None),
        blobs=Blobs(folder / "blobs"),
        logfiles=LogFiles(folder / "logs"),
        arrivals=folder,
        limits=Limits(),
    )


def sign_ins(parts: Parts) -> list[SignIn]:
    rows = parts.database.read(lambda connection: connection.execute(sign_in.select()).all())
    return [SignIn(**row._asdict()) for row in rows]


def signed_in(parts: Parts) -> str:
    first_start.ensure_key(parts.database, parts.keyring, "main", "tm_key", now=NOW)
    account = parts.database.read(lambda connection: identity.find_account(connection, "admin@main"))
    assert account is not None
    yes = Approval(account=account.id, workspace="main", role=Role.ADMIN, client="cli", scope="")
    new, pair = tokens.prepared(parts, yes, now=NOW)
    parts.database.write(lambda connection: stored.add_sign_in(connection, new))
    return pair.refresh


def killed(folder: Path, refresh: str) -> list[str]:
    """The tokens that a process was answered, each for the one before it, until it was killed."""
    words = [sys.executable, "-c", KILLED, str(folder), refresh]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answered = [process.stdout.readline().strip() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait(10)
    process.stdout.close()
    return answered


def test_kill_9_in_the_middle_of_a_refresh_leaves_one_good_token(tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    last = signed_in(parts)
    for _ in range(5):
        parts.database.close()
        answered = killed(tmp_path, last)
        parts = parts_of(tmp_path)
        (held,) = sign_ins(parts)
        digests = [parts.keyring.refresh_token_digest(each.partition(".")[2]) for each in answered]
        assert held.refresh_digest not in digests[:-1]
        if held.refresh_digest != digests[-1]:
            # committed, and its answer lost: that one is the good one, and the one that was answered is used
            with pytest.raises(GrantRefused):
                tokens.refresh(parts, answered[-1], "", now=NOW)
            assert sign_ins(parts) == []
            last = signed_in(parts)
        else:
            last = tokens.refresh(parts, answered[-1], "", now=NOW).refresh
    parts.database.close()
