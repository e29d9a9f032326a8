"""The key ring, envelopes for secret values, and keyed hashes. Nothing here logs or prints what it protects."""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tidemill.model.ids import AttemptId, OwnerKind

FILE_NAME: Final = "keyring.json"
API_KEY_PREFIX: Final = "tm_"
TASK_CREDENTIAL_PREFIX: Final = "tmt_"
TASK_CLIENT_ID: Final = "task"
"""The client id of every task: which one it is, its credential says and proves."""
CLIENT_SECRET_PREFIX: Final = "tms_"  # noqa: S105  # what a secret begins with is none
CALLBACK_SECRET_PREFIX: Final = "tmc_"  # noqa: S105

_FORMAT: Final = "v1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ATTEMPT: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,10})\.([0-9]{1,10})", re.ASCII)


class KeyRingError(ValueError):
    """A key ring that is not one, or an envelope that this key ring does not open; never holds a value or a key."""


@dataclass(slots=True, kw_only=True)
class KeyRing:
    """Keys by id; ``active`` seals, all of them open. ``pepper`` is for hashes and does not rotate.

    A server has one of these for its life, shared by all its parts: ``adopt`` is how it gets another active key.
    ``since``: seconds since the epoch at which a rotation made the active key so; 0 when none did.
    """

    active: str
    keys: Mapping[str, bytes] = field(repr=False)
    pepper: bytes = field(repr=False)
    since: float = 0.0
    _kept: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def generate(cls) -> Self:
        """A ring with one fresh key."""
        key_id = secrets.token_hex(4)
        return cls(active=key_id, keys={key_id: secrets.token_bytes(_KEY_BYTES)}, pepper=secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the JSON form ``{"active", "keys": {id: base64}, "pepper": base64}``. Raises KeyRingError."""
        try:
            document = json.loads(text)
            keys = {str(name): _decode(value) for name, value in document["keys"].items()}
            since = float(document.get("since", 0))
            ring = cls(active=document["active"], keys=keys, pepper=_decode(document["pepper"]), since=since)
        except (ValueError, TypeError, KeyError, AttributeError):
            # the cause would carry the text, which is all secret
            raise KeyRingError('the key ring is not {"active": ID, "keys": {ID: base64}, "pepper": base64}') from None
        if ring.active not in ring.keys or any(len(key) != _KEY_BYTES for key in ring.keys.values()):
            raise KeyRingError(f"the key ring needs its active key, and keys of {_KEY_BYTES} bytes each")
        if len(ring.pepper) < 16:
            raise KeyRingError("the key ring's pepper must have at least 16 bytes")
        return ring

    def text(self) -> str:
        """The form that ``parse`` reads. All of it is secret."""
        keys = {name: _encode(key) for name, key in self.keys.items()}
        document = {"active": self.active, "keys": keys, "pepper": _encode(self.pepper)}
        return json.dumps({**document, "since": self.since} if self.since else document, indent=1)

    def rotated(self, now: float) -> Self:
        """A ring with one key more, which is the active one from ``now`` on."""
        key_id = secrets.token_hex(4)
        return replace(self, active=key_id, keys={**self.keys, key_id: secrets.token_bytes(_KEY_BYTES)}, since=now)

    def only(self, key_ids: Collection[str]) -> Self:
        """A ring with these keys and the active one."""
        return replace(self, keys={name: key for name, key in self.keys.items() if name in {*key_ids, self.active}})

    def adopt(self, other: "KeyRing") -> None:
        """Seal with the active key of ``other`` from now on. No key is forgotten: somebody may have read what it opens.

        Other threads may seal and open meanwhile: each sees the keys before the one that is active.
        """
        self.keys = {**self.keys, **other.keys}
        self.active = other.active
        self.since = other.since

    def seal(self, text: str, about: str) -> str:
        """An AES-256-GCM envelope ``v1.KEY.DATA``. It opens only with the same ``about`` (the row it belongs to)."""
        nonce, active = secrets.token_bytes(_NONCE_BYTES), self.active
        sealed = AESGCM(self._derived(active)).encrypt(nonce, text.encode("utf-8", "surrogatepass"), _bind(about))
        return f"{_FORMAT}.{active}.{_encode(nonce + sealed)}"

    def open(self, sealed: str, about: str) -> str:
        """What was sealed. Raises KeyRingError for a key it does not hold, another ``about``, or changed bytes."""
        form, _, rest = sealed.partition(".")
        key_id, _, data = rest.partition(".")
        if form != _FORMAT or not data:
            raise KeyRingError(f"not an envelope (it belongs to {about})")
        if key_id not in self.keys:
            raise KeyRingError(f"the envelope of {about} needs key {key_id!r}, which this key ring does not hold")
        try:
            raw = _decode(data)
            opened = AESGCM(self._derived(key_id)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bind(about))
        except (InvalidTag, ValueError):
            raise KeyRingError(
                f"the envelope of {about} does not open: it was changed, or belongs to something else"
            ) from None
        return opened.decode("utf-8", "surrogatepass")

    def mac(self, purpose: str, data: bytes) -> bytes:
        """HMAC-SHA256 of ``data`` under the pepper; hashes for different purposes never meet."""
        return hmac.digest(hmac.digest(self.pepper, purpose.encode(), "sha256"), data, "sha256")

    def audit_mac(self, data: bytes) -> bytes:
        """The keyed hash that chains the rows of the audit."""
        return self.mac("audit", data)

    def api_key_digest(self, api_key: str) -> str:
        """How an API key is kept: it is 256 random bits, so a keyed hash is enough and a slow one is not needed."""
        return self.mac("api key", api_key.encode()).hex()

    def client_secret_digest(self, secret: str) -> str:
        """How a service account's client secret is kept; it is 256 random bits, like an API key."""
        return self.mac("client secret", secret.encode()).hex()

    def refresh_token_digest(self, secret: str) -> str:
        """How the secret part of a refresh token is kept; it is 256 random bits."""
        return self.mac("refresh token", secret.encode("utf-8", "surrogatepass")).hex()

    def task_credential(self, attempt: AttemptId) -> str:
        """What a task presents: its attempt, and a MAC of that under the active key. Nothing of it is kept anywhere."""
        about = f"{attempt.owner}.{attempt.index}.{attempt.number}"
        return f"{TASK_CREDENTIAL_PREFIX}{self.active}.{about}.{_encode(self._task_mac(self.active, about))}"

    def attempt_of(self, credential: str) -> AttemptId | None:
        """The attempt that a task's credential is of; None for one that no key of this ring has made.

        A key that does not seal any more still answers for attempts that began under it.
        """
        key_id, _, rest = credential.removeprefix(TASK_CREDENTIAL_PREFIX).partition(".")
        about, _, mac = rest.rpartition(".")
        found = _ATTEMPT.fullmatch(about)
        if key_id not in self.keys or found is None:
            return None
        if not hmac.compare_digest(_encode(self._task_mac(key_id, about)).encode(), mac.encode("utf-8", "replace")):
            return None
        owner, index, number = map(int, found.groups())
        return AttemptId(OwnerKind.TASK, owner, index, number)

    def _task_mac(self, key_id: str, about: str) -> bytes:
        return hmac.digest(self._derived(key_id, b"tidemill task credential"), about.encode(), "sha256")

    def _derived(self, key_id: str, purpose: bytes = b"tidemill envelope") -> bytes:
        name = (self.keys[key_id], purpose)
        # one of a key and a purpose for as long as the ring lives: deriving costs more than all that it is used for
        found = self._kept.get(name)
        if found is None:
            derived = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose).derive(name[0])
            found = self._kept[name] = derived
        return found


