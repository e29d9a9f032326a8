"""A power cut: of what was written last, any part may be missing or garbage; what was acknowledged is not missing.

The server is stopped while clients submit, its files are copied, and the end of the copied write-ahead log is cut off
or garbled: anywhere behind what was in it when the last acknowledged commit returned.
"""

import os
import random
import shutil
import signal
import sqlite3
import struct
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from sqlalchemy import create_engine

from tests.e2e.drills.ground import ENDED, DrillError, Ground, check, ground
from tests.e2e.drive import Server, until
from tidemill.store import check as ledger

CLIENTS = 4
# of https://sqlite.org/fileformat2.html#walformat
_HEADER = 32
_FRAME_HEADER = 24


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of a write-ahead log is valid, in bytes; ``salt`` changes when it begins anew."""

    salt: bytes
    length: int


@dataclass(slots=True)
class Acknowledged:
    """What clients have been told, and where the log ended when the last of them was."""

    wal: Path
    ids: list[str] = field(default_factory=list)
    mark: Mark = Mark(b"", 0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, execution: str) -> None:
        with self.lock:
            self.mark = mark(self.wal)
            self.ids.append(execution)


def mark(wal: Path) -> Mark:
    """Where the valid frames of a log end: those that carry the salt of its header."""
    with wal.open("rb") as log:
        header = log.read(_HEADER)
        if len(header) < _HEADER:
            return Mark(b"", 0)
        (page_size,) = struct.unpack(">I", header[8:12])
        salt, end = header[16:24], _HEADER
        while len(frame := log.read(_FRAME_HEADER)) == _FRAME_HEADER and frame[8:16] == salt:
            end += _FRAME_HEADER + page_size
            log.seek(end)
    return Mark(salt, end)


def drill(folder: Path, *, freezes: int, cuts: int, acknowledged: int, chance: random.Random) -> str:
    """Stop the server ``freezes`` times, each after so many ``acknowledged`` executions, and try ``cuts`` ends of each.

    One of each is started as a server, and all that was acknowledged must run to its end. Raises DrillError.
    """
    lost_bytes = 0
    with ground(folder) as on:
        for number in range(freezes):
            told = _under_load(on, acknowledged)
            stopped = folder / f"stopped-{number}"
            try:
                _copy(on.server.data, stopped)
            finally:
                os.kill(_pid(on.server), signal.SIGCONT)
            for cut in range(cuts):
                copy = folder / "cut"
                shutil.copytree(stopped, copy, symlinks=True)
                lost_bytes += _spoil(copy / "tidemill.db-wal", told.mark, chance)
                _check_copy(copy, told.ids)
                if cut == 0:
                    _check_server(copy, told.ids)
                shutil.rmtree(copy)
    return f"{freezes * cuts} cuts, {lost_bytes} bytes lost or garbled; nothing acknowledged was missing"


def _under_load(on: Ground, acknowledged: int) -> Acknowledged:
    """Submit by several clients until so many executions were acknowledged; then the server is stopped as it stands."""
    told, enough = Acknowledged(on.server.data / "tidemill.db-wal"), threading.Event()
    clients = [threading.Thread(target=_submit, args=(on, told, enough)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    until(lambda: len(told.ids) >= acknowledged, seconds=120)
    with told.lock:
        # whoever is answered from now on is not counted
        os.kill(_pid(on.server), signal.SIGSTOP)
        enough.set()
        # they end by themselves when the server goes on
        return Acknowledged(told.wal, list(told.ids), told.mark)


def _submit(on: Ground, told: Acknowledged, enough: threading.Event) -> None:
    with on.server.http() as http:
        while not enough.is_set():
            answer = http.post("/jobs/drill/executions", json={"tasks": [{"n": 0}]})
            if answer.status_code == httpx2.codes.OK and not enough.is_set():
                told.add(str(answer.json()["executionId"]))


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def _copy(data: Path, target: Path) -> None:
    """What a disk has of a data directory; the node's part is that of another machine."""

    def of_processes(folder: str, names: Sequence[str]) -> list[str]:
        gone = {"node", "sandbox", "node.json", "node.sock", "tidemill.db-shm"}
        return [name for name in names if name in gone or Path(folder, name).is_socket()]

    shutil.copytree(data, target, ignore=of_processes, symlinks=True)


def _spoil(wal: Path, acknowledged: Mark, chance: random.Random) -> int:
    """Cut or garble the log behind what was acknowledged; how many bytes of it at most."""
    now = mark(wal)
    # a log that has begun anew since has its old content in the database
    safe = acknowledged.length if now.salt == acknowledged.salt else 0
    size = wal.stat().st_size
    if size <= safe:
        return 0
    at = chance.randrange(safe, min(size, max(now.length, safe) + 1))
    if chance.random() < 0.5:
        os.truncate(wal, at)
        return max(0, now.length - at)
    with wal.open("r+b") as log:
        for _ in range(chance.randrange(1, 20)):
            log.seek(chance.randrange(at, size))
            log.write(chance.randbytes(chance.randrange(1, 64)))
    os.truncate(wal, size)
    return max(0, now.length - at)


def _check_copy(copy: Path, ids: Sequence[str]) -> None:
    engine = create_engine(f"sqlite:///{copy / 'tidemill.db'}")
    with engine.connect() as connection:
        found = set(connection.exec_driver_sql("SELECT id FROM execution").scalars())
        broken = ledger.violations(connection)
    engine.dispose()
    with closing(sqlite3.connect(copy / "tidemill.db")) as own:
        (whole,) = own.execute("PRAGMA integrity_check").fetchone()
    if (missing := set(ids) - found) or broken or whole != "ok":
        raise DrillError(f"missing: {sorted(missing)[:5]}; ledger: {broken[:5]}; database: {whole}")


def _check_server(copy: Path, ids: Sequence[str]) -> None:
    server = Server(copy)
    server.start()
    try:
        on = Ground(server)
        for execution in ids:
            until(lambda execution=execution: on.status(execution) in ENDED, seconds=120)  # type: ignore[misc]
            if (status := on.status(execution)) != "succeeded":
                raise DrillError(f"execution {execution} is {status}")
    finally:
        server.stop()
    check(server)
