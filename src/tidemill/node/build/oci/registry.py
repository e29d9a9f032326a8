"""A registry's side of a pull (OCI distribution specification 1.0): which image a name means, and its parts.

Nothing is believed that is not of the digest it was asked by. Credentials are sent to the registry, and to whom it
names for tokens, never to where it redirects to.
"""

import base64
import hashlib
import http.client
import ipaddress
import json
import os
import platform
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tidemill.model.image import RegistryRef
from tidemill.node.build import BuildError

TIMEOUT_S: Final = 60.0
# manifests and configurations are documents of some kilobytes; a registry that sends more is none
DOCUMENT_MAX_BYTES: Final = 8 << 20

_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_MANIFESTS: Final = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_DOCKER_HUB: Final = ("docker.io", "registry-1.docker.io")
_COPY_BYTES: Final = 1 << 20
_CHALLENGE: Final = re.compile(r'([a-z_]+)="([^"]*)"')
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A blob of an image, by what its manifest says of it."""

    kind: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteImage:
    """``digest`` is what names it for good: that of what the name led to, an index of several platforms perhaps.

    ``config`` is the document that says how it is run; ``layers`` are in the order in which they are laid.
    """

    digest: str
    config: Mapping[str, Any]
    layers: tuple[Part, ...]


@dataclass(slots=True)
class Registry:
    """The registry of ``reference``. ``credentials`` are ``USER:PASSWORD``, or empty."""

    reference: RegistryRef
    credentials: str = field(default="", repr=False)
    _authorization: str = field(default="", init=False, repr=False)

    def look_up(self) -> RemoteImage:
        """What the reference means now, for this machine. Raises BuildError saying what is wrong with what."""
        wanted = self.reference.digest or self.reference.tag
        kind, data = self._document(f"manifests/{wanted}", ", ".join(sorted(_INDEXES | _MANIFESTS)))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.reference.digest and digest != self.reference.digest:
            raise self._error(f"sent {digest} for it")
        document = self._parse(data)
        if kind in _INDEXES or "manifests" in document:
            chosen = self._for_this_machine(document)
            _, data = self._document(f"manifests/{chosen}", ", ".join(sorted(_MANIFESTS)))
            self._check(data, chosen)
            document = self._parse(data)
        try:
            config = _part(document["config"])
            layers = tuple(_part(layer) for layer in document["layers"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(f"describes it in a way that is not known here ({kind}): {error}") from error
        _, data = self._document(f"blobs/{config.digest}", "*/*")
        self._check(data, config.digest)
        return RemoteImage(digest=digest, config=self._parse(data), layers=layers)

    def fetch(self, part: Part, target: Path) -> None:
        """Write a part to ``target``. Raises BuildError; OSError when there is no room."""
        found, size = hashlib.sha256(), 0
        with self._ask(f"blobs/{part.digest}", "*/*") as answer, target.open("wb") as file:
            while data := self._read(answer):
                size += len(data)
                if size > part.size_bytes:
                    raise self._error(f"sends more of {part.digest} than the {part.size_bytes} bytes it has")
                found.update(data)
                file.write(data)
        if f"sha256:{found.hexdigest()}" != part.digest:
            raise self._error(f"sent something else for {part.digest}")

    def _for_this_machine(self, index: Mapping[str, Any]) -> str:
        machine = platform.machine()
        wanted = ("linux", _ARCHITECTURES.get(machine, machine))
        offered = []
        for each in index.get("manifests", ()):
            with suppress(TypeError, KeyError, AttributeError):
                has = (each["platform"]["os"], each["platform"]["architecture"])
                offered.append("/".join(has))
                if has == wanted and _DIGEST.fullmatch(each["digest"]):
                    return str(each["digest"])
        raise self._error(f"has it for {', '.join(offered) or 'no platform'}, and not for {'/'.join(wanted)}")

    def _document(self, path: str, accept: str) -> tuple[str, bytes]:
        with self._ask(path, accept) as answer:
            data = answer.read(DOCUMENT_MAX_BYTES + 1)
            if len(data) > DOCUMENT_MAX_BYTES:
                raise self._error(f"sends more than {DOCUMENT_MAX_BYTES} bytes for {path}")
            return answer.headers.get_content_type(), data

    def _ask(self, path: str, accept: str) -> Any:
        url = f"{self._base()}/{path}"
        try:
            return self._open(url, accept)
        except urllib.error.HTTPError as error:
            if error.code != http.client.UNAUTHORIZED or self._authorization:
                raise self._refused(error, path) from error
            with error:
                self._authorization = self._authorize(error.headers.get("WWW-Authenticate", ""))
        try:
            return self._open(url, accept)
        except urllib.error.HTTPError as error:
            raise self._refused(error, path) from error

    def _open(self, url: str, accept: str) -> Any:
        request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310  # made here, of http or https
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._error(f"cannot be reached: {getattr(error, 'reason', error)}") from error

    def _read(self, answer: Any) -> bytes:
        try:
            data: bytes = answer.read(_COPY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._error(f"stopped in the middle: {error}") from error
        return data

    def _authorize(self, challenge: str) -> str:
        """The header that the registry asks for."""
        scheme, _, rest = challenge.partition(" ")
        basic = base64.b64encode(self.credentials.encode()).decode()
        if scheme.lower() == "basic":
            if not self.credentials:
                raise self._error("wants credentials: send them in spec.runtime.dockerConfig")
            return f"Basic {basic}"
        words = dict(_CHALLENGE.findall(rest))
        realm = words.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", f"{self._scheme()}://")):
            raise self._error(f"wants credentials in a way that is not known here ({scheme[:64]!r})")
        scope = words.get("scope") or f"repository:{self.reference.path}:pull"
        query = urllib.parse.urlencode({"service": words.get("service", ""), "scope": scope})
        self._authorization = f"Basic {basic}" if self.credentials else ""
        try:
            with self._open(f"{realm}?{query}", "application/json") as answer:
                document = self._parse(answer.read(DOCUMENT_MAX_BYTES))
        except urllib.error.HTTPError as error:
            raise self._refused(error, "its token") from error
        finally:
            self._authorization = ""
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str):
            raise self._error("gives no token")
        return f"Bearer {token}"

    def _refused(self, error: urllib.error.HTTPError, what: str) -> BuildError:
        with error:
            match error.code:
                case http.client.UNAUTHORIZED | http.client.FORBIDDEN if self.credentials:
                    return self._error("does not take the credentials of spec.runtime.dockerConfig for it")
                case http.client.UNAUTHORIZED | http.client.FORBIDDEN:
                    return self._error("wants credentials: send them in spec.runtime.dockerConfig")
                case http.client.NOT_FOUND:
                    return self._error(f"does not have it ({what})" if what.startswith("blobs") else "does not have it")
                case _:
                    return self._error(f"answers {error.code} for {what}")

    def _check(self, data: bytes, digest: str) -> None:
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise self._error(f"sent something else for {digest}")

    def _parse(self, data: bytes) -> Mapping[str, Any]:
        try:
            document = json.loads(data)
        except ValueError as error:
            raise self._error(f"sent what is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise self._error("sent a document of no known form")
        return document

    def _base(self) -> str:
        host = _DOCKER_HUB[1] if self.reference.host == _DOCKER_HUB[0] else self.reference.host
        return f"{self._scheme()}://{host}/v2/{self.reference.path}"

    def _scheme(self) -> str:
        return "http" if is_loopback(self.reference.host) else "https"

    def _error(self, what: str) -> BuildError:
        return BuildError(f"image {self.reference}: registry {self.reference.host} {what}")


def is_loopback(host: str) -> bool:
    """Whether a registry's host, with its port, is this machine: only there plain HTTP is spoken, as Docker does."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def read_credentials(file: Path) -> str:
    """What a node has left for this pull alone; the file is gone when this returns. "" when there is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    os.unlink(file)  # noqa: PTH108  # raises what it cannot remove
    return text


def _part(document: Mapping[str, Any]) -> Part:
    digest, size = document["digest"], document["size"]
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None or not isinstance(size, int):
        raise ValueError(f"{digest!r} of {size!r} bytes")
    return Part(kind=str(document.get("mediaType", "")), digest=digest, size_bytes=size)
