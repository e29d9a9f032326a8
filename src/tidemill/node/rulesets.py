"""Rulesets of files (Landlock) that launchers have made and the node keeps: the next command needs none made."""

import fcntl
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.isolation.confinement import Files

# a file of the system that was replaced meanwhile, as by an update, is another one: rules are of files, not of names
FRESH_S: Final = 1.0
KEPT_MAX: Final = 64
# what the launcher is given a ruleset as, behind the control socket and the lock
RULESET_FD: Final = 5

# the lowest number of what the node keeps for launchers
LOWEST_FD: Final = 16

log = logging.getLogger(__name__)

Key = tuple[Files, tuple[tuple[int, int] | None, ...]]


@dataclass(slots=True)
class Kept:
    """A ruleset for what there was at a time; ``fd`` is None when nobody was asked to make one to keep."""

    fd: int | None = None
    made_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to ask a launcher for: with ``fd`` it is given that, with ``key`` it sends the ruleset that it makes."""

    options: Sequence[str]
    fd: int | None = None
    key: Key | None = None


UNASKED: Final = Asked(options=())


class Rulesets:
    """Of the files that commands were confined to lately, those that two have asked for (decision 0133)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is steady, in seconds."""
        self._clock = clock
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def ask(self, files: Files) -> Asked:
        """How a command that is to start now is confined to ``files``. What is given is open until the next call."""
        key = (files, tuple(_number(path) for path in (*files.read, *files.write)))
        kept = self._kept.get(key)
        if kept is None:
            self._kept[key] = Kept()
            if len(self._kept) > KEPT_MAX:
                _close(self._kept.popitem(last=False)[1])
            return Asked(options=("--files", *files.options()))
        self._kept.move_to_end(key)
        if kept.fd is not None and self._clock() - kept.made_at < FRESH_S:
            return Asked(options=(f"--ruleset={RULESET_FD}",), fd=kept.fd)
        return Asked(options=("--files", "--keep-ruleset", *files.options()), key=key)

    def keep(self, key: Key, fd: int) -> None:
        """A launcher that was asked with ``key`` has sent ``fd``, which is ours to close from now on."""
        kept = self._kept.get(key)
        try:
            # above what launchers are given their descriptors as; where there are none left, nothing is kept
            if kept is not None:
                high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST_FD)
                _close(kept)
                kept.fd, kept.made_at = high, self._clock()
        except OSError as error:
            log.warning("a ruleset is not kept: %s", error)
        finally:
            os.close(fd)


def _close(kept: Kept) -> None:
    if kept.fd is not None:
        os.close(kept.fd)


def _number(path: Path) -> tuple[int, int] | None:
    """Which file has the name now: while a ruleset has it, no other gets its number."""
    try:
        found = os.stat(path)  # noqa: PTH116  # for each command
    except OSError:
        return None
    return found.st_dev, found.st_ino
