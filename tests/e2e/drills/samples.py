"""What a long run looks at again and again, and whether any of it has grown."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from tests.e2e.drive import Server
from tidemill.store.database import DATABASE_NAME

_MB: Final = 1 << 20
# the sweep has run a few times by then, and the oldest of what was kept at the end of the second quarter is gone
LONG_S: Final = 1_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """At one moment. ``log_mb`` is the write-ahead log, ``post_ms`` a POST of one task, ``get_ms`` a look at it."""

    at_s: float
    server_mb: float
    node_mb: float
    server_fds: float
    node_fds: float
    files: float
    database_mb: float
    log_mb: float
    post_ms: float
    get_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """In the last quarter a figure may be ``factor`` times what it was in the second one, and ``slack`` more.

    ``of`` makes one number of a quarter's. ``kept``: it grows for as long as what has ended is kept, so that it is flat
    in a long run only.
    """

    factor: float
    slack: float
    of: Callable[[Sequence[float]], float] = median
    kept: bool = False


BOUNDS: Final = {
    "server_mb": Bound(factor=1.15, slack=16),
    "node_mb": Bound(factor=1.15, slack=16),
    # connections and tasks come and go; what leaks does so for each of thousands
    "server_fds": Bound(factor=1.0, slack=24),
    "node_fds": Bound(factor=1.0, slack=96),
    "files": Bound(factor=1.25, slack=64, of=max, kept=True),
    "database_mb": Bound(factor=1.25, slack=8, of=max, kept=True),
    # SQLite begins it anew when nobody reads what it holds, so it may be of any size for a moment
    "log_mb": Bound(factor=1.5, slack=64),
    "post_ms": Bound(factor=1.5, slack=20),
    "get_ms": Bound(factor=1.5, slack=20),
}


def take(server: Server, begun: float, post: Callable[[], str], get: Callable[[str], object]) -> Sample:
    """Look now; ``begun`` is when it began, by the monotonic clock. ``post`` returns what ``get`` looks at."""
    assert server.process is not None
    asked = time.perf_counter()
    made = post()
    posted = time.perf_counter()
    get(made)
    got = time.perf_counter()
    server_process, node = psutil.Process(server.process.pid), psutil.Process(server.node_pid)
    return Sample(
        at_s=time.monotonic() - begun,
        server_mb=server_process.memory_info().rss / _MB,
        node_mb=node.memory_info().rss / _MB,
        server_fds=server_process.num_fds(),
        node_fds=node.num_fds(),
        files=_files(server.data),
        database_mb=_size(server.data / DATABASE_NAME) / _MB,
        log_mb=_size(server.data / f"{DATABASE_NAME}-wal") / _MB,
        post_ms=(posted - asked) * 1000,
        get_ms=(got - posted) * 1000,
    )


def grown(samples: Sequence[Sample], seconds: float) -> list[str]:
    """What has grown beyond its bound in a run of so many seconds, in words; what cannot be flat yet is not asked."""
    second = [each for each in samples if seconds / 4 <= each.at_s < seconds / 2]
    last = [each for each in samples if each.at_s >= seconds * 3 / 4]
    if not second or not last:
        return [f"no sample was taken in the second or in the last quarter: {seconds:.0f} s are too few here"]
    found = []
    for name, bound in BOUNDS.items():
        if bound.kept and seconds < LONG_S:
            continue
        before, after = (bound.of([getattr(each, name) for each in some]) for some in (second, last))
        if after > (most := before * bound.factor + bound.slack):
            found.append(
                f"{name} was {before:.1f} in the second quarter, and {after:.1f} in the last: above {most:.1f}"
            )
    return found


def table(samples: Sequence[Sample]) -> str:
    """A line a sample."""
    names = [field.name for field in fields(Sample)]
    lines = [" ".join(f"{name:>11}" for name in names)]
    lines += [" ".join(f"{getattr(each, name):>11.1f}" for name in names) for each in samples]
    return "\n".join(lines)


def _files(folder: Path) -> int:
    """How many there are below it; what vanishes meanwhile does not count."""
    return sum(len(names) for _folder, _folders, names in os.walk(folder))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
