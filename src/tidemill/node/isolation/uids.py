"""Users that exist for one attempt at a time: numbers that nobody else has."""

import errno
import os
import pwd
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SUBUIDS: Final = Path("/etc/subuid")
# how many blocks further a node looks when other nodes of this machine hold the first ones
BLOCKS: Final = 64
# 16 bits for those who count so, the last numbers have meanings of their own
UID_MAX: Final = (1 << 32) - 65_536
# what images take for all numbers that there are: those of 16 bits
RANGE_COUNT: Final = 65_536


def lent_ranges(subuids: Path = SUBUIDS) -> list[range]:
    """The numbers that rootless containers of this machine's users run as; lines are ``NAME:FIRST:COUNT``."""
    try:
        lines = subuids.read_text().splitlines()
    except OSError:
        return []
    fields = [line.split(":") for line in lines]
    return [
        range(int(first), int(first) + int(count))
        for first, count in (words[1:] for words in fields if len(words) == 3)
        if first.isdigit() and count.isdigit()
    ]


class UidPool:
    """Numbers that are free of accounts, each given to one attempt at a time, and as late as possible again."""

    def __init__(self, uids: Iterable[int], claim: socket.socket | None = None, block: int = 0) -> None:
        """``claim`` is what keeps other nodes of this machine from the same numbers, as long as it is open.

        ``block`` is the number that their block begins with, be it one of them or not.
        """
        self.all: Final = tuple(uids)
        self.block: Final = block
        # in the order in which they were given back
        self._free: dict[int, None] = dict.fromkeys(self.all)
        self._claim = claim

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """Raises OSError (EAGAIN) when all are in use."""
        if not self._free:
            raise OSError(errno.EAGAIN, "every user that tasks may run as is in use")
        uid: int = next(iter(self._free))
        del self._free[uid]
        return uid

    def give_back(self, uid: int) -> None:
        """Nothing that belonged to ``uid`` is left."""
        self._free[uid] = None

    def close(self) -> None:
        """Others may have the numbers."""
        if self._claim is not None:
            self._claim.close()


def reserved(first: int, count: int) -> range:
    """All numbers that nodes of this machine may have for their tasks, with these settings."""
    return range(first, first + BLOCKS * count)


def open_pool(first: int, count: int) -> UidPool:
    """The first block of ``count`` numbers, from ``first`` on, that no other node of this machine has.

    Without those of accounts and of rootless containers. Raises OSError when there is no block.
    """
    accounts = {entry.pw_uid for entry in pwd.getpwall()}
    lent = lent_ranges()
    for begin in range(first, min(reserved(first, count).stop, UID_MAX - count), count):
        free = [uid for uid in range(begin, begin + count) if uid not in accounts and not any(uid in r for r in lent)]
        if free and (claim := _claim(begin)) is not None:
            return UidPool(free, claim, begin)
    raise OSError(errno.EADDRINUSE, f"there are no {count} numbers of users from {first} on that are free")


class UidRange:
    """Numbers without a gap, as a user namespace has them: all of them are one thing's, whatever it calls them."""

    def __init__(self, first: int, claim: socket.socket) -> None:
        """``claim``: as of UidPool."""
        self.all: Final = range(first, first + RANGE_COUNT)
        self._claim = claim

    @property
    def first(self) -> int:
        """Who is root in there."""
        return self.all.start

    def close(self) -> None:
        """Others may have the numbers."""
        self._claim.close()


def open_range(first: int, tasks: range) -> UidRange:
    """The first range, from ``first`` on, without an account, a rootless container or another node of this machine.

    ``tasks`` are numbers that a pool may come to have (``reserved``). Raises OSError when there is no such range.
    """
    accounts = {entry.pw_uid for entry in pwd.getpwall()}
    lent = lent_ranges()
    for begin in range(first, min(first + BLOCKS * RANGE_COUNT, UID_MAX - RANGE_COUNT), RANGE_COUNT):
        end = begin + RANGE_COUNT
        if any(begin <= uid < end for uid in accounts):
            continue
        if any(taken.start < end and begin < taken.stop for taken in (*lent, tasks)):
            continue
        if (claim := _claim(begin)) is not None:
            return UidRange(begin, claim)
    raise OSError(errno.EADDRINUSE, f"there are no {RANGE_COUNT} numbers of users from {first} on that are free")


def is_free(begin: int) -> bool:
    """Whether no node has the block that begins with this number."""
    claim = _claim(begin)
    if claim is None:
        return False
    claim.close()
    return True


def _claim(begin: int) -> socket.socket | None:
    """A name in the kernel that is free again when the process that has it is gone, however it went."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        claim.bind(f"\0tidemill-uids-{begin}-{os.geteuid()}")
    except OSError:
        claim.close()
        return None
    return claim
