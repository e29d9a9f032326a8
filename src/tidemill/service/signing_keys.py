"""The keys that sign tokens: made at the first need, rotated when asked, published while a token may be good."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tidemill import signing
from tidemill.secrets import KeyRing
from tidemill.service.parts import Parts
from tidemill.signing import KeyPair
from tidemill.store import signing_keys
from tidemill.store.database import Connection
from tidemill.store.signing_keys import SigningKey

# a token that another server signs at this moment is made within this
_LATE: Final = timedelta(minutes=1)


def active(parts: Parts, *, now: datetime) -> KeyPair:
    """The one that signs. One statement; a unit the first time. Raises KeyRingError where the key ring is another."""
    found = parts.database.read(signing_keys.active)
    if found is None:

        def unit(connection: Connection) -> SigningKey:
            return signing_keys.active(connection) or _replace(connection, parts.keyring, now)

        found = parts.database.write(unit, wakes=False)
    return KeyPair(
        kid=found.kid, public=found.public, private=parts.keyring.open(found.private_sealed, _about(found.kid))
    )


def rotate(parts: Parts, *, now: datetime) -> str:
    """Sign with a fresh key from now on; its id. One unit. Tokens of those before it are good until they end."""
    return parts.database.write(lambda connection: _replace(connection, parts.keyring, now), wakes=False).kid


def published(parts: Parts, *, now: datetime) -> Sequence[SigningKey]:
    """All whose tokens may still be good, the newest first; there is at least one. One statement."""
    found = parts.database.read(lambda connection: signing_keys.published(connection, now))
    if found:
        return found
    active(parts, now=now)
    return parts.database.read(lambda connection: signing_keys.published(connection, now))


def _replace(connection: Connection, keyring: KeyRing, now: datetime) -> SigningKey:
    pair = signing.new_pair()
    sealed = keyring.seal(pair.private, _about(pair.kid))
    new = SigningKey(kid=pair.kid, public=pair.public, private_sealed=sealed)
    signing_keys.replace(connection, new, now=now, ends_at=now + signing.LIFETIME + _LATE)
    return new


def _about(kid: str) -> str:
    return f"signing key/{kid}"
