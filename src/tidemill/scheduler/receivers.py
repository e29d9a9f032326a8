"""Whose turn it is: which of the receivers for which something waits are sent to next. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tidemill.store.outbox import Pick, Place

THREADS: Final = 32
A_RECEIVER: Final = 2
# else one tenant's slow receivers would hold up everybody's
A_WORKSPACE: Final = THREADS // 2

Sending = Counter[tuple[str, str]]
"""How much is being sent, by (workspace, receiver)."""


def picks(places: Sequence[Place], sending: Sending, *, now: datetime, start: int = 0) -> list[Pick]:
    """What is to be claimed for the threads that are free: one of each workspace in turn, from the ``start``-th on.

    No more than two go to a receiver at a time, whoever sends there, and half of all threads to those of a workspace.
    """
    free = THREADS - sending.total()
    by_receiver, by_workspace = Counter[str](), Counter[str]()
    for (workspace, receiver), count in sending.items():
        by_receiver[receiver] += count
        by_workspace[workspace] += count
    picked = list[Pick]()
    for place in _in_turn([place for place in places if place.due_at <= now], start):
        count = min(
            A_RECEIVER - by_receiver[place.receiver], A_WORKSPACE - by_workspace[place.workspace], free, A_RECEIVER
        )
        if count > 0:
            picked.append(Pick(workspace=place.workspace, receiver=place.receiver, count=count))
            by_receiver[place.receiver] += count
            by_workspace[place.workspace] += count
            free -= count
    return picked


def next_due(places: Sequence[Place], now: datetime) -> datetime | None:
    """When something more is due; what is due already waits for a thread that gets free, not for a time."""
    return min((place.due_at for place in places if place.due_at > now), default=None)


def _in_turn(places: Sequence[Place], start: int) -> list[Place]:
    """The longest waiting of each workspace, then the second of each; which workspace begins changes with ``start``."""
    waiting: dict[str, list[Place]] = {}
    for place in sorted(places, key=lambda place: place.due_at):
        waiting.setdefault(place.workspace, []).append(place)
    names = sorted(waiting)
    first = start % len(names) if names else 0
    rounds = max(map(len, waiting.values()), default=0)
    order = names[first:] + names[:first]
    return [waiting[name][turn] for turn in range(rounds) for name in order if turn < len(waiting[name])]
