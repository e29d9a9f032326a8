"""Images: what a revision runs, and where its bytes lie in the blob store."""

import re
from typing import Final

IMAGE_REF: Final = re.compile(r"job/(?P<name>[a-z0-9-]{1,49})(?::(?P<tag>[A-Za-z0-9._-]{1,64}))?")
LATEST: Final = "latest"


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
