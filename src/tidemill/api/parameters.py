"""Times and numbers of a query."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from tidemill.model.errors import Invalid
from tidemill.model.quoted import quoted

_DIGITS: Final = 9


def instant(query: Mapping[str, str], name: str) -> datetime | None:
    """``2026-08-21T10:00:00``, in UTC where no zone is given; None without one. Raises Invalid."""
    # a bare + in a query is a space
    value = query.get(name, "").replace(" ", "+")
    if not value:
        return None
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} is {quoted(value)}; it must be a time like 2026-08-21T10:00:00, in UTC") from None


def whole(query: Mapping[str, str], name: str, default: int, least: int) -> int:
    """A whole number of up to nine digits. Raises Invalid."""
    value = query.get(name, "")
    if not value:
        return default
    if not (value.isascii() and value.isdecimal()) or len(value) > _DIGITS or int(value) < least:
        raise Invalid(f"{name} is {quoted(value)}; it must be a whole number from {least} on")
    return int(value)
