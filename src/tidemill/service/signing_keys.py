"""The keys that sign tokens: made at the first need, rotated when asked, published while a token may be good.

They are the whole server's. None is kept in memory: one that was ended is so for the next request to any process.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tidemill import signing
from tidemill.model.errors import Conflict, NotFound
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.secrets import KeyRing
from tidemill.service import home
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


def show(parts: Parts, principal: Principal, *, now: datetime) -> Sequence[SigningKey]:
    """All whose tokens may still be good, the newest first; none before the first token. One statement.

    Raises Forbidden.
    """
    _check(parts, principal)
    return parts.database.read(lambda connection: signing_keys.published(connection, now))


def rotate(parts: Parts, principal: Principal, *, now: datetime) -> Sequence[SigningKey]:
    """Sign with a fresh key from now on. Tokens of those before it are good until they end. One unit of three.

    All that there are afterwards, the newest first. Raises Forbidden.
    """
    _check(parts, principal)

    def unit(connection: Connection) -> Sequence[SigningKey]:
        _replace(connection, parts.keyring, now)
        return signing_keys.published(connection, now)

    return parts.database.write(unit)


def end(parts: Parts, principal: Principal, kid: str, *, now: datetime) -> Sequence[SigningKey]:
    """Refuse all that a key has signed, from now on and everywhere. One unit of three statements.

    All that there are afterwards. Raises Forbidden, NotFound; Conflict for the one that signs.
    """
    _check(parts, principal)

    def unit(connection: Connection) -> Sequence[SigningKey]:
        found = signing_keys.find(connection, kid, now)
        if found is None:
            raise NotFound(f"no signing key {quoted(kid)}, or it has ended")
        if found.ends_at is None:
            raise Conflict(f"{quoted(kid)} is the key that signs now: make another one first, then end this one")
        signing_keys.remove(connection, kid)
        return signing_keys.published(connection, now)

    return parts.database.write(unit)


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
    new = SigningKey(kid=pair.kid, public=pair.public, private_sealed=sealed, created_at=now)
    signing_keys.replace(connection, new, ends_at=now + signing.LIFETIME + _LATE)
    return new


def _check(parts: Parts, principal: Principal) -> None:
    home.check(parts, principal, "keys that sign tokens are")


def _about(kid: str) -> str:
    return f"signing key/{kid}"
