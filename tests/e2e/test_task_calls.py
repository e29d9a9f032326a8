"""A deployed job whose tasks call the API through the official SDK: what they call is this server, and nothing else.

The SDK is the version that the service's job template pins: it reads no address, and reports failures to its makers
unless told not to.
"""

from pathlib import Path

import pytest

from tests.build.recorder import WATCH, reached
from tests.e2e.drive import Server

PROGRAM = (
    WATCH
    + """
if "BL_CLIENT_CREDENTIALS" in os.environ:
    del os.environ["BL_API_KEY"]  # the SDK takes the first that it finds
os.environ["DO_NOT_TRACK"] = "0"  # what the platform sets against the SDK's reports is not what keeps them back
import traceback
from blaxel.core.client.api.jobs.list_jobs import sync_detailed
from blaxel.core.client.client import client
from blaxel.core.client.models.job import Job
from blaxel.core.jobs import bl_job, bl_start_job

def ask_as_itself():
    own = bl_job("self").get_execution(os.environ["BL_EXECUTION_ID"])
    print("own:", own.status, len(own.tasks))
    sync_detailed(client=client)  # raises: a task does not list jobs

def ask(name):
    if name == "itself":
        return ask_as_itself()
    print("jobs:", [job.metadata.name for job in sync_detailed(client=client).parsed])
    # a run of another job, from within a task
    print("status:", bl_job("self").get_execution(os.environ["BL_EXECUTION_ID"]).status)
    try:
        bl_job("missing").run([{}])
    except Exception as error:
        print("missing:", str(error)[:40])
    print("name:", name)

bl_start_job.start(ask)
if "BL_CLIENT_CREDENTIALS" in os.environ:
    raise SystemExit(0)
Job.from_dict(17)  # fails inside the SDK, which is what it reports
"""
)


@pytest.mark.timeout(300)
def test_what_a_task_calls_through_the_sdk_is_this_server(server: Server, tmp_path: Path) -> None:
    start = ".venv/bin/python -W ignore main.py"
    (tmp_path / "blaxel.toml").write_text(
        f'type = "job"\nname = "self"\n[entrypoint]\nprod = "{start}"\n[runtime]\nmaxRetries = 0\n'
    )
    (tmp_path / "requirements.txt").write_text("blaxel==0.2.39\nmcp<2\n")
    (tmp_path / "main.py").write_text(PROGRAM)
    server.cli("deploy", str(tmp_path), timeout=240)
    key = f"BL_API_KEY={server.credentials['BL_API_KEY']}"

    server.cli("run", "job", "self", "--wait", "--id", "asks-as-itself", "-d", '[{"name": "itself"}]')
    log = server.cli("logs", "job", "self", "asks-as-itself")
    assert "own: running 1" in log, log
    assert "this needs the scope jobs:list" in log, log

    words = ["run", "job", "self", "--wait", "--id", "calls-home", "-d", '[{"name": "Ada"}]', "-e", key]
    server.cli(*words, code=1)
    log = server.cli("logs", "job", "self", "calls-home")

    for line in ("jobs: ['self']", "status: running", "missing: ", "name: Ada", "in from_dict"):
        assert line in log, log
    addresses = reached("\n".join(line[line.index("REACHES ") :] for line in log.splitlines() if "REACHES " in line))
    assert server.url.removeprefix("http://") in addresses
    # besides, on this machine as well, where the node hands out a task's arguments
    assert not [address for address in addresses if not address.startswith("127.0.0.1:")]
