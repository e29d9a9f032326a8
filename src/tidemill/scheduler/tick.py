"""One pass: look, plan, act. Safe to run twice, late, or after a crash at any line."""

import os
import socket
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.model.ids import ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import EventBatch, NodeInfo, Position
from tidemill.model.outlook import NodeOutlook, Outlook, Waiter
from tidemill.scheduler.adopt import adopt
from tidemill.scheduler.launch import Launcher
from tidemill.scheduler.parts import Parts
from tidemill.scheduler.plan import Cancel, Decision, Overtaken, Promote, Snapshot, TimeOut, next_due, plan
from tidemill.scheduler.reconcile import reconcile
from tidemill.scheduler.renew import Renewer
from tidemill.store import nodes
from tidemill.store.ledger import Finished, time_out_executions
from tidemill.store.ledger_claim import BuildClaim, Claim, Claimed, claim, promote
from tidemill.store.ledger_settle import Report, settle, units
from tidemill.store.snapshot import look

TERM_NAME: Final = "scheduler"
KEPT_TURNS: Final = 10_000
_NODES_KEPT_EVERY: Final = timedelta(seconds=60)

_LOG: Final = structlog.get_logger("tidemill.scheduler")


class Ticker:
    """The scheduler without its threads: what it remembers between two passes is only to save work.

    One thread calls ``settle`` and ``tick``. After a crash nothing is repaired: the next pass looks again.
    """

    def __init__(self, parts: Parts, *, now: datetime) -> None:
        """Take the term. Raises what the database raises."""
        self._parts = parts
        self._renewer = Renewer(parts)
        self._launcher = Launcher(parts, self._renewer)
        self._turns = _Turns()
        self._overtaken: dict[Waiter, float] = {}  # in the order in which they were, since when by the steady clock
        self._cleared: dict[NodeId, Waiter] = {}
        self._nodes: dict[NodeId, NodeInfo] = {}
        self._live: Mapping[NodeId, int] = {}
        # pauses between looks are measured by the steady clock: the wall clock may be set back
        self._look_at = parts.steady()
        self._kept_at: datetime | None = None
        self._reconciled: dict[NodeId, float] = {}
        self._doubtful: dict[NodeId, float] = {}  # not given work until reconciled, tried from this time on
        self._silent: set[NodeId] = set()  # did not answer when last asked: nothing is sent that prolongs leases
        self._incarnations: dict[NodeId, str] = {}
        self._term = 0
        self._outlook = Outlook(grace=timedelta(seconds=parts.policy.grace_s))
        self._take_term(now)

    @property
    def term(self) -> int:
        return self._term

    @property
    def nodes(self) -> Sequence[NodeId]:
        """The nodes that answered when they were last asked for."""
        return tuple(self._nodes)

    @property
    def outlook(self) -> Outlook:
        """How things looked at the end of the last pass. Any thread may ask."""
        return self._outlook

    def live(self, node: NodeId) -> int:
        """How many attempts ``node`` held when the last pass looked. Any thread may ask."""
        return self._live.get(node, 0)

    def settle(self, node: NodeId, batch: EventBatch, now: datetime) -> Position | None:
        """Commit what a node reported; up to where it may forget it. None for an empty batch."""
        if self._incarnations.setdefault(node, batch.incarnation) != batch.incarnation:
            self._incarnations[node] = batch.incarnation
            self._doubtful.setdefault(node, self._parts.steady())
        position: Position | None = None
        for events in units(batch.events):
            position = Position(incarnation=batch.incarnation, number=events[-1].number)
            report = Report(node=node, events=events, position=position, built=adopt(self._parts.blobs, events))
            done = self._parts.database.write(
                lambda connection, report=report: settle(  # type: ignore[misc]  # the default binds it to this turn
                    connection, report, now=now, jitter=self._parts.jitter
                ),
                urgent=True,
                wakes=False,
            )
            _log_ended(done.executions)
        return position

    def tick(self, now: datetime) -> datetime:
        """One pass; when the next one is due if nothing happens before."""
        policy = self._parts.policy
        try:
            if self._look_at_nodes(now):
                self._renew(now)
            self._reconcile(now)
            again = self._decide(now)
        except StaleTerm as error:
            # one server holds the data directory, so the higher term was its own, in a life it does not remember
            self._parts.problems.report("term", error.message)
            self._take_term(now)
            return now + timedelta(seconds=policy.look_every_s)
        self._parts.problems.clear("term")
        self._outlook = self._look_around(now)
        look_again = now + timedelta(seconds=policy.look_every_s)
        return min([look_again, *([again] if again is not None else [])])

    def _look_around(self, now: datetime) -> Outlook:
        """What is known of the nodes now. One that is doubtful without a problem is asked what it runs first."""
        problems = self._parts.problems
        doubts = {node: problems.of(f"node {node}") or "it is asked first what it runs" for node in self._doubtful}
        return replace(
            self._outlook,
            looked_at=now,
            engine=problems.of("engine"),
            nodes=tuple(
                NodeOutlook(info=info, trouble=doubts.get(node, ""), cleared_for=self._cleared.get(node))
                for node, info in self._nodes.items()
            ),
        )

    def _take_term(self, now: datetime) -> None:
        holder = f"{socket.gethostname()}/{os.getpid()}"
        self._term = self._parts.database.write(
            lambda connection: nodes.take_term(connection, TERM_NAME, holder=holder, now=now), urgent=True, wakes=False
        )

    def _look_at_nodes(self, now: datetime) -> bool:
        """Ask for the nodes, unless that was done a moment ago; whether it was time to."""
        if self._parts.steady() < self._look_at:
            return False
        self._look_at = self._parts.steady() + self._parts.policy.look_every_s
        try:
            infos = self._parts.engine.nodes()
        except EngineUnavailable as error:
            self._parts.problems.report("engine", error.message)
            self._nodes = {}
            return True
        self._parts.problems.clear("engine")
        changed = False
        for info in infos:
            changed = changed or self._nodes.get(info.id) != info
            if info.id not in self._reconciled or self._incarnations.get(info.id) != info.incarnation:
                self._incarnations[info.id] = info.incarnation
                self._doubtful.setdefault(info.id, self._parts.steady())
        self._nodes = {info.id: info for info in infos}
        self._renewer.know(infos)
        if changed or self._kept_at is None or now - self._kept_at >= _NODES_KEPT_EVERY:
            self._parts.database.write(
                lambda connection: nodes.seen(connection, infos, now=now), urgent=True, wakes=False
            )
            self._kept_at = now
        return True

    def _renew(self, now: datetime) -> None:
        for node in self._renewer.renew([node for node in self._nodes if node not in self._silent], self._term):
            self._silent.add(node)
            self._doubtful[node] = self._parts.steady()
        self._renewer.give_up(now)

    def _reconcile(self, now: datetime) -> None:
        for node in self._nodes:
            doubtful = self._doubtful.get(node)
            due = doubtful if doubtful is not None else self._reconciled[node] + self._parts.policy.reconcile_every_s
            if self._parts.steady() < due:
                continue
            try:
                clear = reconcile(self._parts, self._launcher, node, term=self._term, now=now)
                self._silent.discard(node)
            except EngineUnavailable as error:
                self._parts.problems.report(f"node {node}", error.message)
                self._silent.add(node)
                clear = False
            self._reconciled[node] = self._parts.steady()
            if clear:
                self._doubtful.pop(node, None)
                self._parts.problems.clear(f"node {node}")
            else:
                self._doubt(node)

    def _doubt(self, node: NodeId) -> None:
        self._doubtful[node] = self._parts.steady() + self._parts.policy.look_every_s

    def _decide(self, now: datetime) -> datetime | None:
        """Look, plan, act; when something that only waits for its time is due."""
        usable = [info for node, info in self._nodes.items() if node not in self._doubtful]
        window = sum(info.slots for info in usable)
        view = self._parts.database.read(lambda connection: look(connection, window=window))
        self._live = Counter(one.node for one in view.live)
        steady = self._parts.steady()
        favoured_before = steady - self._parts.policy.starving_after_s
        decisions = plan(
            Snapshot(
                now=now,
                nodes=usable,
                view=view,
                turns=self._turns.numbers,
                overtaken=tuple(self._overtaken),
                favoured=sum(since <= favoured_before for since in self._overtaken.values()),
            )
        )
        self._remember([one for one in decisions if isinstance(one, Overtaken)], steady, usable=bool(usable))
        timed_out = self._time_out([one.execution for one in decisions if isinstance(one, TimeOut)], now)
        promoted = self._act(decisions, now)
        for queue in view.queued:
            if promoted.intersection(queue.keys):
                self._turns.served(("queue", queue.job))
        # the next look sees it: what was promoted may be claimed at once, and what timed out has tasks to be ended
        return now if promoted or timed_out else next_due(view, now)

    def _time_out(self, keys: Sequence[ExecutionKey], now: datetime) -> bool:
        if keys:
            _log_ended(
                self._parts.database.write(
                    lambda connection: time_out_executions(connection, keys, now=now), urgent=True, wakes=False
                )
            )
        return bool(keys)

    def _remember(self, overtaken: Sequence[Overtaken], steady: float, *, usable: bool) -> None:
        """Since when each was overtaken. A plan without nodes says nothing of it."""
        if usable:
            self._overtaken = {one.waiter: self._overtaken.get(one.waiter, steady) for one in overtaken}
        self._cleared = {one.cleared: one.waiter for one in overtaken if one.cleared is not None}

    def _act(self, decisions: Sequence[Decision], now: datetime) -> frozenset[ExecutionKey]:
        """Intent first: promotions and claims are committed before the engine is asked for anything."""
        wishes = [one.execution for one in decisions if isinstance(one, Promote)]
        claims = [one for one in decisions if not isinstance(one, TimeOut | Promote | Cancel | Overtaken)]
        promoted: list[ExecutionKey] = []
        if wishes:
            promoted = self._parts.database.write(
                lambda connection: promote(connection, wishes, now=now), urgent=True, wakes=False
            )
        if claims:
            term = self._term
            claimed = self._parts.database.write(
                lambda connection: claim(connection, claims, term=term, now=now), urgent=True, wakes=False
            )
            self._launch(claims, claimed, now)
        for one in decisions:
            if isinstance(one, Cancel):
                self._cancel(one, now)
        return frozenset(promoted)

    def _launch(self, claims: Sequence[Claim], claimed: Sequence[Claimed], now: datetime) -> None:
        by_node: dict[NodeId, list[Claimed]] = {}
        for one in claimed:
            by_node.setdefault(one.node, []).append(one)
        served = {one.attempt.owner: one for one in claimed if one.attempt.kind is OwnerKind.TASK}
        for wish in claims:
            if not isinstance(wish, BuildClaim) and wish.execution in served:
                self._turns.served(("workspace", served[wish.execution].workspace))
                self._turns.served(("job", served[wish.execution].job))
        # whatever stops us on the way: what was claimed and not launched is found by reconciliation
        for node in by_node:
            self._doubt(node)
        for node, here in by_node.items():
            if self._launcher.launch(node, [one.attempt for one in here], term=self._term, now=now):
                del self._doubtful[node]

    def _cancel(self, decision: Cancel, now: datetime) -> None:
        try:
            self._parts.engine.cancel(decision.node, decision.attempts, self._parts.policy.grace_s, self._term)
        except EngineUnavailable as error:
            self._parts.problems.report(f"node {decision.node}", error.message)
            self._doubt(decision.node)
            return
        self._parts.database.write(
            lambda connection: nodes.told(connection, decision.attempts, now=now), urgent=True, wakes=False
        )


class _Turns:
    """Who was served when: a number per key that only grows; the least recent of many are forgotten."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()
        self._last = 0

    @property
    def numbers(self) -> OrderedDict[Hashable, int]:
        return self._numbers

    def served(self, key: Hashable) -> None:
        self._last += 1
        self._numbers[key] = self._last
        self._numbers.move_to_end(key)
        if len(self._numbers) > KEPT_TURNS:
            self._numbers.popitem(last=False)


def _log_ended(executions: Sequence[Finished]) -> None:
    for one in executions:
        _LOG.info("execution ended", workspace=one.workspace, execution=one.id, state=one.state, failed=one.failed)
