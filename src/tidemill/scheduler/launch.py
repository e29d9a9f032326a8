"""Giving attempts that are on record to their node, and what follows when that does not work."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import Event, EventKind, Lease, Outcome, OutcomeKind, TaskLease
from tidemill.scheduler.leases import LeaseMaker
from tidemill.scheduler.parts import Parts, conclude
from tidemill.scheduler.renew import Renewer

LAUNCH_LEASES: Final = 500
LAUNCH_BYTES: Final = 8 << 20


class Launcher:
    """Launches attempts. One thread."""

    def __init__(self, parts: Parts, renewer: Renewer) -> None:
        self._parts = parts
        self._renewer = renewer
        self._leases = LeaseMaker(database=parts.database, keyring=parts.keyring, policy=parts.policy)

    def launch(self, node: NodeId, attempts: Sequence[AttemptId], *, term: int, now: datetime) -> bool:
        """Give ``attempts`` to ``node``; False when it takes no more for now.

        A call that failed leaves its attempts live: reconciliation asks the node what it knows and launches the others
        again under the same id. A lease that cannot be made is lost, ours to answer for; one refused had not started.
        Raises StaleTerm.
        """
        made = self._leases.make(attempts, self._renewer.ttl_s(node))
        self._end(node, list(made.failed.items()), OutcomeKind.LOST, now)
        refused: list[tuple[AttemptId, str]] = []
        for part in _parts(made.leases):
            try:
                answers = self._parts.engine.launch(node, part, term)
            except EngineUnavailable as error:
                self._parts.problems.report(f"node {node}", error.message)
                return False
            finally:
                self._renewer.sent(node)
            refused += [(answer.attempt, answer.refused.value) for answer in answers if answer.refused is not None]
        self._end(node, refused, OutcomeKind.WITHDRAWN, now)
        return not refused

    def forget(self, node: NodeId, attempts: Sequence[AttemptId], now: datetime) -> None:
        """End attempts that have never started and shall not."""
        self._end(node, [(attempt, "not wanted any more") for attempt in attempts], OutcomeKind.WITHDRAWN, now)

    def _end(self, node: NodeId, ended: Sequence[tuple[AttemptId, str]], kind: OutcomeKind, now: datetime) -> None:
        at = now.timestamp()
        events = [
            Event(
                number=0,
                attempt=attempt,
                kind=EventKind.ENDED,
                at=at,
                outcome=Outcome(kind=kind, message=message, ended_at=at),
            )
            for attempt, message in ended
        ]
        conclude(self._parts, node, events, now)


def _parts(leases: Sequence[Lease]) -> Iterator[Sequence[Lease]]:
    """Cut leases into what one call carries."""
    first, size = 0, 0
    for index, lease in enumerate(leases):
        weight = lease.weight if isinstance(lease, TaskLease) else 0
        if index > first and (index - first == LAUNCH_LEASES or size + weight > LAUNCH_BYTES):
            yield leases[first:index]
            first, size = index, 0
        size += weight
    if first < len(leases):
        yield leases[first:]
