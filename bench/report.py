"""Writes docs/benchmarks.md and its chart from what was measured (`python -m bench.report`)."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import Final

from bench import chart
from bench.bars import FIGURES
from bench.results import RESULTS, Results, Section, load, middle
from tests.e2e.drive import ROOT

_NOT_YET: Final = "not measured"
_WIDTH: Final = 120
_INTRODUCTION: Final = """# Benchmarks

What a user waits for, and what a machine pays for it, measured through the public API of a real server with its node:
durable, the output of each task captured, level `process`. Written by `make bench`, and in part by `make
bench-million`, from [benchmarks.json](benchmarks.json), which has every round. A figure is the median of the rounds.

Two C programs are measured in turn with it. *bare* starts the command, gives it a pipe, and waits: `posix_spawn` by two
workers. *equal* does all that the node does for each task at that level, by two workers and nothing else: a directory
in memory with a task file, two pipes, session, cgroups, limits, user, capabilities, no_new_privs, Landlock, seccomp,
with the very options that the node gave to its launcher for a task of the same job. It keeps nothing, tells nobody,
and cannot be asked ([decision 0134](decisions/0134-the-measure-is-a-c-program-that-does-the-same.md)).
"""
_PEERS: Final = """
## Next to others

The same machine, the same run, in turn: {how}; {taken}. Each task starts `/bin/true` and has its output captured, by
two workers, and results are kept as the program does by itself. What they promise is not the same: each has its words.
"""
_OTHERS: Final = """
`make bench` also prints, and does not keep: requests a second next to a bare FastAPI route (`bench/requests.py`), what
credentials cost (`bench/authentication.py`), what each step of confinement costs (`bench/confinement.py`,
[isolation.md](isolation.md)). `python -m bench.triggers` says how late triggers fire ([triggers.md](triggers.md)).
"""


def page(results: Results, chart_name: str) -> str:
    """docs/benchmarks.md as Markdown; ``chart_name`` is the chart's file beside it."""
    lines = [_INTRODUCTION, f"![Tasks a second]({chart_name})\n", *_table(results), "", *_measured(results)]
    if (peers := results["sections"].get("peers")) is not None:
        lines += [_PEERS.format(how=peers["how"], taken=peers["taken"]), *_peers(peers)]
    lines += [_OTHERS, *_where(results)]
    return "\n".join(lines) + "\n"


def rates(results: Results) -> Mapping[str, float]:
    """Tasks a second of all that was measured next to each other, for the chart."""
    found: dict[str, float | None] = {}
    if (tasks := results["sections"].get("tasks")) is not None:
        names = {"Tidemill": "tidemill_a_second", "equal (C)": "equal_a_second", "bare (C)": "bare_a_second"}
        found |= {shown: middle(tasks["rounds"], name) for shown, name in names.items()}
    if (peers := results["sections"].get("peers")) is not None:
        found |= {name: middle(peers["rounds"], name) for name in _names(peers) if name != "Tidemill"}
    return {name: value for name, value in found.items() if value is not None}


def drawing(results: Results) -> str:
    """The chart, as an SVG."""
    return chart.bars("Tasks a second, /bin/true, two workers", rates(results))


def _table(results: Results) -> Iterator[str]:
    yield "| figure | bar | dream | measured | reached |"
    yield "|---|---:|---:|---:|---|"
    for figure in FIGURES:
        section = results["sections"].get(figure.section)
        value = None if section is None else figure.value(section["rounds"])
        measured = (_NOT_YET, "") if value is None else (figure.text(value), figure.reached(value))
        yield f"| {figure.name} | {figure.text(figure.bar)} | {figure.text(figure.dream)} | {' | '.join(measured)} |"


def _measured(results: Results) -> Iterator[str]:
    """How, and the numbers that the ratios are of."""
    for name, section in sorted(results["sections"].items()):
        if name == "peers":
            continue
        words = [f"* **{name}**, {section['taken']}: {section['how']}.", *section["words"].values(), _numbers(section)]
        yield fill(" ".join(words), _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _numbers(section: Section) -> str:
    names = sorted({name for each in section["rounds"] for name in each})
    told = [(name, middle(section["rounds"], name)) for name in names]
    return "; ".join(f"`{name}` {value:,.2f}" for name, value in told if value is not None) + "."


def _names(peers: Section) -> list[str]:
    names = {name for each in peers["rounds"] for name in each}
    return sorted(names, key=lambda name: -(middle(peers["rounds"], name) or 0))


def _peers(peers: Section) -> Iterator[str]:
    yield "| program | tasks a second | Tidemill has | how it was run, and what it promises |"
    yield "|---|---:|---:|---|"
    ours = middle(peers["rounds"], "Tidemill")
    for name in _names(peers):
        rate = middle(peers["rounds"], name)
        share = "" if name == "Tidemill" or not ours or not rate else f"{ours / rate:.2f} x"
        yield f"| {name} | {rate:,.0f} | {share} | {peers['words'].get(name, '')} |"
    for name, why in sorted(peers["words"].items()):
        if name not in _names(peers):
            yield f"| {name} | | | {why} |"


def _where(results: Results) -> Iterator[str]:
    machine = results["machine"]
    if machine:
        cores = f"{machine['cores']} cores of {machine['processor']}, {machine['memory']}"
        yield f"Measured on {cores}, Linux {machine['kernel']}, Python {machine['python']}."


def write(results: Results, file: Path) -> Path:
    """Write the page and the chart beside the results' ``file``, under its name; the page."""
    chart_file = file.with_suffix(".svg")
    chart_file.write_text(drawing(results))
    written = file.with_suffix(".md")
    written.write_text(page(results, chart_file.name))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: docs/benchmarks.json")
    file: Path = parser.parse_args().results
    written = write(load(file), file)
    print(written.relative_to(ROOT) if written.is_relative_to(ROOT) else written)


if __name__ == "__main__":
    main()
