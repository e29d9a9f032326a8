"""How long the scheduler's threads let news gather while there is some all the time.

A pass costs nearly as much for one task as for twenty, so under load twenty share one. Nothing waits that comes after a
quiet time.
"""

from typing import Final

REST_MAX_S: Final = 0.02
GATHER_MAX_S: Final = 0.05
# of fewer live attempts a node may run out before it is given more
_MANY: Final = 16
# after so long without news nobody knows how fast they come
_QUIET_S: Final = 0.2


def rest_s(took_s: float) -> float:
    """How long after a pass that took ``took_s`` the next one may begin: as long again, at most 20 ms."""
    return min(took_s, REST_MAX_S)


def gather_s(heard: int, since_s: float, live: int) -> float:
    """How long to let a node be that has told of ``heard`` attempts, ``since_s`` after it was heard before.

    As long as a quarter of its ``live`` attempts takes at this rate, at most 50 ms: it does not run out of work
    meanwhile. 0 while it has few, and after a quiet time.
    """
    if live < _MANY or heard == 0 or since_s > _QUIET_S:
        return 0.0
    return min(GATHER_MAX_S, since_s * live / (4 * heard))
