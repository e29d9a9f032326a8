"""Engine: the smallest protocol that every supplier of nodes can implement (docs/engines.md)."""

from collections.abc import Sequence
from typing import Final, Protocol

from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import (
    Acknowledgement,
    EventBatch,
    Inventory,
    Lease,
    LogBatch,
    NodeInfo,
    Position,
)

LATE_CALL_S: Final = 5.0
"""How long after a call has ended without an answer it may still have its effect, where leases have a time to live."""


class Engine(Protocol):
    """Supplies placement, node membership and process bootstrapping; never the source of truth.

    All methods are synchronous and safe to call from several threads. ``EngineUnavailable`` means "ask again": it may
    come out of any of them, costs no attempt, and leaves open whether the call had its effect, or has it later, or
    twice. Where leases have a time to live, a call that has ended is without effect ``LATE_CALL_S`` later: a renewal
    or a launch that came later still would keep a lease alive for longer than the server waits for its end. A node
    refuses a ``term`` lower than the highest it has seen with ``StaleTerm``. Nothing else is raised.
    """

    def nodes(self) -> Sequence[NodeInfo]:
        """The nodes that can take leases now."""
        ...

    def launch(self, node: NodeId, leases: Sequence[Lease], term: int) -> Sequence[Acknowledgement]:
        """Give leases, in order of preference. Idempotent on the attempt id: known attempts are acknowledged again.

        A lease with a time to live (``ttl_s``) lives so long from the moment it arrives, or arrives again.
        """
        ...

    def events(self, node: NodeId, after: Position, wait_s: float) -> EventBatch:
        """Events numbered above ``after``; waits up to ``wait_s`` until there is one or a new log block.

        ``after`` acknowledges: it is the last number whose effect is committed, and the node forgets all up to it.
        """
        ...

    def logs(self, node: NodeId, after: Position, max_bytes: int) -> LogBatch:
        """Log blocks numbered above ``after``: one if any waits, then up to ``max_bytes``; ``after`` acknowledges."""
        ...

    def renew(self, node: NodeId, attempts: Sequence[AttemptId], ttl_s: float, term: int) -> None:
        """Let these leases live for ``ttl_s`` from the moment this arrives; without effect on those that live for ever.

        What nobody renews in time ends as ``lost``: SIGTERM, its own grace, SIGKILL. What has not started is forgotten.
        """
        ...

    def cancel(self, node: NodeId, attempts: Sequence[AttemptId], grace_s: float, term: int) -> None:
        """SIGTERM to the whole tree of each, SIGKILL after ``grace_s``: ends as ``cancelled``. Unknown are ignored."""
        ...

    def withdraw(self, node: NodeId, attempts: Sequence[AttemptId], term: int) -> Sequence[AttemptId]:
        """Those of ``attempts`` that had not started, now forgotten by the node. The others go on."""
        ...

    def inventory(self, node: NodeId) -> Inventory:
        """What the node knows right now."""
        ...

    def close(self, *, stop_tasks: bool) -> None:
        """Detach; with ``stop_tasks`` end the nodes too: their attempts become planned losses."""
        ...
