"""make demo: a fresh server, examples/sweep deployed and run, the best results, and where everything lies."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
DATA = HOME / "data"
TIDEMILL = Path(sys.executable).with_name("tidemill")
EXECUTION = "sweep-demo-1"
BEST = 5

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results: what the task was asked, what it scored, how long it took (s)."""

    index: int
    result: Mapping[str, object]
    took_s: float

    @property
    def score(self) -> float:
        return float(str(self.result["score"]))


def environment() -> dict[str, str]:
    """Ours, without anything that would lead the CLI to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BL_", "TIDEMILL_"))}
    return kept | {"TIDEMILL_DATA_DIR": str(DATA)}


def tidemill(*words: str) -> None:
    console.print(f"[dim]$ tidemill {' '.join(words)}[/dim]")
    subprocess.run([str(TIDEMILL), *words], env=environment(), cwd=ROOT, check=True)


def fresh_data() -> None:
    """An empty data directory; the builds' package cache of an earlier demo is kept, so that a second run is fast."""
    cache, kept = DATA / "cache", HOME / "cache"
    if cache.is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        cache.rename(kept)
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    if kept.is_dir():
        kept.rename(cache)


@contextmanager
def server(*, keep: bool) -> Iterator[str]:
    """Its URL. Ends it and its node at the end, unless ``keep``."""
    log = (HOME / "server.log").open("wb")
    words = [str(TIDEMILL), "server", "--port", "0", "--data-dir", str(DATA)]
    process = subprocess.Popen(
        words, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=log, start_new_session=True
    )
    assert process.stdout is not None
    done = False
    try:
        ready = next((line for line in map(bytes.decode, process.stdout) if line.startswith("tidemill ready ")), None)
        if ready is None:
            log.flush()
            sys.exit(f"the server did not start:\n{(HOME / 'server.log').read_text()}")
        yield ready.split()[-1]
        done = True
    finally:
        if not (keep and done):
            subprocess.run([str(TIDEMILL), "stop", "--data-dir", str(DATA)], env=environment(), check=False)
            process.wait(60)
        process.stdout.close()
        log.close()


def rows() -> list[Row]:
    words = [str(TIDEMILL), "results", "sweep", EXECUTION]
    lines = subprocess.run(words, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    answers = [json.loads(line) for line in lines.splitlines()]
    return [
        Row(
            answer["index"],
            answer["result"],
            (
                datetime.fromisoformat(answer["completedAt"]) - datetime.fromisoformat(answer["startedAt"])
            ).total_seconds(),
        )
        for answer in answers
        if answer["status"] == "succeeded"
    ]


def show(found: list[Row]) -> None:
    best = sorted(found, key=lambda row: row.score, reverse=True)[:BEST]
    table = Table(title=f"The best {BEST} of {len(found)}")
    for name in ("task", "score", "model", "parameters", "took"):
        table.add_column(name, justify="left" if name in {"model", "parameters"} else "right")
    for row in best:
        parameters = row.result["parameters"]
        assert isinstance(parameters, dict)
        said = " ".join(f"{name}={value}" for name, value in parameters.items())
        table.add_row(str(row.index), f"{row.score:.4f}", str(row.result["model"]), said, f"{row.took_s:.2f} s")
    console.print(table)
    times = [row.took_s for row in found]
    console.print(f"Tasks took {min(times):.2f} s to {max(times):.2f} s, {median(times):.2f} s in the middle.")


def where(url: str, *, keep: bool) -> None:
    data = DATA.relative_to(ROOT)
    console.print(
        f"\nLogs are in {data}/logs, results in {data}/tidemill.db, the server's own log in .demo/server.log."
    )
    if keep:
        console.print(f"The server goes on at {url}. Try, with TIDEMILL_DATA_DIR={data} in the environment:")
    else:
        console.print(f"The server is stopped; `.venv/bin/tidemill server --data-dir {data}` starts it again. Then:")
    for words in ("get executions sweep", f"results sweep {EXECUTION}", f"logs job sweep {EXECUTION}"):
        console.print(f"  TIDEMILL_DATA_DIR={data} .venv/bin/tidemill {words}")
    if keep:
        console.print(f"  .venv/bin/tidemill stop --data-dir {data}")


def main() -> None:
    keep = os.environ.get("KEEP") == "1"
    HOME.mkdir(exist_ok=True)
    if DATA.is_dir():  # a server that KEEP=1 has left
        words = [str(TIDEMILL), "stop", "--data-dir", str(DATA)]
        subprocess.run(words, env=environment(), check=False, stdout=subprocess.DEVNULL)
    fresh_data()
    with server(keep=keep) as url:
        console.print(f"A server runs at [bold]{url}[/bold], its data in {DATA.relative_to(ROOT)}\n")
        tidemill("deploy", "examples/sweep")
        batch = "examples/sweep/batches/sweep.json"
        tidemill("run", "job", "sweep", "--file", batch, "--id", EXECUTION, "--wait")
        found = rows()
        console.print()
        show(found)
        where(url, keep=keep)


if __name__ == "__main__":
    main()
