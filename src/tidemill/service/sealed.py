"""What the ledger holds sealed, and which of it does not open: told of by table and id, never by value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from tidemill.secrets import KeyRing, KeyRingError, key_of
from tidemill.store import envelopes
from tidemill.store.database import Connection
from tidemill.store.envelopes import Held, Holder

SHOWN: Final = 100
"""So many are named."""

Read = Callable[[Callable[[Connection], list[Holder]]], list[Holder]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """An envelope that does not open. ``id``: the key of its row, for a revision with the variable's name.

    ``key``: the one that it names; "" where there is no envelope at all.
    """

    table: str
    id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``envelopes``: how many there are; ``unopened``: how many do not open, ``first`` the first 100 of them."""

    envelopes: int
    unopened: int
    first: tuple[Unopened, ...]


def look(read: Read, ring: KeyRing) -> Look:
    """Try every envelope. Reads every revision and every execution, 500 a statement."""
    count, unopened_count, first = 0, 0, list[Unopened]()
    for page in pages(read):
        for holder in page:
            found = list(unopened(ring, holder))
            count += max(len(holder.envelopes), len(found))
            unopened_count += len(found)
            first += found[: SHOWN - len(first)]
    return Look(envelopes=count, unopened=unopened_count, first=tuple(first))


def pages(read: Read) -> Iterator[list[Holder]]:
    """Every row that may hold envelopes, by page, in the order in which they are sealed again."""
    for place in envelopes.places():
        after = None
        while page := read(partial(envelopes.read_page, place=place, after=after)):
            yield page
            after = page[-1].key


def unopened(ring: KeyRing, holder: Holder) -> Iterator[Unopened]:
    """Those of a row that do not open; the row itself where it cannot be read."""
    table, key = holder.table, "/".join(map(str, holder.key))
    if holder.is_broken:
        yield Unopened(table=table, id=key, key="")
    for held in holder.envelopes:
        if opened(ring, held) is None:
            name = f"{key}/{held.name}" if held.name else key
            yield Unopened(table=table, id=name, key=key_of(held.sealed))


def opened(ring: KeyRing, held: Held) -> str | None:
    """What is in an envelope; None where it does not open."""
    try:
        return ring.open(held.sealed, held.about)
    except KeyRingError:
        return None
