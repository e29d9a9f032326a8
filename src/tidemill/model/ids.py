"""Names of things: which are chosen by users, which are made by us, and how they look as text."""

import itertools
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

ExecutionKey = NewType("ExecutionKey", int)
BuildKey = NewType("BuildKey", int)
InputSetKey = NewType("InputSetKey", int)
JobKey = NewType("JobKey", int)
NodeId = NewType("NodeId", str)

JOB_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,47}[a-z0-9])?")
REVISION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
ID_PREFIX_MIN: Final = 8

# 2026-01-01T00:00:00Z in milliseconds: keys start small and stay ordered by time of making
_KEY_EPOCH_MS: Final = 1_767_225_600_000
_KEY_RANDOM_BITS: Final = 22
# counting is one step of the interpreter: threads get different numbers
_NUMBERS: Final = itertools.count(secrets.randbits(_KEY_RANDOM_BITS))


class OwnerKind(StrEnum):
    """What an attempt is a try of."""

    TASK = "t"
    BUILD = "b"


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One try of one unit of work; never reused, so it fences every report about that try.

    ``owner`` is the key of an execution or of a build; ``index`` is 0 for builds; ``number`` is 1-based.
    """

    kind: OwnerKind
    owner: int
    index: int
    number: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.owner}/{self.index}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> "AttemptId":
        """Read the text form. Raises ValueError when it is not one."""
        kind, owner, index, number = text.split("/")
        return cls(OwnerKind(kind), int(owner), int(index), int(number))


def new_key(now_ms: int) -> int:
    """A fresh 63-bit key: milliseconds since 2026 in the high bits, below them 22 that count from a random number.

    Of four million keys that a process makes no two are the same, whatever its clock shows; of keys of two processes,
    two of the same millisecond may be, once in four million: a collision is a failed insert.
    """
    return oldest_key(now_ms) | (next(_NUMBERS) & ((1 << _KEY_RANDOM_BITS) - 1))


def key_run(now_ms: int) -> Iterator[int]:
    """Fresh keys for rows that are made together, without end."""
    while True:
        yield new_key(now_ms)


def oldest_key(made_ms: int) -> int:
    """The lowest key that may have been made at this time."""
    return (made_ms - _KEY_EPOCH_MS) << _KEY_RANDOM_BITS


def new_execution_id() -> str:
    """A UUIDv4: its first eight characters tell executions apart (docs/wire.md, logs)."""
    return str(uuid.uuid4())


def new_revision_id() -> str:
    """``rev-`` and ten hexadecimal digits."""
    return f"rev-{secrets.token_hex(5)}"


def new_image_tag() -> str:
    """Ten lower-case hexadecimal digits; the full reference is ``job/NAME:TAG``."""
    return secrets.token_hex(5)
