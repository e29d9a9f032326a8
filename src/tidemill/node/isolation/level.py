"""The levels of isolation, and which of them a node works at."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

AUTO: Final = "auto"


class IsolationError(Exception):
    """A node that cannot keep attempts apart as it was told to; the message says what is missing and what to do."""


class Level(StrEnum):
    """The strongest first: that is the order in which ``auto`` looks for one."""

    SANDBOX = "sandbox"
    CONTAINER = "container"
    PROCESS = "process"


def choose(wanted: str, minimum: str, problems: Mapping[Level, str]) -> Level:
    """The level to work at: ``wanted``, or with ``auto`` the strongest that works.

    ``problems`` says of each level what keeps it from working, "" for nothing. Level ``process`` works in part wherever
    processes do: what is missing of it matters only when ``minimum`` ("" for none) asks for it. Raises IsolationError.
    """
    if wanted == AUTO:
        level = next((level for level in Level if not problems[level]), Level.PROCESS)
    else:
        level = Level(wanted)
        if problems[level] and level is not Level.PROCESS:
            raise IsolationError(f"isolation is {wanted}, which this machine does not have: {problems[level]}")
    if not minimum:
        return level
    if _strength(level) < _strength(Level(minimum)):
        missing = problems[Level(minimum)] or f"isolation is {wanted}"
        raise IsolationError(f"minimum_isolation is {minimum}, but tasks would run at {level}: {missing}")
    if problems[level]:
        raise IsolationError(f"minimum_isolation is {minimum}, and level {level} is not whole here: {problems[level]}")
    return level


def _strength(level: Level) -> int:
    return -list(Level).index(level)
