"""How long before their due time triggers begin to fire, so that what they start is there when it is due."""

from typing import Final

LONGEST_S: Final = 0.4
"""Nothing begins earlier: what somebody changes meanwhile comes too late for it."""

# waking up, and what a unit costs however little it does
_LEAST_S: Final = 0.005
# each a job's own, on a common disk
_EACH_S: Final = 0.001
# of fewer the cost of one is not to be told from that of the unit
_TELLING: Final = 20
# how much the last unit says, of all before it
_NEWEST: Final = 0.25
_SPREADS: Final = 4.0


class HeadStart:
    """Learns from what units took how long the next one takes."""

    def __init__(self, least_s: float = _LEAST_S) -> None:
        """``least_s`` is for a unit of none."""
        self._least_s = least_s
        self._each_s = _EACH_S
        self._spread_s = 0.0

    def seconds(self, count: int) -> float:
        """For a unit of ``count``."""
        return min(LONGEST_S, self._least_s + count * (self._each_s + _SPREADS * self._spread_s))

    def learn(self, count: int, took_s: float) -> None:
        """From a unit of ``count``, its commit included: as RFC 6298 learns how long an answer takes."""
        if count >= _TELLING:
            away_s = took_s / count - self._each_s
            self._spread_s += _NEWEST * (abs(away_s) - self._spread_s)
            self._each_s += _NEWEST * away_s
