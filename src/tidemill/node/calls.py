"""What a node answers to each call of the channel."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from tidemill.model.ids import NodeId
from tidemill.model.lease import Inventory, LogBatch, NodeInfo
from tidemill.model.protections import Stated
from tidemill.node.channel import codec
from tidemill.node.channel.frames import Document, Frame
from tidemill.node.channel.server import Answer, check_term
from tidemill.node.events import Events
from tidemill.node.images import Images
from tidemill.node.journal import Journal
from tidemill.node.output.spool import Spool
from tidemill.node.settings import NodeSettings
from tidemill.node.supervisor import Supervisor

NODE_ID = NodeId("local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What calls are answered from. ``stop`` ends the node when nothing runs; with True, whatever runs."""

    settings: NodeSettings
    incarnation: str
    capabilities: frozenset[str]
    level: str
    protections: tuple[Stated, ...]
    images: Images
    journal: Journal
    events: Events
    spool: Spool
    supervisor: Supervisor
    stop: Callable[[bool], None]


class Calls:
    """The calls by name; each gets the question and whether it must be answered now."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told_log_head = 0
        self._calls: dict[str, Callable[[Document], Document]] = {
            "nodes": self._nodes,
            "launch": self._launch,
            "renew": self._renew,
            "cancel": self._cancel,
            "withdraw": self._withdraw,
            "inventory": self._inventory,
            "drain": self._drain,
            "detach": self._detach,
            "close": self._close,
        }

    def answer(self, question: Document, last: bool) -> Answer:
        name = question["call"]
        if name == "events":
            return self._events(question, last=last)
        if name == "logs":
            return self._logs(question)
        return Frame({"ok": self._calls[name](question)})

    def connections(self, count: int) -> None:
        """A server that comes after the last one has left is told of every log block that waits."""
        self._parts.events.heard = count > 0
        if count == 0:
            self._told_log_head = 0

    def _nodes(self, _question: Document) -> Document:
        parts = self._parts
        open_ = not parts.supervisor.closing
        info = NodeInfo(
            id=NODE_ID,
            region=parts.settings.region,
            memory_mb=parts.settings.memory_mb if open_ else 0,
            slots=parts.settings.slots if open_ else 0,
            incarnation=parts.incarnation,
            capabilities=parts.capabilities,
            images=parts.images.held(),
            level=parts.level,
            protections=parts.protections,
        )
        return codec.write_node(info)

    def _launch(self, question: Document) -> Document:
        self._check_term(question)
        taken = self._parts.supervisor.launch([codec.read_lease(lease) for lease in question["leases"]])
        return {"acknowledgements": [codec.write_acknowledgement(each) for each in taken]}

    def _renew(self, question: Document) -> Document:
        self._check_term(question)
        self._parts.supervisor.renew(codec.read_attempts(question["attempts"]), question["ttl_s"])
        return {}

    def _cancel(self, question: Document) -> Document:
        self._check_term(question)
        self._parts.supervisor.cancel(codec.read_attempts(question["attempts"]), question["grace_s"])
        return {}

    def _withdraw(self, question: Document) -> Document:
        self._check_term(question)
        attempts = self._parts.supervisor.withdraw(codec.read_attempts(question["attempts"]))
        return {"attempts": codec.write_attempts(attempts)}

    def _inventory(self, _question: Document) -> Document:
        parts = self._parts
        return codec.write_inventory(Inventory(incarnation=parts.incarnation, attempts=parts.supervisor.inventory()))

    def _events(self, question: Document, *, last: bool) -> Answer:
        parts = self._parts
        after = self._after(question)
        parts.supervisor.forget(parts.events.acknowledge(after))
        head = parts.spool.head
        batch = parts.events.batch(parts.incarnation, after, head)
        if not batch.events and not last and head <= self._told_log_head and question["wait_s"] > 0:
            return None
        self._told_log_head = head
        return Frame({"ok": codec.write_event_batch(batch)})

    def _logs(self, question: Document) -> Frame:
        parts = self._parts
        after = self._after(question)
        parts.spool.acknowledge(after)
        blocks = parts.spool.read(after, question["max_bytes"])
        return codec.write_log_batch(LogBatch(incarnation=parts.incarnation, blocks=tuple(blocks)))

    def _drain(self, _question: Document) -> Document:
        self._parts.supervisor.drain()
        self._parts.stop(False)
        return self._busy()

    def _detach(self, _question: Document) -> Document:
        busy = self._busy()
        if not busy["busy"]:
            self._parts.stop(False)
        return busy

    def _close(self, _question: Document) -> Document:
        busy = self._busy()
        self._parts.stop(True)
        return busy

    def _busy(self) -> Document:
        return {"pid": os.getpid(), "busy": self._parts.supervisor.busy}

    def _after(self, question: Document) -> int:
        position = codec.read_position(question["after"])
        return position.number if position.incarnation == self._parts.incarnation else 0

    def _check_term(self, question: Document) -> None:
        term = question["term"]
        check_term(term, self._parts.journal.term)
        if term > self._parts.journal.term:
            self._parts.journal.raise_term(term)
