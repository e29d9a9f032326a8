"""What the store and a node say about each other's attempts, and making them agree."""

from datetime import datetime

from tidemill.model.ids import NodeId
from tidemill.scheduler.launch import Launcher
from tidemill.scheduler.parts import Parts
from tidemill.store.snapshot import live_attempts, unclaimable


def reconcile(parts: Parts, launcher: Launcher, node: NodeId, *, term: int, now: datetime) -> bool:
    """Make the node's attempts those that the store calls live. False when the node takes no more for now.

    Asked in this order: every attempt a node knows was on record before it started, so one that the store does not call
    live has ended or was given up. A live one that the node does not know (its inventory covers what it inherited from
    the incarnation before) has never started: it is launched again under the same id, or given up when nobody wants it
    any more. Raises EngineUnavailable and StaleTerm.
    """
    known = parts.engine.inventory(node).attempts
    live = [one.attempt for one in parts.database.read(live_attempts) if one.node == node]
    missing = [attempt for attempt in live if attempt not in known]
    unwanted = parts.database.read(lambda connection: unclaimable(connection, missing)) if missing else frozenset()
    launcher.forget(node, sorted(unwanted), now)
    stray = known.difference(live)
    if stray:
        gone = parts.engine.withdraw(node, sorted(stray), term)
        parts.engine.cancel(node, sorted(stray.difference(gone)), parts.policy.grace_s, term)
    wanted = [attempt for attempt in missing if attempt not in unwanted]
    return launcher.launch(node, wanted, term=term, now=now) if wanted else True
