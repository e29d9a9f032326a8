"""The page of promises names tests that exist, for every line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "semantics.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def tables() -> dict[str, list[list[str]]]:
    """The rows of each section's table, without its head, cell by cell."""
    found: dict[str, list[list[str]]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        assert rows[1] == ["---", "---"], title
        found[title] = [[cell.strip() for cell in row] for row in rows[2:]]
    return found


def collected(file: Path) -> Iterator[str]:
    """What pytest collects there: functions, and methods of classes, by their names."""
    tree = ast.parse(file.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    for body in [tree.body, *(node.body for node in classes)]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


def test_every_promise_names_a_test_that_exists() -> None:
    missing, lines = [], 0
    for title, rows in tables().items():
        for row in rows if title != "Not yet" else []:
            lines += 1
            what, named = row[0], NAMED.findall(row[-1])
            # nothing but names of tests: a word in between would be a promise of a test
            rest = NAMED.sub("", row[-1]).strip()
            if len(row) != 2 or not what or not named or rest:
                missing.append(what or title)
            for path, name in named:
                file = ROOT / "tests" / path
                if not file.is_file() or name not in set(collected(file)):
                    missing.append(f"{path}::{name}")
    assert missing == []
    assert lines > 80


def test_what_does_not_hold_yet_says_why() -> None:
    rows = tables()["Not yet"]
    assert rows
    assert [row for row in rows if len(row) != 2 or not all(row)] == []
