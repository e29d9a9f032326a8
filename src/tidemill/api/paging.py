"""Lists on the wire: limits, sorting, searching, and cursors that fit one query for a day."""

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from tidemill.api.calls import Call
from tidemill.api.wire import Json
from tidemill.model.errors import Invalid
from tidemill.model.quoted import quoted

T = TypeVar("T")

_LIFETIME: Final = timedelta(hours=24)
_LIMIT_DIGITS: Final = 9
_MAC_BYTES: Final = 16
_MAX_TEXT: Final = 200
_MIN_TEXT: Final = 2
_SORTS: Final[Mapping[str, tuple[str, bool]]] = {
    "createdAt:desc": ("createdAt", True),
    "createdAt:asc": ("createdAt", False),
    "name:asc": ("name", False),
    "name:desc": ("name", True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a request for a list asks. ``after`` is the position of the cursor, None at the beginning.

    ``binding`` is all that makes the query, and what its cursors are bound to. ``text`` is in lower case.
    """

    limit: int
    by: str
    descending: bool
    text: str
    status: str
    tail: bool
    after: Sequence[Json] | None
    binding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    default: int
    most: int


def list_query(
    call: Call, about: str, limit: Limit, *, anchored: bool = False, always_paged: bool = False
) -> ListQuery:
    """The parameters of a list; ``about`` names it, ``anchored``: it knows ``anchor`` (contract 3.3).

    Old versions know none of sort, q, anchor and cursor, but of a list that is ``always_paged``. Raises Invalid.
    """
    asked = call.request.query_params
    status = asked.get("status", "")
    sort, text, anchor, cursor = "createdAt:desc", "", "", ""
    if call.paged or always_paged:
        sort = asked.get("sort") or sort
        text = _text(asked.get("q", ""))
        anchor = asked.get("anchor", "") if anchored else ""
        cursor = asked.get("cursor", "")
    if sort not in _SORTS:
        raise Invalid(f"sort is {sort[:64]!r}; it must be one of {', '.join(_SORTS)}")
    by, descending = _SORTS[sort]
    if anchor not in {"", "end"} or (anchor and by != "createdAt"):
        raise Invalid(f"anchor is {anchor[:64]!r}; it may only be 'end', with a sort by createdAt")
    binding = json.dumps([call.principal.workspace, about, sort, text, status.lower(), anchor])
    return ListQuery(
        limit=_limit(asked.get("limit", ""), limit),
        by=by,
        descending=descending,
        text=text,
        status=status,
        tail=anchor == "end",
        after=_opened(call, cursor, binding) if cursor else None,
        binding=binding,
    )


def offset_of(call: Call) -> int:
    """``offset``, which only old versions know. Raises Invalid."""
    value = call.request.query_params.get("offset", "")
    if call.paged or not value:
        return 0
    if not value.isdecimal() or len(value) > 9:
        raise Invalid(f"offset is {value[:64]!r}; it must be a whole number from 0 on")
    return int(value)


def page(
    call: Call, query: ListQuery, found: Sequence[T], position: Callable[[T], Sequence[Json]]
) -> tuple[Sequence[T], str]:
    """Cut ``found``, read one longer than the limit, to the page; and the cursor of the next one, empty on the last."""
    shown = found[: query.limit]
    more = len(found) > query.limit and not query.tail
    return shown, _sealed(call, position(shown[-1]), query.binding) if more else ""


def in_shape(call: Call, items: Sequence[Json], cursor: str, total: int) -> Json:
    """The list as the caller's version knows it."""
    return as_page(items, cursor, total) if call.paged else items


def as_page(items: Sequence[Json], cursor: str, total: int) -> Json:
    """A page; more is to come exactly when the cursor is not empty."""
    return {"data": items, "meta": {"hasMore": bool(cursor), "nextCursor": cursor, "total": total}}


def _sealed(call: Call, position: Sequence[Json], binding: str) -> str:
    payload = json.dumps([int(call.now.timestamp()), list(position)], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(call, payload, binding) + payload).decode().rstrip("=")


def _opened(call: Call, cursor: str, binding: str) -> Sequence[Json]:
    wrong = Invalid("cursor does not belong to this query: use it with the same filters and sort it came from")
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raise wrong from None
    mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(call, payload, binding)):
        raise wrong
    issued, position = json.loads(payload)
    if call.now - datetime.fromtimestamp(issued, UTC) > _LIFETIME:
        raise Invalid("cursor is older than 24 hours: start the list again without it")
    found: Sequence[Json] = position
    return found


def _mac(call: Call, payload: bytes, binding: str) -> bytes:
    return call.parts.keyring.mac("cursor", binding.encode() + b"\0" + payload)[:_MAC_BYTES]


def _limit(value: str, limit: Limit) -> int:
    if not value:
        return limit.default
    if not (value.isascii() and value.isdecimal()) or not value.strip("0"):
        raise Invalid(f"limit is {quoted(value)}; it must be a whole number from 1 to {limit.most}")
    # more digits than any list has rows would make int() itself fail
    return min(int(value), limit.most) if len(value) <= _LIMIT_DIGITS else limit.most


def _text(value: str) -> str:
    if len(value) > _MAX_TEXT:
        raise Invalid(f"q has {len(value)} characters; it may have up to {_MAX_TEXT}")
    text = value.strip().lower()
    return text if len(text) >= _MIN_TEXT else ""
