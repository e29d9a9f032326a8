"""Whether the key ring is the one that the database was written with: found out before anything is written."""

import hmac
from pathlib import Path
from typing import Final

from tidemill.secrets import KeyRing, KeyRingError, load_key_ring
from tidemill.store import key_check
from tidemill.store.database import Database, read_only

ABOUT: Final = "key check"


def load(database: Path, path: Path, text: str | None) -> KeyRing:
    """The ring of ``text`` if given, else of the file at ``path``, which is made for a database that is still empty.

    Raises KeyRingError for a ring that is missing beside a database, or is not that of the database; OSError.
    """
    begun = database.exists() and database.stat().st_size > 0
    if begun and not text and not path.exists():
        raise KeyRingError(
            f"{path} is missing, but the database {database.name} beside it was written with it: put it back from a "
            "backup, or give the key ring in TIDEMILL_KEY_RING; without it secrets cannot be opened and API keys are "
            "void (to begin anew, name an empty --data-dir)"
        )
    ring = load_key_ring(path, text)
    sealed = read_only(database, key_check.find) if begun else ""
    if sealed:
        _check(ring, sealed, "TIDEMILL_KEY_RING" if text else str(path))
    return ring


def keep(database: Database, ring: KeyRing) -> None:
    """From now on the database is known by this ring. One unit of two statements."""
    sealed = ring.seal(_content(ring), ABOUT)
    database.write(lambda connection: key_check.keep(connection, sealed), wakes=False)


def _check(ring: KeyRing, sealed: str, where: str) -> None:
    wrong = (
        f"the key ring of {where} is not the one that the database was written with: put that one back from a backup, "
        "with all its keys and its pepper; nothing was written"
    )
    try:
        content = ring.open(sealed, ABOUT)
    except KeyRingError as error:
        raise KeyRingError(f"{wrong} ({error})") from None
    if not hmac.compare_digest(content, _content(ring)):
        raise KeyRingError(f"{wrong} (its pepper is another)")


def _content(ring: KeyRing) -> str:
    return ring.mac(ABOUT, b"").hex()
