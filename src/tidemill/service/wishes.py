"""What a request says of one member: nothing, back to the default, or a value."""

from enum import Enum
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")


class Unset(Enum):
    UNSET = "unset"


UNSET: Final = Unset.UNSET
Wish: TypeAlias = T | Unset | None
"""A member of a request: absent (keep what is there), None (back to the default), or a value."""


def chosen(wish: Wish[T], kept: T, default: T) -> T:
    """The value after the request."""
    if isinstance(wish, Unset):
        return kept
    return default if wish is None else wish