def load_key_ring(path: Path, text: str | None) -> KeyRing:
    """The ring of ``text`` (from the environment) if given, else that of the file, which is made when it is missing.

    The file is written under a temporary name with mode 0600, fsynced and renamed. Raises KeyRingError, OSError.
    """
    if text:
        return KeyRing.parse(text)
    try:
        return KeyRing.parse(path.read_text())
    except FileNotFoundError:
        ring = KeyRing.generate()
        write_private(path, ring.text())
        return ring


def write_private(path: Path, text: str) -> None:
    """Replace the file at ``path`` by one of mode 0600 that holds ``text``; whole or not at all, on disk on return."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)  # a file left by a crash may have another mode
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # else the name may lead to the old file again after a loss of power
    finally:
        os.close(folder)


def key_of(sealed: str) -> str:
    """The id of the key that an envelope needs; "" for what is none."""
    form, _, rest = sealed.partition(".")
    return rest.partition(".")[0] if form == _FORMAT else ""


def new_api_key() -> str:
    """256 random bits behind a prefix that tells what it is."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def new_client_secret() -> str:
    """256 random bits behind a prefix that tells what it is."""
    return CLIENT_SECRET_PREFIX + secrets.token_urlsafe(32)


def new_callback_secret() -> str:
    """256 random bits behind a prefix that tells what it is; none of them is an asterisk, which would be a mask."""
    return CALLBACK_SECRET_PREFIX + secrets.token_urlsafe(32)


def new_capability() -> str:
    """256 random bits for the path of a URL."""
    return secrets.token_urlsafe(32)


def capability_digest(capability: str) -> str:
    """How a capability is kept: SHA-256, hex."""
    return hashlib.sha256(capability.encode()).hexdigest()


def _bind(about: str) -> bytes:
    return about.encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise KeyRingError("not base64") from error
