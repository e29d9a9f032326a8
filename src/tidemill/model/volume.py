"""Volumes: directories of a task's own, of a size that it cannot pass, made when it starts and gone with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """``path`` is absolute, without ``.``, ``..`` and repeated slashes. One that is ``read_only`` stays empty."""

    path: str
    size_mb: int
    read_only: bool = False


def plain_path(text: str) -> str:
    """An absolute path as it is compared: ``/a//b/`` and ``/a/./b`` are ``/a/b``. What climbs (``..``) is left."""
    return str(PurePosixPath("/", text.lstrip("/")))


def volumes_of(documents: Sequence[Mapping[str, Any]] | None) -> tuple[Volume, ...]:
    """The volumes of a job's spec, which keeps them as they were sent; they were checked then."""
    return tuple(
        Volume(
            path=plain_path(each["mountPath"]),
            size_mb=each["sizeMb"],
            read_only=bool(each.get("readOnly")),
        )
        for each in documents or ()
    )
