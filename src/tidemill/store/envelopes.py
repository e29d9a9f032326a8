"""Every envelope that the ledger holds: found by page, and replaced where nobody else has changed it meanwhile."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Text, select, tuple_, type_coerce, update

from tidemill.store.columns import AnyRow, metadata
from tidemill.store.schema import revision

PAGE: Final = 500
_REVISION: Final = revision.c
_text: Final = type_coerce(_REVISION.spec, Text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A column that holds one envelope a row, "" for none. ``about`` is what it is bound to, with the row's key."""

    table: str
    key: str
    column: str
    about: str


PLACES: Final = (
    Place(table="execution", key="key", column="env_sealed", about="execution/{}"),
    Place(table="signing_key", key="kid", column="private_sealed", about="signing key/{}"),
    Place(table="callback", key="key", column="secret_sealed", about="callback/{}"),
    Place(table="callback", key="key", column="older_sealed", about="callback/{}/older"),
    Place(table="build", key="key", column="credentials_sealed", about="build/{}"),
    # the last one: until all others are done, the check says that the older key is still needed
    Place(table="key_check", key="id", column="sealed", about="key check"),
)
"""In the order in which they are sealed again; secret variables of revisions go before all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An envelope: ``about`` what it is bound to. ``name``: of the variable, "" where the row has but one envelope."""

    sealed: str = field(repr=False)
    about: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A row and its envelopes. ``key`` is its primary key, ``seen`` the text that it held when it was read.

    ``is_broken``: that is not what it should be, and envelopes in it cannot be found.
    """

    place: Place | None
    key: tuple[Any, ...]
    seen: str = field(repr=False)
    envelopes: Sequence[Held]
    is_broken: bool = False

    @property
    def table(self) -> str:
        return revision.name if self.place is None else self.place.table


def places() -> Sequence[Place | None]:
    """Where envelopes are, None for the specs of revisions."""
    return [None, *(place for place in PLACES if place.table in metadata.tables)]


def read_page(connection: Connection, place: Place | None, after: tuple[Any, ...] | None) -> list[Holder]:
    """Up to 500 rows with envelopes behind ``after``, by primary key; shorter on the last page. One statement."""
    if place is None:
        return _revisions(connection, after)
    table = metadata.tables[place.table]
    key, column = table.c[place.key], table.c[place.column]
    query = select(key, column).where(column != "").order_by(key).limit(PAGE)
    rows = connection.execute(query if after is None else query.where(key > after[0]))
    return [
        Holder(
            place=place,
            key=(row[0],),
            seen=row[1],
            envelopes=[Held(sealed=row[1], about=place.about.format(row[0]))],
        )
        for row in rows
    ]


def replace_all(connection: Connection, changed: Sequence[tuple[Holder, Mapping[str, str]]]) -> None:
    """New envelopes for old ones, in rows that still hold what was read. A statement a row, by primary key."""
    for holder, new in changed:
        if holder.place is None:
            job, name = holder.key
            document = _decoded(holder.seen)
            document["runtime"]["envs"] = [
                [env, new.get(value, value) if secret else value, secret]
                for env, value, secret in document["runtime"]["envs"]
            ]
            connection.execute(
                update(revision)
                .where(_REVISION.job == job, _REVISION.id == name, _text == holder.seen)
                .values(spec=document)
            )
        else:
            table = metadata.tables[holder.place.table]
            column = table.c[holder.place.column]
            connection.execute(
                update(table)
                .where(table.c[holder.place.key] == holder.key[0], column == holder.seen)
                .values({column: new[holder.seen]})
            )


def _revisions(connection: Connection, after: tuple[Any, ...] | None) -> list[Holder]:
    query = select(_REVISION.job, _REVISION.id, _text.label("text")).order_by(_REVISION.job, _REVISION.id).limit(PAGE)
    rows = connection.execute(
        query if after is None else query.where(tuple_(_REVISION.job, _REVISION.id) > tuple_(*after))
    )
    return [_revision(row) for row in rows]


def _revision(row: AnyRow) -> Holder:
    try:
        held, is_broken = list(_secrets(row)), False
    except (ValueError, TypeError, KeyError):
        held, is_broken = [], True
    return Holder(place=None, key=(row.job, row.id), seen=row.text, envelopes=held, is_broken=is_broken)


def _secrets(row: AnyRow) -> Iterator[Held]:
    for name, value, secret in _decoded(row.text)["runtime"]["envs"]:
        if secret:
            yield Held(sealed=str(value), about=f"revision/{row.job}/{row.id}/{name}", name=name)


def _decoded(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
