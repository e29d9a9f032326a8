"""Official clients, unmodified from their registries, take jobs through all of their life on one real server.

All of them start at once against the same server and the same image; each prints what it saw, and the tests judge that.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.clients import install
from tests.e2e.drive import Server

# the first test of a fresh checkout installs all clients
pytestmark = pytest.mark.timeout(900)

# Fails unless the job's own variable and that of the execution are what the client set last.
SCRIPT: Final = """
case "$(cat "$TIDEMILL_TASK_FILE")" in
*slow*) sleep 1 ;;
*'"n"'*) [ "$MARK $GREETING" = "second Bonjour" ] ;;
*) exit 9 ;;
esac
"""
LIFECYCLE: Final = str(install.HERE / "python" / "lifecycle.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client in one version.

    ``command`` makes the words before PREFIX IMAGE, ``after`` come behind them. ``paged`` says whether it knows pages
    of jobs and tasks (Blaxel-Version 2026-04-28 on). ``errors`` is how it calls what went wrong and says it.
    """

    command: Callable[[], list[str]]
    after: tuple[str, ...] = ()
    paged: bool
    errors: Mapping[str, tuple[str, str]]


# TypeScript SDKs throw the body of the answer itself
OBJECTS: Final = {
    "get": ("Object", '"code":404'),
    "run": ("Object", '"code":404'),
    "execution": ("Object", '"code":404'),
    "duplicate": ("Object", '"code":409'),
    "invalid": ("Object", "metadata.name"),
}
CLIENTS: Final[Mapping[str, Client]] = {
    "python": Client(
        command=lambda: [sys.executable, "-W", "ignore", LIFECYCLE],
        after=("lists_paged",),
        paged=True,
        errors={
            "get": ("UnexpectedStatus", "404"),
            "run": ("UnexpectedStatus", "404"),
            "execution": ("Exception", "'missing-execution' not found"),
            "duplicate": ("ConflictError", "409"),
            "invalid": ("UnexpectedStatus", "400"),
        },
    ),
    "python-0.2.39": Client(
        command=lambda: [str(install.python("python-0.2.39")), "-W", "ignore", LIFECYCLE],
        after=("lists_bare",),
        paged=False,
        errors={
            "get": ("UnexpectedStatus", "404"),
            "run": ("UnexpectedStatus", "404"),
            "execution": ("Exception", "'missing-execution' not found"),
            "duplicate": ("UnexpectedStatus", "409"),
            "invalid": ("UnexpectedStatus", "metadata.name"),
        },
    ),
    "typescript": Client(
        command=lambda: install.typescript("typescript"), after=("lists_paged",), paged=True, errors=OBJECTS
    ),
    "typescript-0.2.89": Client(
        command=lambda: install.typescript("typescript-0.2.89"), after=("lists_bare",), paged=False, errors=OBJECTS
    ),
    "go": Client(
        command=install.go,
        paged=True,
        errors={
            "get": ("Error", "404"),
            "run": ("Error", "404"),
            "execution": ("Error", "404"),
            "duplicate": ("Error", "409"),
            "invalid": ("Error", "metadata.name"),
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client printed: ``said`` as in lifecycle.py, ``prefix`` is what all its jobs begin with."""

    client: Client
    prefix: str
    image: str
    said: dict[str, Any]


@pytest.fixture(scope="module")
def image(server: Server, job_folder: Callable[..., Path]) -> str:
    """The image that all jobs of the clients use: deployed once, by our own command line."""
    server.cli("deploy", str(job_folder("origin", SCRIPT, memory=64)))
    with server.http() as http:
        return str(http.get("/jobs/origin").json()["spec"]["runtime"]["image"])


@pytest.fixture(scope="module")
def commands() -> dict[str, list[str] | install.NotHere]:
    """What runs each client, or why it cannot be had on this machine."""
    found: dict[str, list[str] | install.NotHere] = {}
    for name, client in CLIENTS.items():
        try:
            found[name] = client.command()
        except install.NotHere as missing:
            found[name] = missing
    return found


@pytest.fixture(scope="module")
def started(
    server: Server,
    image: str,
    commands: dict[str, list[str] | install.NotHere],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Every client at work, with no setting but the address, the key and the workspace."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, words in commands.items():
            if isinstance(words, install.NotHere):
                continue
            home = tmp_path_factory.mktemp(name)
            running[name] = subprocess.Popen(
                [*words, prefix(name), image, *CLIENTS[name].after],
                cwd=home,
                env=server.environment | server.credentials | {"HOME": str(home), "DO_NOT_TRACK": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def prefix(name: str) -> str:
    return name.replace(".", "-")


@pytest.fixture(scope="module", params=CLIENTS)
def seen(
    request: pytest.FixtureRequest,
    commands: dict[str, list[str] | install.NotHere],
    started: dict[str, subprocess.Popen[str]],
    image: str,
) -> Seen:
    name: str = request.param
    if isinstance(missing := commands[name], install.NotHere):
        pytest.skip(str(missing))
    out, err = started[name].communicate(timeout=100)
    assert started[name].returncode == 0, f"{name} ended with {started[name].returncode}:\n{out[-500:]}\n{err[-3000:]}"
    return Seen(CLIENTS[name], prefix(name), image, json.loads(out.splitlines()[-1]))


def test_it_creates_jobs_on_an_image_that_was_deployed_here(seen: Seen) -> None:
    assert seen.said["created"] == [f"{seen.prefix}-{number}" for number in range(5)]
    assert seen.said["images"] == [seen.image]


def test_it_updates_a_job_and_sees_the_effect(seen: Seen) -> None:
    assert seen.said["updated"] == [[60, "first"], [30, "second"]]
    assert seen.said["timeout"] == 30


def test_it_lists_every_job_over_pages_of_two(seen: Seen) -> None:
    listed = seen.said["jobs"]
    assert {"origin", *seen.said["created"]} <= set(listed)
    assert len(set(listed)) == len(listed)
    # the job of the image and five of its own at least; other clients make theirs at the same time
    assert seen.said["job_pages"] >= 3 if seen.client.paged else seen.said["job_pages"] == 1


def test_it_runs_an_execution_and_waits_until_it_has_succeeded(seen: Seen) -> None:
    # succeeded: the script of the job has seen the arguments, the job's new variable and that of the execution
    assert (seen.said["waited"], seen.said["status"]) == ("succeeded", "succeeded")
    assert seen.said["stats"] == {"total": 3, "running": 0, "success": 3, "failure": 0, "retried": 0, "cancelled": 0}
    assert seen.said["round_trip"] == seen.said["ran"]


def test_it_lists_executions_over_pages_the_newest_first(seen: Seen) -> None:
    said = seen.said
    assert said["executions"] == [said["third"], said["cancelled"], said["ran"]]
    assert said["third"] == f"{seen.prefix}-third"
    assert said["execution_pages"] == 2


def test_it_lists_tasks_over_pages_where_it_knows_them(seen: Seen) -> None:
    assert seen.said["tasks"] == (["task-0", "task-1", "task-2"] if seen.client.paged else None)


def test_it_cancels_a_running_execution_and_waits_until_that_has_ended(seen: Seen) -> None:
    assert seen.said["cancelled_status"] == "cancelled"
    assert 0 < seen.said["never_ran"] < 20


@pytest.mark.parametrize("asked", ["get", "run", "execution", "duplicate", "invalid"])
def test_its_own_errors_say_what_was_wrong(seen: Seen, asked: str) -> None:
    kind, text = seen.said["errors"][asked]
    expected_kind, expected_text = seen.client.errors[asked]
    assert kind == expected_kind
    assert expected_text in text


def test_it_deletes_jobs(seen: Seen) -> None:
    assert seen.said["deleted"] == seen.said["created"]
    assert seen.said["gone"][0] == seen.client.errors["get"][0]
    assert seen.client.errors["get"][1] in seen.said["gone"][1]
