"""Images of registries that jobs name, and the credentials that come with them."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tidemill.model.errors import Invalid
from tidemill.model.ids import BuildKey, new_key
from tidemill.model.image import RegistryRef, registry_ref
from tidemill.service.parts import Parts
from tidemill.store.uploads import NewBuild

_PATH: Final = "spec.runtime.dockerConfig"
_SHAPE: Final = '{"auths": {"HOST": {"auth": "BASE64 OF USER:PASSWORD"}}}, as JSON text'
# Docker's own names for the one registry that it has no host for
_DOCKER_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def new_pull(parts: Parts, image: str, docker_config: str, *, now: datetime) -> NewBuild | None:
    """What pulls ``image``, with the credentials for its registry sealed; None for an image that is built here.

    Raises Invalid, which never repeats credentials.
    """
    reference = registry_ref(image)
    if reference is None:
        if docker_config:
            raise Invalid(f"{_PATH} is for an image of a registry, and spec.runtime.image names none")
        return None
    key = BuildKey(new_key(int(now.timestamp() * 1000)))
    credentials = credentials_of(docker_config, reference)
    return NewBuild(
        key=key,
        memory_mb=parts.limits.build_memory_mb,
        timeout_s=parts.limits.build_timeout_s,
        image=str(reference),
        credentials_sealed=parts.keyring.seal(credentials, f"build/{key}") if credentials else "",
    )


def credentials_of(docker_config: str, reference: RegistryRef) -> str:
    """``USER:PASSWORD`` for the image's registry (contract 5.6); "" where it holds none. Raises Invalid."""
    if not docker_config:
        return ""
    try:
        document = json.loads(docker_config)
    except (ValueError, RecursionError):
        raise Invalid(f"{_PATH} is no JSON; it must be {_SHAPE}") from None
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise Invalid(f"{_PATH} has no object auths; it must be {_SHAPE}")
    for name, entry in auths.items():
        if not isinstance(entry, dict):
            raise Invalid(f"{_PATH} has no object in auths for {name[:64]!r}; it must be {_SHAPE}")
    wanted = _host(reference.host)
    return next((_pair(name, entry) for name, entry in auths.items() if _host(name) == wanted), "")


def _pair(name: str, entry: Mapping[str, object]) -> str:
    auth, user, password = entry.get("auth"), entry.get("username"), entry.get("password")
    if isinstance(auth, str) and auth:
        try:
            pair = base64.b64decode(auth, validate=True).decode()
        except ValueError:
            pair = ""
    else:
        pair = f"{user}:{password}" if isinstance(user, str) and isinstance(password, str) else ""
    if ":" not in pair or "\0" in pair or "\n" in pair or "\r" in pair:
        raise Invalid(f"{_PATH} has no user and password in auths for {name[:64]!r}; it must be {_SHAPE}")
    return pair


def _host(name: str) -> str:
    """A registry's host of what Docker calls it: a host, or a URL."""
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return "docker.io" if host in _DOCKER_HUB else host
