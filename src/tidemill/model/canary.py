"""Which revision a new execution runs: the active one, or the canary that is tried beside it. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Final

WHOLE_PERCENT: Final = 100
MAX_STICKY_S: Final = 365 * 86_400

# 2**64 places on a line: a share of whole percents is exact to far less than one execution in a million
_PLACES: Final = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How new executions are given to revisions; changing it makes no revision.

    ``canary`` is the id of a kept revision, empty for none; ``canary_percent`` (0 to 100) of the executions run it.
    With ``sticky_ttl_s`` over 0 a caller keeps its choice so many seconds. ``traffic`` 0 pauses the job; any other
    value up to 100 is kept and changes nothing.
    """

    canary: str = ""
    canary_percent: int = 0
    sticky_ttl_s: int = 0
    traffic: int = WHOLE_PERCENT

    @property
    def paused(self) -> bool:
        return self.traffic == 0


def is_chosen(subject: str, percent: int) -> bool:
    """Whether ``subject`` belongs to the share of ``percent`` (0 to 100). The same subject, the same answer, anywhere.

    Who belongs to a share belongs to every bigger one: raising the percentage takes nobody back.
    """
    digest = hashlib.sha256(subject.encode()).digest()
    return int.from_bytes(digest[:8]) * WHOLE_PERCENT < percent * _PLACES


def share_of(revision: str, active: str, rollout: Rollout) -> int:
    """The percentage of new executions that run ``revision``."""
    if rollout.paused or revision not in {active, rollout.canary}:
        return 0
    given_away = rollout.canary_percent if rollout.canary else 0
    return given_away if revision == rollout.canary else WHOLE_PERCENT - given_away
