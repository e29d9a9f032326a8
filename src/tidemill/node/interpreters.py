"""Which interpreters images may name: those of the node, and those that its operator lets tasks read anyway.

What an image says of itself is what ran in its build wanted it to say, and what a task may read follows from it.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from tidemill.node.isolation.protocol import Refused
from tidemill.node.isolation.system import PROGRAMS


class Interpreters:
    """The folders in which the prefix of an interpreter may lie."""

    def __init__(self, operators: Iterable[Path]) -> None:
        """``operators`` are folders that all tasks may read by the node's settings."""
        named = [Path(name) for name in (*PROGRAMS, sys.prefix, sys.base_prefix)]
        self._folders = tuple({name for folder in (*named, *operators) for name in both_names(folder)})
        self._known: dict[str, tuple[Path, ...]] = {}

    def read(self, prefix: str | None) -> tuple[Path, ...]:
        """What the tasks of an image may read for its interpreter's sake. Raises Refused for one that is not ours."""
        if prefix is None:
            return ()
        if prefix not in self._known:
            # what was refused is no part of it, so there are few
            self._known[prefix] = self._look(prefix)
        return self._known[prefix]

    def _look(self, prefix: str) -> tuple[Path, ...]:
        path = Path(prefix)
        names = both_names(path)
        if ".." in path.parts or not all(any(name.is_relative_to(each) for each in self._folders) for name in names):
            raise Refused(
                f"its image points to an interpreter at {prefix}, which is not the node's ({sys.base_prefix}): deploy "
                "the job again, or let tasks read that folder (task_read_paths)"
            )
        return names


def both_names(path: Path) -> tuple[Path, ...]:
    """``path`` as it is written, and as it is without links, for it may be reached by either."""
    return tuple(dict.fromkeys((path, path.resolve())))
