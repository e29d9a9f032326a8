"""An engine with a script instead of machines: deterministic, driven by the clock it is given.

For tests, simulations and authors of engines. It keeps the contract of ``protocol.Engine`` and can break, on demand,
everything that the contract allows to break: calls that get lost before or after their effect, that come late, twice
or in another order, answers of another time, nodes that die, freeze, cannot be reached, or vanish for good.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeVar

from tidemill.engine.fake_node import FakeNode, Play, Script
from tidemill.engine.protocol import LATE_CALL_S
from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import Acknowledgement, EventBatch, Inventory, Lease, LogBatch, NodeInfo, Position

__all__ = ["METHODS", "FakeEngine", "Fault", "Play", "Script"]

_T = TypeVar("_T")
METHODS: Final = ("nodes", "launch", "events", "logs", "renew", "cancel", "withdraw", "inventory")


class Fault(StrEnum):
    """What happens to a call.

    LOST: it never arrives. ANSWER_LOST: it has its effect, and nobody is told. LATE: it is not answered, and arrives
    when ``deliver`` is called. DOUBLED: it is answered, and arrives once more when ``deliver`` is called. REPEATED: its
    answer is the one of the call before (``events`` and ``logs``: an old batch; elsewhere it changes nothing).
    """

    LOST = "lost"
    ANSWER_LOST = "answer_lost"
    LATE = "late"
    DOUBLED = "doubled"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class LateCall:
    """A call that is still on its way to a node; ``over_at`` is when its caller stopped waiting, in steady time."""

    node: NodeId
    act: Callable[[FakeNode], object]
    term: int | None
    over_at: float


class FakeEngine:
    """Nodes that run a script. Safe to call from several threads; ``pause`` is what waiting for events means.

    ``clock`` is the nodes' wall clock, which may jump; ``steady`` never does, and measures how long processes run and
    leases live (by default they are the same).
    """

    def __init__(
        self,
        nodes: Iterable[NodeInfo],
        script: Script,
        *,
        clock: Callable[[], float],
        steady: Callable[[], float] | None = None,
        pause: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._steady = steady or clock
        self._pause = pause
        self._script = script
        self._nodes = {info.id: FakeNode(info, script, self._steady()) for info in nodes}
        self._gone: list[FakeNode] = []
        self._cut: set[NodeId] = set()
        self._mute: set[NodeId] = set()
        self._skews: dict[NodeId, float] = {}
        self._faults: dict[str, deque[Fault]] = {}
        self._late: list[LateCall] = []
        self._repeat: set[NodeId] = set()

    # the protocol

    def nodes(self) -> Sequence[NodeInfo]:
        with self._lock:
            fault = self._fault("nodes")
            if fault in {Fault.LOST, Fault.LATE, Fault.ANSWER_LOST}:
                raise EngineUnavailable(f"the call of nodes was {fault}")
            return [node.info for key, node in self._nodes.items() if key not in self._cut]

    def launch(self, node: NodeId, leases: Sequence[Lease], term: int) -> Sequence[Acknowledgement]:
        given = tuple(leases)
        return self._call("launch", node, lambda found: found.launch(given), term)

    def events(self, node: NodeId, after: Position, wait_s: float) -> EventBatch:
        with self._lock:
            if node in self._repeat:
                self._repeat.discard(node)
                return self._reach(node).shown
        batch = self._call("events", node, lambda found: found.events(after), old=lambda found: found.shown)
        if not batch.events and wait_s > 0:
            self._pause(wait_s)
            with self._lock:
                return self._reach(node).events(after)
        return batch

    def logs(self, node: NodeId, after: Position, max_bytes: int) -> LogBatch:
        return self._call("logs", node, lambda found: found.logs(after, max_bytes), old=lambda found: found.shown_logs)

    def renew(self, node: NodeId, attempts: Sequence[AttemptId], ttl_s: float, term: int) -> None:
        given = tuple(attempts)
        self._call("renew", node, lambda found: found.renew(given, ttl_s), term)

    def cancel(self, node: NodeId, attempts: Sequence[AttemptId], grace_s: float, term: int) -> None:
        given = tuple(attempts)
        self._call("cancel", node, lambda found: found.cancel(given, grace_s), term)

    def withdraw(self, node: NodeId, attempts: Sequence[AttemptId], term: int) -> Sequence[AttemptId]:
        given = tuple(attempts)
        return self._call("withdraw", node, lambda found: found.withdraw(given), term)

    def inventory(self, node: NodeId) -> Inventory:
        return self._call("inventory", node, lambda found: found.inventory())

    def close(self, *, stop_tasks: bool) -> None:
        with self._lock:
            for node in self._nodes if stop_tasks else ():
                self._node(node).restart(self._steady(), planned=True)

    # what goes wrong with calls

    def fail(self, method: str, fault: Fault, times: int = 1) -> None:
        """The next ``times`` calls of ``method`` that reach their node go wrong like this, after those of before."""
        if method not in METHODS:
            raise ValueError(f"no method {method!r} can go wrong, only {', '.join(METHODS)}")
        with self._lock:
            self._faults.setdefault(method, deque()).extend([fault] * times)

    def mend_calls(self) -> None:
        """No call goes wrong any more; those that are late stay so."""
        with self._lock:
            self._faults.clear()

    def late(self) -> int:
        """How many calls are on their way."""
        with self._lock:
            return len(self._late)

    def deliver(
        self, shuffle: Callable[[list[LateCall]], None] = lambda _: None, *, at_most: int | None = None
    ) -> None:
        """Late calls arrive now, ``at_most`` so many, in the order they were made or as ``shuffle`` puts them.

        Those to nodes out of reach go on waiting. A node whose leases have a time to live refuses what is later than
        the contract allows (``LATE_CALL_S``); others take it, however much has happened since.
        """
        with self._lock:
            ready = [call for call in self._late if self._is_reachable(call.node) or call.node not in self._nodes]
            shuffle(ready)
            for call in ready[:at_most]:
                self._late.remove(call)
                self._arrive(call)

    def drop_late(self) -> None:
        """Late calls never arrive."""
        with self._lock:
            self._late.clear()

    def repeat(self, node: NodeId) -> None:
        """The next question for events gets the same answer as the last one."""
        with self._lock:
            self._repeat.add(node)

    # what goes wrong with nodes

    def cut(self, node: NodeId) -> None:
        """The node goes on, but nobody reaches it, and it is listed no more."""
        with self._lock:
            self._cut.add(node)

    def mute(self, node: NodeId) -> None:
        """The node goes on and is listed, but answers nobody."""
        with self._lock:
            self._mute.add(node)

    def mend(self, node: NodeId) -> None:
        """The node is reached again; a frozen one goes on, and kills what has expired before anything else."""
        with self._lock:
            self._cut.discard(node)
            self._mute.discard(node)
            if node in self._nodes and self._nodes[node].frozen:
                self._node(node).thaw(self._steady())

    def freeze(self, node: NodeId) -> None:
        """The node does nothing and answers nobody until ``mend``: its processes go on, and nobody sees to them."""
        with self._lock:
            self._advanced(node).frozen = True

    def crash(self, node: NodeId) -> None:
        """The node dies with all that runs on it, and comes back as a new incarnation with its journal."""
        with self._lock:
            self._node(node).restart(self._steady(), planned=False)

    def replace(self, node: NodeId) -> NodeId:
        """The node vanishes for good, with its journal and all that runs; which one has taken its place."""
        with self._lock:
            old = self._advanced(node)
            new = NodeId(f"{node}-r{len(self._gone) + 1}")
            old.runs.clear()
            self._gone.append(old)
            del self._nodes[node]
            self._cut.discard(node)
            self._mute.discard(node)
            info = replace(old.info, id=new, incarnation=f"{new}-1", images=frozenset())
            self._nodes[new] = FakeNode(info, self._script, self._steady())
            return new

    def refuse(self, node: NodeId, *, closing: bool) -> None:
        """While ``closing``, the node takes no leases."""
        with self._lock:
            self._nodes[node].closing = closing

    def skew(self, node: NodeId, ahead_s: float) -> None:
        """The node's wall clock is before the others' by so much; its times are, and nothing else."""
        with self._lock:
            self._skews[node] = ahead_s

    # what a test may look at

    def members(self) -> tuple[NodeId, ...]:
        """The nodes that there are, within reach or not."""
        with self._lock:
            return tuple(self._nodes)

    def running(self, node: NodeId) -> frozenset[AttemptId]:
        """The attempts that a process runs for right now; empty for a node that has gone."""
        with self._lock:
            return self._node(node).alive(self._steady()) if node in self._nodes else frozenset()

    def starts(self) -> Mapping[AttemptId, int]:
        """How often each attempt was started, over all nodes and incarnations."""
        with self._lock:
            total: dict[AttemptId, int] = {}
            for node in (*self._gone, *self._nodes.values()):
                for attempt, times in node.starts.items():
                    total[attempt] = total.get(attempt, 0) + times
            return total

    def next_end(self) -> float | None:
        """When, by the wall clock, the next process ends by itself or by its lease; None when none will."""
        with self._lock:
            ahead = self._clock() - self._steady()
            dues = [due for node in self._nodes.values() if (due := node.next_due()) is not None]
            return min(dues) + ahead if dues else None

    def _call(
        self,
        method: str,
        node: NodeId,
        act: Callable[[FakeNode], _T],
        term: int | None = None,
        *,
        old: Callable[[FakeNode], _T] | None = None,
    ) -> _T:
        with self._lock:
            waiting = self._faults.get(method)
            if waiting and waiting[0] is Fault.LATE and node in self._nodes:
                # on its way, so it may also be to a node out of reach
                self._late.append(LateCall(node, act, term, self._steady()))
                waiting.popleft()
                raise EngineUnavailable(f"node {node} does not answer")
            found = self._reach(node)
            fault = self._fault(method)
            if fault is Fault.LOST:
                raise EngineUnavailable(f"the call of {method} was lost")
            if fault is Fault.REPEATED and old is not None:
                return old(found)
            if term is not None:
                found.check_term(term)
            answer = act(found)
            if fault is Fault.DOUBLED:
                self._late.append(LateCall(node, act, term, self._steady()))
            if fault is Fault.ANSWER_LOST:
                raise EngineUnavailable(f"the answer of {method} was lost")
            return answer

    def _arrive(self, call: LateCall) -> None:
        if call.node not in self._nodes:
            return
        found = self._advanced(call.node)
        if found.info.lease_ttl_s is not None and self._steady() > call.over_at + LATE_CALL_S:
            return
        with suppress(StaleTerm):
            if call.term is not None:
                found.check_term(call.term)
            call.act(found)

    def _fault(self, method: str) -> Fault | None:
        waiting = self._faults.get(method)
        return waiting.popleft() if waiting else None

    def _is_reachable(self, node: NodeId) -> bool:
        if node not in self._nodes or self._nodes[node].frozen:
            return False
        return node not in self._cut and node not in self._mute

    def _reach(self, node: NodeId) -> FakeNode:
        if not self._is_reachable(node):
            raise EngineUnavailable(f"node {node} does not answer")
        return self._advanced(node)

    def _node(self, node: NodeId) -> FakeNode:
        """The node, its wall clock set."""
        found = self._nodes[node]
        found.ahead = self._clock() - self._steady() + self._skews.get(node, 0.0)
        return found

    def _advanced(self, node: NodeId) -> FakeNode:
        found = self._node(node)
        found.advance(self._steady())
        return found
