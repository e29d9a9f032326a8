"""Deleting many rows in bounded pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select
from sqlalchemy import tuple_ as tuple_of

# what is deleted is read first: a row of several pages is a chain that SQLite follows
UNIT_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rows that go with their owner: their table, its primary key from the owner on, and what else tells them.

    ``size`` is the bytes of a row that may be large.
    """

    table: Table
    key: tuple[Column[Any], ...]
    where: tuple[ColumnElement[bool], ...] = ()
    size: ColumnElement[int] | None = None


def cut(connection: Connection, kind: Kind, owners: Sequence[int], limit: int) -> tuple[bool, int]:
    """Delete up to ``limit`` rows of ``owners``, about 8 MiB; whether none is left, and what of the limit.

    Three statements, by primary key.
    """
    if limit <= 0:
        return False, 0
    size = () if kind.size is None else (kind.size,)
    owner, *rest = kind.key
    found = connection.execute(
        select(*kind.key, *size).where(*kind.where, owner.in_(owners)).order_by(*kind.key).limit(limit)
    ).all()
    taken, total = 0, 0
    while taken < len(found) and (taken == 0 or total < UNIT_BYTES):
        total += found[taken][-1] if size else 0
        taken += 1
    if taken:
        last = tuple(found[taken - 1])[: len(kind.key)]
        before = [one for one in owners if one < last[0]]
        connection.execute(delete(kind.table).where(*kind.where, owner.in_(before)))
        connection.execute(delete(kind.table).where(*kind.where, owner == last[0], tuple_of(*rest) <= last[1:]))
    return taken == len(found) < limit, limit - taken
