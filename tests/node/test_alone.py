"""A command whose user nobody else is: with its tree all goes that is of that user, and nobody besides.

In a list of processes of its own: a launcher that killed more than it should would kill no more than that list.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.node.rig import Rig
from tidemill.node.launcher import LAUNCHER

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")

UID: Final = 2_000_000_000
# process 1 of the list, which no signal from within ends, and so neither do those that it waits for in vain
TRIAL: Final = """
import json, os, socket, subprocess, sys, time
launcher, *options = sys.argv[1:]
uid = int(os.environ["ALONE"])
beside = {who: subprocess.Popen(["sleep", "600"], user=who, group=who, extra_groups=[]) for who in (uid, uid + 1, 0)}
ours, theirs = socket.socketpair()
command = ["sh", "-c", "setsid sleep 600 & exec sleep 600"]
words = [launcher, str(theirs.fileno()), "--directory=/", *options, "--", *command]
launched = subprocess.Popen(words, pass_fds=[theirs.fileno()])
theirs.close()
ours.settimeout(20)
said = b""
while said.count(b"\\n") < 2:
    said += ours.recv(4096)
    if said.count(b"\\n") == 1:
        ours.send(b"K")
launched.wait(20)
end = time.monotonic() + 5
while beside[uid].poll() is None and f"--uid={uid}" in options and "--alone" in options and time.monotonic() < end:
    time.sleep(0.01)
print(json.dumps([said.decode().splitlines()[1].split()[:3], *(each.poll() for each in beside.values())]))
"""


def ends(*options: str) -> list[object]:
    """How the command ended that was killed, and then of others how they did: of its user, of another one, of root."""
    alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
    done = subprocess.run(
        [*alone, sys.executable, "-S", "-c", TRIAL, str(LAUNCHER), *options],
        env={**os.environ, "ALONE": str(UID)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[object] = json.loads(done.stdout)
    return found


KILLED: Final = ["ended", "signal", "9"]


@pytest.mark.parametrize("options", [[], ["--powerless", "--calls"], ["--network=none"]])
def test_all_of_its_user_goes_with_it_and_nobody_else(options: list[str]) -> None:
    assert ends(f"--uid={UID}", "--alone", *options) == [KILLED, -9, None, None]


def test_where_others_may_be_its_user_only_its_tree_goes() -> None:
    assert ends(f"--uid={UID}") == [KILLED, None, None, None]


@pytest.mark.parametrize("options", [["--alone"], ["--alone", "--uid=0"]])
def test_root_is_never_alone(options: list[str]) -> None:
    # the trial waits for nothing of root's
    assert ends(*options) == [KILLED, None, None, None]


def test_a_node_of_root_goes_before_its_tasks(rig: Rig) -> None:
    engine = rig.engine()
    engine.nodes()
    share = Path(f"/proc/{rig.node_pid}/autogroup")
    if not share.exists():
        pytest.skip("this kernel does not share processors by sessions")
    script = "cat /proc/self/autogroup | sed 's/.*nice //' > $TIDEMILL_RESULT_FILE"
    outcome = rig.run(engine, rig.lease(rig.shell(script)))
    assert share.read_text().split()[-1] == "-10"
    assert outcome.result == "0\n"
