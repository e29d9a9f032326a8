"""How often somebody guesses at a password or a code, or from an address: counted in the ledger, by keyed digests."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from tidemill.model.errors import TooManyTries
from tidemill.secrets import KeyRing
from tidemill.service.parts import Parts
from tidemill.store import passwords
from tidemill.store.database import Connection

WINDOW: Final = timedelta(minutes=15)
"""Guesses are counted for so long."""


def count(parts: Parts, most: Mapping[str, int], *, now: datetime) -> None:
    """Count a guess at or from each of ``most``, before it is looked at. One unit. Raises TooManyTries past it."""

    def unit(connection: Connection) -> bool:
        counts = {
            name: passwords.guessed(connection, about(parts.keyring, name), now=now, window=WINDOW) for name in most
        }
        return any(count > most[name] for name, count in counts.items())

    if parts.database.write(unit, wakes=False):
        raise TooManyTries(f"too many tries: wait {int(WINDOW.total_seconds()) // 60} minutes")


def forget(parts: Parts, name: str) -> None:
    """Begin to count anew: somebody knew it. One unit."""
    held = about(parts.keyring, name)
    parts.database.write(lambda connection: passwords.forget_guesses(connection, held), wakes=False)


def about(keyring: KeyRing, name: str) -> str:
    """How it is kept what is counted."""
    return keyring.mac("guess", name.encode("utf-8", "surrogatepass")).hex()
