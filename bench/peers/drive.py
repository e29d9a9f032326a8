"""Runs one peer in its own environment (`python drive.py with_NAME TASKS`), and prints how long its tasks took.

A peer is a module with ``run(tasks)``, which returns when all have ended, and, where it has workers that are processes
of their own, ``WORKERS``: the words that start them. Nothing of the project is imported: peers have other packages.
"""

import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WARM = 10
STOP_S = 20


@contextmanager
def workers(words: Sequence[str]) -> Iterator[None]:
    """Two of them, until the block is left; what they say is in workers.log."""
    if not words:
        yield
        return
    program = str(Path(sys.executable).with_name(words[0]))
    with Path("workers.log").open("ab") as log:
        process = subprocess.Popen([program, *words[1:]], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # its children are of our group, which ends with us
            process.kill()
            process.wait()


def main() -> None:
    peer = importlib.import_module(sys.argv[1])
    tasks = int(sys.argv[2])
    with workers(getattr(peer, "WORKERS", ())):
        peer.run(WARM)
        begun = time.perf_counter()
        peer.run(tasks)
        took = time.perf_counter() - begun
    print(json.dumps({"seconds": took}))


if __name__ == "__main__":
    main()
