"""Leases with a time to live: kept alive while their node is heard, given up when it has been silent for too long.

Only engines with several nodes use them: a node that hears nothing for that long ends its tasks by itself, so that
another may have them. A local lease has none: nobody else could get its work.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import Event, EventKind, NodeInfo, Outcome, OutcomeKind
from tidemill.scheduler.parts import Parts, conclude
from tidemill.store import nodes
from tidemill.store.snapshot import LiveAttempt, live_attempts


class Renewer:
    """Remembers when something was last sent to each node that could have prolonged a lease there.

    Not when it was heard: a call whose answer is lost may have had its effect. After a restart that is unknown, so it
    counts from then. One thread.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ttls: Mapping[NodeId, float] = parts.database.read(nodes.lease_ttls)
        self._began = parts.steady()
        self._sent: dict[NodeId, float] = {}

    def know(self, infos: Iterable[NodeInfo]) -> None:
        """Nodes as they are now; those that have gone are still waited for."""
        self._ttls = {**self._ttls, **{info.id: info.lease_ttl_s for info in infos if info.lease_ttl_s is not None}}

    def ttl_s(self, node: NodeId) -> float | None:
        """What leases given to ``node`` carry."""
        return self._ttls.get(node)

    def sent(self, node: NodeId) -> None:
        """A call that can prolong leases went to ``node`` and is over, whether or not it was answered."""
        self._sent[node] = self._parts.steady()

    def renew(self, reachable: Sequence[NodeId], term: int) -> list[NodeId]:
        """Prolong the leases of these nodes; which of them did not answer. One read. Raises StaleTerm."""
        wanted = {node for node in reachable if node in self._ttls}
        if not wanted:
            return []
        silent = []
        for node, attempts in _by_node(self._parts.database.read(live_attempts), wanted).items():
            try:
                self._parts.engine.renew(node, attempts, self._ttls[node], term)
            except EngineUnavailable as error:
                self._parts.problems.report(f"node {node}", error.message)
                silent.append(node)
            finally:
                self.sent(node)
        return silent

    def give_up(self, now: datetime) -> bool:
        """End as lost what no node can still run: its lease has ended on the node too. True when there was any.

        One read, and one unit per node.
        """
        if not self._ttls:
            return False
        over = {node for node in self._ttls if self._parts.steady() >= self._end_of(node)}
        lost = _by_node(self._parts.database.read(live_attempts), over) if over else {}
        for node, attempts in lost.items():
            silent_s = self._parts.steady() - self._sent.get(node, self._began)
            message = f"its node {node} has not been reached for {silent_s:.0f} s, longer than its lease"
            conclude(self._parts, node, [_lost(attempt, message, now) for attempt in attempts], now)
        return bool(lost)

    def _end_of(self, node: NodeId) -> float:
        policy = self._parts.policy
        return self._sent.get(node, self._began) + self._ttls[node] + policy.grace_s + policy.lease_margin_s


def _by_node(live: Iterable[LiveAttempt], wanted: set[NodeId]) -> dict[NodeId, list[AttemptId]]:
    found: dict[NodeId, list[AttemptId]] = {}
    for one in live:
        if one.node in wanted:
            found.setdefault(one.node, []).append(one.attempt)
    return found


def _lost(attempt: AttemptId, message: str, now: datetime) -> Event:
    at = now.timestamp()
    outcome = Outcome(kind=OutcomeKind.LOST, message=message, ended_at=at)
    return Event(number=0, attempt=attempt, kind=EventKind.ENDED, at=at, outcome=outcome)
