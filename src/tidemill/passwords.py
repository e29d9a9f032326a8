"""Passwords, kept as Argon2id (RFC 9106) in PHC text, with a key that is not in the ledger. Slow on purpose."""

import os
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SHORTEST: Final = 12
LONGEST: Final = 256

# what OWASP recommends for a server: 19 MiB, two passes, one lane; about 40 ms
_MEMORY_KIB: Final = 19_456
_PASSES: Final = 2
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


def hashed(password: str, key: bytes) -> str:
    """PHC text under a fresh salt. ``key`` is of the key ring: the text alone cannot be guessed at."""
    kdf = Argon2id(
        salt=os.urandom(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=_PASSES,
        lanes=1,
        memory_cost=_MEMORY_KIB,
        secret=key,
    )
    return kdf.derive_phc_encoded(_bytes(password))


def matches(password: str, held: str, key: bytes) -> bool:
    """Whether ``held`` was made of this password; never for "". It takes as long for "" as for a wrong password."""
    try:
        Argon2id.verify_phc_encoded(_bytes(password), held or _nobodys(key), secret=key)
    except InvalidKey:
        return False
    return bool(held)


@lru_cache(maxsize=4)
def _nobodys(key: bytes) -> str:
    return hashed(os.urandom(_SALT_BYTES).hex(), key)


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
