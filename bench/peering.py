"""Other programs on the same job as a server of ours, in turn: each with two workers, in an environment of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench.ground import BenchError
from bench.results import Round
from tests.e2e.drive import ROOT, until

CACHE: Final = ROOT / ".bench"
OURS: Final = "Tidemill"
_FOLDER: Final = Path(__file__).with_name("peers")
_LONGEST_S: Final = 3_600
_SYNCED_EACH_SECOND: Final = "Redis syncs its log of commands once a second"


class Runs(Protocol):
    """What is measured of a server of ours: an execution of so many tasks, in seconds."""

    def run(self, tasks: int) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """``module`` is its file in bench/peers; ``package`` what is installed for it, "" where it is a ``program``.

    ``says``: how it is run, and what becomes of tasks when something dies, as its documentation has it.
    """

    name: str
    module: str
    package: str = ""
    program: str = ""
    redis: bool = False
    says: str


PEERS: Final = (
    Peer(
        name="huey",
        module="with_huey",
        package="huey==3.5.4",
        says="SQLite, two processes; tasks and results are synced; what ran on a worker that died is lost",
    ),
    Peer(
        name="Celery",
        module="with_celery",
        package="celery[redis]==5.7.0",
        redis=True,
        says=f"Redis, a pool of two processes; {_SYNCED_EACH_SECOND}; what ran on a worker that died is lost",
    ),
    Peer(
        name="dramatiq",
        module="with_dramatiq",
        package="dramatiq[redis]==2.2.1",
        redis=True,
        says=f"Redis, two processes of one thread; {_SYNCED_EACH_SECOND}; what ran on a worker that died runs again",
    ),
    Peer(
        name="RQ",
        module="with_rq",
        package="rq==3.0.0",
        redis=True,
        says=f"Redis, a pool of two workers that fork for each task; {_SYNCED_EACH_SECOND}; what ran on a worker that "
        "died counts as failed",
    ),
    Peer(
        name="Ray",
        module="with_ray",
        package="ray==2.60.0",
        says="a remote function, two CPUs; tasks and results are in memory, and gone with the program that asked",
    ),
    Peer(
        name="GNU parallel",
        module="with_parallel",
        program="parallel",
        says="two jobs at once, with a log of jobs; what each prints is collected, results are exit codes",
    ),
    Peer(
        name="xargs",
        module="with_xargs",
        program="xargs",
        says="two commands at once; one pipe for what all of them print, and nothing is kept",
    ),
)


def rounds(ground: Runs, *, tasks: int, count: int) -> tuple[list[Round], dict[str, str]]:
    """Tasks a second of each that could be installed and of ours; and words on each, or why it is not there.

    One that fails in a round is left out of all.
    """
    words = {
        OURS: "durable, each task confined, its output and result kept; what ran on a machine that died runs again"
    }
    there: list[Peer] = []
    for peer in PEERS:
        why = missing(peer)
        words[peer.name] = f"not measured: {why}" if why else f"{version(peer)}; {peer.says}"
        there += [] if why else [peer]
    found: list[Round] = []
    for _ in range(count):
        one: Round = {OURS: tasks / ground.run(tasks)}
        for peer in list(there):
            try:
                one[peer.name] = tasks / seconds(peer, tasks)
            except BenchError as error:
                # the others are measured all the same; what it said is for whoever runs this
                print(error, file=sys.stderr)
                words[peer.name] = f"not measured: it failed in round {len(found) + 1} of {count}; {words[peer.name]}"
                there.remove(peer)
        found.append(one)
    return [{name: rate for name, rate in one.items() if _is_measured(name, there)} for one in found], words


def _is_measured(name: str, there: Sequence[Peer]) -> bool:
    """In every round."""
    return name == OURS or name in {peer.name for peer in there}


def missing(peer: Peer) -> str:
    """Install it if need be; "" when it is there, else why not."""
    if peer.redis and shutil.which("redis-server") is None:
        return "there is no redis-server (scripts/peers.sh)"
    if peer.program:
        return "" if shutil.which(peer.program) else f"there is no {peer.program} (scripts/peers.sh)"
    folder = CACHE / peer.module
    mark = folder / "installed"
    if mark.exists() and mark.read_text() == peer.package:
        return ""
    uv = str(Path(sys.executable).with_name("uv"))
    shutil.rmtree(folder, ignore_errors=True)
    for words in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), peer.package],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"{peer.package} could not be installed: {done.stderr.strip().splitlines()[-1:]}"
    mark.write_text(peer.package)
    return ""


def version(peer: Peer) -> str:
    """What was measured."""
    if peer.package:
        return peer.package.replace("[redis]", "").replace("==", " ")
    done = subprocess.run([peer.program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def seconds(peer: Peer, tasks: int) -> float:
    """How long it takes for so many, on a fresh folder. Raises BenchError with what it said when it fails."""
    python = str(CACHE / peer.module / "bin" / "python") if peer.package else sys.executable
    with tempfile.TemporaryDirectory(prefix="peer-") as name, _redis(Path(name), wanted=peer.redis) as url:
        environment = _environment(url)
        words: Sequence[str] = (python, str(_FOLDER / "drive.py"), peer.module, str(tasks))
        complaints = Path(name, "complaints.log")
        with complaints.open("wb") as log:
            process = subprocess.Popen(
                words, cwd=name, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        try:
            said, _ = process.communicate(timeout=_LONGEST_S)
        finally:
            _end_group(process.pid)
        if process.returncode != 0:
            logs = (complaints, Path(name, "workers.log"))
            told = "\n".join(log.read_text()[-2000:] for log in logs if log.exists())
            raise BenchError(f"{peer.name} ended with {process.returncode}:\n{told}")
    found: float = json.loads(said.splitlines()[-1])["seconds"]
    return found


def _environment(redis_url: str) -> Mapping[str, str]:
    # uses of a benchmark are nobody's statistics
    own = {"PEER_REDIS": redis_url, "PYTHONPATH": str(_FOLDER), "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **own}  # noqa: TID251 - what its interpreter needs is ours to hand on, not to read


def _end_group(pid: int) -> None:
    """What a peer has left behind, if anything."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def _redis(folder: Path, *, wanted: bool) -> Iterator[str]:
    """The URL of a Redis of its own without a database's number, which keeps a log as its documentation advises."""
    if not wanted:
        yield ""
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
