"""What server and node say to each other (model/lease.py) as JSON documents, and back.

Each ``read_*`` raises KeyError, TypeError or ValueError on what its ``write_*`` has not written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.lease import (
    Acknowledgement,
    BlobRef,
    BuildLease,
    Event,
    EventBatch,
    EventKind,
    Inventory,
    Lease,
    LogBatch,
    LogBlock,
    NodeInfo,
    Outcome,
    OutcomeKind,
    Position,
    Pull,
    Refusal,
    TaskLease,
)
from tidemill.model.protections import Stated
from tidemill.model.volume import Volume
from tidemill.node.channel.frames import Document, Frame


def write_attempts(attempts: Iterable[AttemptId]) -> list[str]:
    return [str(attempt) for attempt in attempts]


def read_attempts(texts: Sequence[str]) -> list[AttemptId]:
    return [AttemptId.parse(text) for text in texts]


def write_lease(lease: Lease) -> Document:
    common: Document = {
        "attempt": str(lease.attempt),
        "log_key": lease.log_key,
        "memory_mb": lease.memory_mb,
        "timeout_s": lease.timeout_s,
        "grace_s": lease.grace_s,
        "log_max_bytes": lease.log_max_bytes,
        "ttl_s": lease.ttl_s,
    }
    if isinstance(lease, BuildLease):
        return common | {
            "source": None if lease.source is None else _write_blob(lease.source),
            "pull": None if lease.pull is None else asdict(lease.pull),
            "upload_url": lease.upload_url,
            "max_unpacked_bytes": lease.max_unpacked_bytes,
            "max_entries": lease.max_entries,
        }
    return common | {
        "image": _write_blob(lease.image),
        "arguments": lease.arguments,
        "environment": dict(lease.environment),
        "network": lease.network,
        "disk_mb": lease.disk_mb,
        "volumes": [asdict(volume) for volume in lease.volumes],
        "result_max_bytes": lease.result_max_bytes,
    }


def read_lease(document: Document) -> Lease:
    attempt = AttemptId.parse(document["attempt"])
    if attempt.kind is OwnerKind.BUILD:
        source, pull = document["source"], document["pull"]
        return BuildLease(
            **{
                **document,
                "attempt": attempt,
                "source": None if source is None else BlobRef(**source),
                "pull": None if pull is None else Pull(**pull),
            }
        )
    volumes = tuple(Volume(**volume) for volume in document["volumes"])
    return TaskLease(**{**document, "attempt": attempt, "image": BlobRef(**document["image"]), "volumes": volumes})


def _write_blob(blob: BlobRef) -> Document:
    return {"name": blob.name, "digest": blob.digest, "url": blob.url}


def write_acknowledgement(acknowledgement: Acknowledgement) -> Document:
    return {"attempt": str(acknowledgement.attempt), "refused": acknowledgement.refused}


def read_acknowledgement(document: Document) -> Acknowledgement:
    refused = document["refused"]
    return Acknowledgement(
        attempt=AttemptId.parse(document["attempt"]), refused=None if refused is None else Refusal(refused)
    )


def write_outcome(outcome: Outcome) -> Document:
    """Only what is set."""
    document: Document = {"kind": outcome.kind.value, "ended_at": outcome.ended_at}
    for name in (
        *("exit_code", "signal", "started_at", "peak_memory_bytes", "cpu_s", "result", "result_error"),
        *("message", "planned", "protections"),
    ):
        value = getattr(outcome, name)
        if value not in (None, "", False) or (value == 0 and value is not False):
            document[name] = value
    return document


def read_outcome(document: Document) -> Outcome:
    return Outcome(**{**document, "kind": OutcomeKind(document["kind"])})


def write_event(event: Event) -> Document:
    document: Document = {
        "number": event.number,
        "attempt": str(event.attempt),
        "kind": event.kind.value,
        "at": event.at,
    }
    if event.outcome is not None:
        document["outcome"] = write_outcome(event.outcome)
    if event.protections is not None:
        document["protections"] = event.protections
    return document


def read_event(document: Document) -> Event:
    outcome = document.get("outcome")
    return Event(
        number=document["number"],
        attempt=AttemptId.parse(document["attempt"]),
        kind=EventKind(document["kind"]),
        at=document["at"],
        outcome=None if outcome is None else read_outcome(outcome),
        protections=document.get("protections"),
    )


def write_position(position: Position) -> Document:
    return {"incarnation": position.incarnation, "number": position.number}


def read_position(document: Document) -> Position:
    return Position(incarnation=document["incarnation"], number=document["number"])


def write_event_batch(batch: EventBatch) -> Document:
    return {
        "incarnation": batch.incarnation,
        "events": [write_event(event) for event in batch.events],
        "log_head": batch.log_head,
    }


def read_event_batch(document: Document) -> EventBatch:
    return EventBatch(
        incarnation=document["incarnation"],
        events=tuple(read_event(event) for event in document["events"]),
        log_head=document["log_head"],
    )


def write_log_batch(batch: LogBatch) -> Frame:
    """The blocks' data is the frame's tail, one after the other."""
    blocks = [
        {
            **{name: value for name, value in asdict(block).items() if name != "data"},
            "size": len(block.data),
        }
        for block in batch.blocks
    ]
    tail = b"".join(block.data for block in batch.blocks)
    return Frame({"ok": {"incarnation": batch.incarnation, "blocks": blocks}}, tail)


def read_log_batch(document: Document, tail: bytes) -> LogBatch:
    blocks: list[LogBlock] = []
    start = 0
    for block in document["blocks"]:
        end = start + block.pop("size")
        blocks.append(LogBlock(**block, data=tail[start:end]))
        start = end
    return LogBatch(incarnation=document["incarnation"], blocks=tuple(blocks))


def write_node(info: NodeInfo) -> Document:
    return {**asdict(info), "capabilities": sorted(info.capabilities), "images": sorted(info.images)}


def read_node(document: Document) -> NodeInfo:
    return NodeInfo(
        **{
            **document,
            "id": NodeId(document["id"]),
            "capabilities": frozenset(document["capabilities"]),
            "images": frozenset(document["images"]),
            "protections": tuple(Stated(**each) for each in document.get("protections", ())),
        }
    )


def write_inventory(inventory: Inventory) -> Document:
    return {"incarnation": inventory.incarnation, "attempts": write_attempts(inventory.attempts)}


def read_inventory(document: Document) -> Inventory:
    return Inventory(incarnation=document["incarnation"], attempts=frozenset(read_attempts(document["attempts"])))
