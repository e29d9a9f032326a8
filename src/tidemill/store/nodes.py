"""Nodes as the scheduler last saw them, how far it has read them, and the term."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.lease import NodeInfo, Position
from tidemill.model.protections import Stated
from tidemill.store import schema

_NODE: Final = schema.node.c
_ATTEMPT: Final = schema.attempt.c
_TERM: Final = schema.term.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Up to where a node's events and log blocks are committed."""

    events: Position
    logs: Position


def seen(connection: Connection, infos: Sequence[NodeInfo], *, now: datetime) -> None:
    """Keep what nodes have. Two statements each; positions are left alone."""
    for info in infos:
        values = {
            "region": info.region,
            "memory_mb": info.memory_mb,
            "slots": info.slots,
            "lease_ttl_s": info.lease_ttl_s,
            "level": info.level,
            "protections": [asdict(stated) for stated in info.protections],
            "seen_at": now,
        }
        if connection.execute(update(schema.node).where(_NODE.id == info.id).values(values)).rowcount == 0:
            connection.execute(insert(schema.node).values(id=info.id, incarnation="", **values))


def read_up_to(connection: Connection, node: NodeId) -> Read:
    """Where to go on reading a node; the beginning for an unknown one. One statement, by primary key."""
    row = connection.execute(
        select(_NODE.incarnation, _NODE.events_after, _NODE.logs_incarnation, _NODE.logs_after).where(_NODE.id == node)
    ).one_or_none()
    if row is None:
        return Read(events=Position(), logs=Position())
    return Read(
        events=Position(incarnation=row.incarnation, number=row.events_after),
        logs=Position(incarnation=row.logs_incarnation, number=row.logs_after),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A node as it was last seen. ``memory_mb`` and ``slots`` are 0 of one that takes nothing more."""

    id: NodeId
    region: str
    memory_mb: int
    slots: int
    level: str
    protections: tuple[Stated, ...]
    seen_at: datetime


def find_all(connection: Connection) -> list[Seen]:
    """Every node that was ever seen, by id. One statement; there are as many rows as machines."""
    rows = connection.execute(
        select(
            _NODE.id, _NODE.region, _NODE.memory_mb, _NODE.slots, _NODE.level, _NODE.protections, _NODE.seen_at
        ).order_by(_NODE.id)
    )
    return [
        Seen(
            id=NodeId(row.id),
            region=row.region,
            memory_mb=row.memory_mb,
            slots=row.slots,
            level=row.level,
            protections=tuple(Stated(**stated) for stated in row.protections),
            seen_at=row.seen_at,
        )
        for row in rows
    ]


def lease_ttls(connection: Connection) -> dict[NodeId, float]:
    """The nodes whose leases have a time to live, in seconds. One statement; there is a row per node ever seen."""
    rows = connection.execute(select(_NODE.id, _NODE.lease_ttl_s).where(_NODE.lease_ttl_s.is_not(None)))
    return {NodeId(row.id): row.lease_ttl_s for row in rows}


def take_term(connection: Connection, name: str, *, holder: str, now: datetime) -> int:
    """A number higher than any before: the right of ``holder`` to give leases. Two statements."""
    values = {"holder": holder, "taken_at": now}
    number = connection.execute(
        update(schema.term).where(_TERM.name == name).values(number=_TERM.number + 1, **values).returning(_TERM.number)
    ).scalar_one_or_none()
    if number is None:
        connection.execute(insert(schema.term).values(name=name, number=1, **values))
        return 1
    return int(number)


def told(connection: Connection, attempts: Sequence[AttemptId], *, now: datetime) -> None:
    """The node of these attempts was told to end them. One executemany, by primary key."""
    if attempts:
        connection.execute(
            update(schema.attempt)
            .where(
                _ATTEMPT.kind == bindparam("the_kind"),
                _ATTEMPT.owner == bindparam("the_owner"),
                _ATTEMPT.idx == bindparam("the_index"),
                _ATTEMPT.number == bindparam("the_number"),
                _ATTEMPT.ended_at.is_(None),
            )
            .values(cancel_sent_at=bindparam("now")),
            [
                {
                    "the_kind": attempt.kind.value,
                    "the_owner": attempt.owner,
                    "the_index": attempt.index,
                    "the_number": attempt.number,
                    "now": now,
                }
                for attempt in attempts
            ],
        )
