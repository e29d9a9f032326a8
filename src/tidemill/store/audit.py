"""The audit: rows that are only ever added, chained by keyed hashes (docs/decisions/0099).

Every row's mac covers its content and the mac of the row before it. One row, the head, says which is the newest, under
a seal of its own. ``Mac`` is a keyed hash whose key is not in the database. The old end may be cut; then the anchor
says where the chain begins (docs/decisions/0102).
"""

import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.sql import ColumnElement

from tidemill.model.audit import AuditEntry, AuditOutcome
from tidemill.store import audit_anchor, schema
from tidemill.store.audit_anchor import Anchor, Mac
from tidemill.store.columns import AnyRow

SHOWN: Final = 20
_LOST: Final = "lost"
_AUDIT: Final = schema.audit.c
_HEAD: Final = schema.audit_head.c
_CONTENT: Final = tuple(_AUDIT[each.name] for each in fields(AuditEntry))
_READ_HEAD: Final = select(_HEAD.number, _HEAD.mac, _HEAD.seal)
_IN_ORDER: Final = select(_AUDIT.number, *_CONTENT, _AUDIT.mac).order_by(_AUDIT.number)
_ADD: Final = insert(schema.audit)
_MOVE_HEAD: Final = update(schema.audit_head).values(
    number=bindparam("new_number"), mac=bindparam("new_mac"), seal=bindparam("new_seal")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """What is asked for, newest first. Empty texts and None are no wish; ``resource`` finds all below it too.

    ``after`` is the time and the number of the row before the page.
    """

    workspace: str
    actor: str = ""
    action: str = ""
    resource: str = ""
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, int] | None = None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A row as it is kept."""

    number: int
    entry: AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How many rows there are, the mac of the newest one, and what is wrong, a sentence each (at most 20).

    ``cut``: what is kept no more, None where all of it is.
    """

    rows: int
    cut: Anchor | None
    newest: str
    violations: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows that may go: the number of the first, and the last, which becomes the anchor."""

    first: int
    last: Anchor


def append(connection: Connection, entry: AuditEntry, mac: Mac) -> None:
    """Add a row. Three statements, by primary keys. Of a unit that is undone neither row nor head is left."""
    head = connection.execute(_READ_HEAD).one_or_none()
    if head is None:
        # somebody took it: the audit goes on, and the chain shows the break
        newest = connection.scalar(select(func.max(_AUDIT.number))) or 0
        connection.execute(insert(schema.audit_head).values(id=1, number=newest, mac=_LOST, seal=_LOST))
        head = connection.execute(_READ_HEAD).one()
    number = head.number + 1
    values = {each.name: getattr(entry, each.name) for each in fields(entry)}
    link = _link(number, head.mac, entry, mac)
    connection.execute(_ADD, {**values, "outcome": entry.outcome.value, "number": number, "mac": link})
    connection.execute(_MOVE_HEAD, {"new_number": number, "new_mac": link, "new_seal": _seal(number, link, mac)})


def find_page(connection: Connection, page: AuditPage) -> list[Audited]:
    """Up to ``page.limit`` rows. One statement, over audit_actor, audit_resource or audit_workspace."""
    rows = connection.execute(
        select(_AUDIT.number, *_CONTENT)
        .where(*_wanted(page))
        .order_by(_AUDIT.at.desc(), _AUDIT.number.desc())
        .limit(page.limit)
    )
    return [Audited(number=row.number, entry=_entry(row)) for row in rows]


def check(connection: Connection, mac: Mac) -> Checked:
    """Whether every row is what was added, in the order it was added, up to the newest. Reads the whole table."""
    found: list[str] = []
    anchor, number, before = None, 0, ""
    if (held := audit_anchor.read(connection)) is not None:
        anchor, seal = held
        number, before = anchor.number, anchor.mac
        if not audit_anchor.is_ours(anchor, seal, mac):
            found.append(f"the anchor of the audit was changed: nobody with its key cut it behind row {number}")
    for row in _rows(connection):
        if anchor is not None and row.number <= anchor.number:
            found.append(f"row {row.number} was put in: the audit was cut behind row {anchor.number}")
            continue
        if row.number != number + 1:
            found.append(_gap(number + 1, row.number - 1))
        content = _link(row.number, before, _entry(row), mac)
        # after a gap nothing says what the row followed; its own link is taken up again behind it
        if row.number == number + 1 and not hmac.compare_digest(content.encode(), row.mac.encode()):
            found.append(
                f"row {row.number} is not what was written after row {number}: one of them was changed, moved or put in"
            )
        number, before = row.number, row.mac
    found += _head_violations(connection, number, before, mac)
    rows = number - (0 if anchor is None else anchor.number)
    return Checked(rows=rows, cut=anchor, newest=before, violations=found[:SHOWN])


def is_old(connection: Connection, before: datetime) -> bool:
    """Whether the oldest row is from before then. One statement, by primary key."""
    oldest = connection.scalar(select(_AUDIT.at).order_by(_AUDIT.number).limit(1))
    return oldest is not None and oldest < before


def find_old_end(connection: Connection, before: datetime, mac: Mac, limit: int) -> Cut | str | None:
    """Up to ``limit`` of the oldest rows, all from before then; None where there is none. Two statements.

    Where one of them is not what was written, a sentence that says so: such rows are evidence.
    """
    held = audit_anchor.read(connection)
    number, link = (held[0].number, held[0].mac) if held is not None else (0, "")
    first, last = number + 1, None
    for row in connection.execute(_IN_ORDER.limit(limit)):
        if row.at >= before:
            break
        number += 1
        if row.number != number or not hmac.compare_digest(_link(number, link, _entry(row), mac), row.mac):
            return f"row {row.number} is not what was written after row {number - 1}"
        link, last = row.mac, Anchor(number=number, mac=row.mac, at=row.at)
    return None if last is None else Cut(first=first, last=last)


def cut(connection: Connection, old: Cut, entry: AuditEntry, mac: Mac) -> None:
    """Delete the rows of the old end, and add ``entry``, which tells of it. Six statements, by primary keys."""
    connection.execute(delete(schema.audit).where(_AUDIT.number <= old.last.number))
    audit_anchor.move(connection, old.last, mac)
    append(connection, entry, mac)


def _rows(connection: Connection) -> Iterator[AnyRow]:
    return iter(connection.execution_options(yield_per=1000).execute(_IN_ORDER))


def _head_violations(connection: Connection, number: int, newest: str, mac: Mac) -> list[str]:
    head = connection.execute(_READ_HEAD).one_or_none()
    if head is None:
        return ["the head of the audit is gone: how many rows there were is not known any more"]
    if head.number > number:
        return [_gap(number + 1, head.number)]
    if head.number < number:
        return [f"rows after {head.number} were put in: the head of the audit does not know them"]
    sealed = _seal(number, newest, mac) if number else ""
    if head.mac != newest or not hmac.compare_digest(head.seal.encode(), sealed.encode()):
        return [f"the head of the audit was changed: it is not what was written with row {number}"]
    return []


def _gap(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"


def _wanted(page: AuditPage) -> Iterator[ColumnElement[bool]]:
    yield _AUDIT.workspace == page.workspace
    if page.actor:
        yield _AUDIT.actor == page.actor
    if page.action:
        yield _AUDIT.action == page.action
    if page.resource:
        below = f"{page.resource}/"
        # "0" is the character after "/": a range that an index finds, whatever the name holds
        yield or_(
            _AUDIT.resource == page.resource, and_(_AUDIT.resource >= below, _AUDIT.resource < f"{page.resource}0")
        )
    if page.since is not None:
        yield _AUDIT.at >= page.since
    if page.until is not None:
        yield _AUDIT.at < page.until
    if page.after is not None:
        yield tuple_(_AUDIT.at, _AUDIT.number) < tuple_(*page.after, types=[_AUDIT.at.type, _AUDIT.number.type])


def _entry(row: AnyRow) -> AuditEntry:
    values = {each.name: getattr(row, each.name) for each in fields(AuditEntry)}
    return AuditEntry(**{**values, "outcome": AuditOutcome(row.outcome)})


def _link(number: int, before: str, entry: AuditEntry, mac: Mac) -> str:
    content = [str(getattr(entry, each.name)) for each in fields(entry)]
    return mac(json.dumps(["row", number, before, *content]).encode()).hex()


def _seal(number: int, newest: str, mac: Mac) -> str:
    return mac(json.dumps(["head", number, newest]).encode()).hex()
