"""Images: what a revision runs, and where its bytes lie in the blob store."""

import re
from dataclasses import dataclass
from typing import Final

IMAGE_REF: Final = re.compile(r"job/(?P<name>[a-z0-9-]{1,49})(?::(?P<tag>[A-Za-z0-9._-]{1,64}))?")
LATEST: Final = "latest"
# of an image of a registry; without a host nobody could say whose it is
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_PORT: Final = ":[0-9]{1,5}"
_HOST: Final = rf"(localhost|{_LABEL}(\.{_LABEL})+|\[[0-9a-fA-F:]+\])({_PORT})?|{_LABEL}{_PORT}"
_NAME: Final = "[a-z0-9]+([._-]+[a-z0-9]+)*"
REGISTRY_PATTERN: Final = (
    rf"({_HOST})/({_NAME}(/{_NAME})*)(:([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(@(sha256:[0-9a-f]{{64}}))?"
)
_REGISTRY: Final = re.compile(REGISTRY_PATTERN)
MAX_REF: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRef:
    """An image of a registry: ``host`` may hold a port; ``digest``, when there is one, says which it is for good."""

    host: str
    path: str
    tag: str
    digest: str

    def __str__(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.path}{tag}{digest}"


def registry_ref(text: str) -> RegistryRef | None:
    """``HOST/PATH[:TAG][@sha256:HEX]``, with the tag ``latest`` when there is neither; None for anything else."""
    if len(text) > MAX_REF or _REGISTRY.fullmatch(text) is None:
        return None
    host, _, rest = text.partition("/")
    named, _, digest = rest.partition("@")
    path, _, tag = named.partition(":")
    return RegistryRef(host=host, path=path, tag=tag or ("" if digest else LATEST), digest=digest)


def image_ref(name: str, tag: str) -> str:
    """``job/NAME:TAG``."""
    return f"job/{name}:{tag}"


def image_blob(digest: str) -> str:
    """The blob of a built image (a gzip'ed tar)."""
    return f"images/{digest}.tar.gz"


def source_blob(digest: str) -> str:
    """The blob of an uploaded source archive (a zip)."""
    return f"sources/{digest}.zip"


def incoming_blob(build_key: int, number: int) -> str:
    """Where the node writes the image of a build's attempt before its digest is known."""
    return f"incoming/b-{build_key}-{number}.tar.gz"
