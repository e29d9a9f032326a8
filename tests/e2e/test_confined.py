"""Tasks of a real server try to get out, and a server that cannot confine them as it was told to does not start."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.drive import TIDEMILL, Server, until
from tests.node.prison import why_not_at
from tidemill.node.isolation.level import Level

# each line is a way out; what a task gets of it is what it prints
TRIALS = """
try() {{ sh -c "$2" > out 2>&1 && echo "got out: $1"; }}
cd "$TIDEMILL_WORK_DIR"
export LAUNCHER=$PPID
try data 'ls {data}'
try keyring 'cat {data}/keyring.json'
try admin 'cat {data}/admin.env'
try database 'cat {data}/tidemill.db'
try environment 'cat /proc/{server}/environ'
try signal 'kill -0 {server}'
try node 'kill -0 {node}'
try launcher 'kill -0 $LAUNCHER'
try namespace 'unshare --user true'
try shadow 'cat /etc/shadow'
(set -C; : > /tmp/tidemill-left)
grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status | tr -d '\\t'
echo "user $(id -u)"
echo '"done"' > "$TIDEMILL_RESULT_FILE"
"""


def test_a_task_of_a_real_server_finds_no_way_out(server: Server, job_folder: Callable[..., Path]) -> None:
    assert server.process is not None
    until((server.data / "node.json").exists)
    trials = TRIALS.format(data=server.data, server=server.process.pid, node=server.node_pid)
    server.cli("deploy", str(job_folder("confined", trials)))
    server.cli("run", "job", "confined", "--data", '{"tasks": [{}, {}]}', "--id", "confined-1", "--wait")
    said = server.cli("logs", "job", "confined", "confined-1")
    assert "got out" not in said
    # refused, or written where it has ended with the task
    assert not Path("/tmp/tidemill-left").exists()
    assert said.count("NoNewPrivs:1") == said.count("Seccomp:2") == said.count("CapEff:0000000000000000") == 2
    if os.geteuid() == 0:
        assert "user 0" not in said


def test_doctor_says_at_which_level_and_what_protects(server: Server) -> None:
    said = {each["name"]: each for each in json.loads(server.cli("doctor", "--json"))}
    # the strongest that this machine has; bubblewrap is a package that may be missing
    level = next(level for level in Level if level is Level.PROCESS or not why_not_at(level))
    assert said["isolation"]["says"] == f"tasks run at level {level}"
    assert said["isolation: seccomp"]["ok"]
    assert said["isolation: own_uid"]["ok"] == (os.geteuid() == 0)
    assert not any(each["remedy"] for each in said.values() if each["ok"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--isolation", "sandbox"], "isolation is sandbox, which this machine does not have"),
        (["--isolation", "process"], "minimum_isolation is container, but tasks would run at process"),
    ],
)
def test_a_server_that_cannot_confine_tasks_as_it_should_does_not_start(
    tmp_path: Path, words: list[str], says: str
) -> None:
    server = Server(tmp_path / "data", {"TIDEMILL_MINIMUM_ISOLATION": "container"} if "process" in words else {})
    done = subprocess.run(
        [str(TIDEMILL), "server", "--port", "0", "--data-dir", str(server.data), *words],
        # in which there is no bubblewrap
        env={**server.environment, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert not server.data.exists()
