"""The pages of promises and of fields name tests that exist, for every line."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"semantics.md": 80, "fields.md": 25, "isolation.md": 10}
"""The pages, and how many lines each has at the least."""
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of each section's table, without its head, cell by cell."""
    found: dict[str, list[list[str]]] = {}
    for section in (ROOT / "docs" / page).read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        assert set(rows[1]) == {"---"}, title
        found[title] = [[cell.strip() for cell in row] for row in rows[2:]]
    return found


@cache
def collected(file: Path) -> frozenset[str]:
    """What pytest collects there: functions, and methods of classes, by their names."""
    return frozenset(_tests(file))


def _tests(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    for body in [tree.body, *(node.body for node in classes)]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


@pytest.mark.parametrize("page", LEAST)
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    missing, lines = [], 0
    for title, rows in tables(page).items():
        for row in rows if title != "Not yet" else []:
            lines += 1
            what, named = row[0], NAMED.findall(row[-1])
            # nothing but names of tests: a word in between would be a promise of a test
            rest = NAMED.sub("", row[-1]).strip()
            if not all(row[:-1]) or not named or rest:
                missing.append(what or title)
            for path, name in named:
                file = ROOT / "tests" / path
                if not file.is_file() or name not in collected(file):
                    missing.append(f"{path}::{name}")
    assert missing == []
    assert lines >= LEAST[page]


@pytest.mark.parametrize("page", LEAST)
def test_what_does_not_hold_yet_says_why(page: str) -> None:
    rows = tables(page)["Not yet"]
    assert rows
    assert [row for row in rows if len(row) != 2 or not all(row)] == []
