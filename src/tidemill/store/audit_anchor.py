"""Where the audit begins: what stands for its rows that were cut (docs/decisions/0102)."""

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, delete, insert, select

from tidemill.store import schema

Mac: TypeAlias = Callable[[bytes], bytes]

_ANCHOR: Final = schema.audit_anchor.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The newest row that was cut: its number, its mac, and when it was written."""

    number: int
    mac: str
    at: datetime


def read(connection: Connection) -> tuple[Anchor, str] | None:
    """It and its seal; None while nothing was cut. One statement."""
    row = connection.execute(select(_ANCHOR.number, _ANCHOR.mac, _ANCHOR.at, _ANCHOR.seal)).one_or_none()
    return None if row is None else (Anchor(number=row.number, mac=row.mac, at=row.at), row.seal)


def move(connection: Connection, anchor: Anchor, mac: Mac) -> None:
    """The audit begins behind ``anchor`` from now on. Two statements."""
    connection.execute(delete(schema.audit_anchor))
    values = {"number": anchor.number, "mac": anchor.mac, "at": anchor.at, "seal": _seal(anchor, mac)}
    connection.execute(insert(schema.audit_anchor).values(id=1, **values))


def is_ours(anchor: Anchor, seal: str, mac: Mac) -> bool:
    """Whether somebody with the key cut there."""
    return hmac.compare_digest(seal.encode(), _seal(anchor, mac).encode())


def _seal(anchor: Anchor, mac: Mac) -> str:
    return mac(json.dumps(["anchor", anchor.number, anchor.mac, str(anchor.at)]).encode()).hex()
