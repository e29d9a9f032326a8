"""The audit: rows that are only ever added, chained by keyed hashes (docs/decisions/0099).

Every row's mac covers its content and the mac of the row before it. One row, the head, says which is the newest, under
a seal of its own. ``Mac`` is a keyed hash whose key is not in the database.
"""

import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, tuple_, update
from sqlalchemy.sql import ColumnElement

from tidemill.model.audit import AuditEntry, AuditOutcome
from tidemill.store import schema
from tidemill.store.columns import AnyRow

Mac: TypeAlias = Callable[[bytes], bytes]

SHOWN: Final = 20
_LOST: Final = "lost"
_AUDIT: Final = schema.audit.c
_HEAD: Final = schema.audit_head.c
_CONTENT: Final = tuple(_AUDIT[each.name] for each in fields(AuditEntry))
_READ_HEAD: Final = select(_HEAD.number, _HEAD.mac, _HEAD.seal)
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
    """How many rows there are, the mac of the newest one, and what is wrong, a sentence each (at most 20)."""

    rows: int
    newest: str
    violations: Sequence[str]


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
    number, before = 0, ""
    for row in _rows(connection):
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
    return Checked(rows=number, newest=before, violations=found[:SHOWN])


def _rows(connection: Connection) -> Iterator[AnyRow]:
    query = select(_AUDIT.number, *_CONTENT, _AUDIT.mac).order_by(_AUDIT.number)
    return iter(connection.execution_options(yield_per=1000).execute(query))


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
