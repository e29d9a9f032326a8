"""How an answer is read: its status, its error, its lists. Pure; nothing here knows how the bytes came."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar, cast

from tidemill.sdk.errors import ApiError, BadAnswerError
from tidemill.sdk.wire import Json, LogPage

T = TypeVar("T")

_BODY_SHOWN: int = 200
"""How much of a foreign error page goes into a message, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list in the server's order. `next_cursor` is empty on the last one; `total` ignores filters."""

    items: list[T]
    next_cursor: str
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer, whoever received it. Header names are in lower case."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def is_repeated(answer: Answer) -> bool:
    """Whether the server asks to have the same request again: it did nothing, and will soon be able to."""
    return answer.status == 503 and answer.headers.get("x-should-retry", "").lower() == "true"


def retry_after_s(headers: Mapping[str, str]) -> float:
    """What `Retry-After` asks for, in seconds, at most 30; 0 when it asks for nothing we understand."""
    value = headers.get("retry-after", "")
    return min(float(value), 30.0) if value.isdecimal() else 0.0


def date(headers: Mapping[str, str]) -> datetime | None:
    """When the server answered, in whole seconds; None when it does not say it as HTTP does."""
    try:
        at = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def api_error(answer: Answer) -> ApiError:
    """The error that an answer of 400 or more carries, also where a proxy answered and not the server."""
    members = _members(answer.body)
    error = members.get("error")
    error_code = members.get("error_code")
    message = members.get("message")
    text = message if isinstance(message, str) and message else error
    if not isinstance(text, str) or not text:
        text = f"{answer.request} was answered with {answer.status} {_excerpt(answer.body)}".rstrip()
    return ApiError(
        status=answer.status,
        error=error if isinstance(error, str) else "",
        error_code=error_code if isinstance(error_code, str) else "",
        message=text,
        request=answer.request,
    )


def read_object(answer: Answer) -> dict[str, Json]:
    """The JSON object of a successful answer. Raises BadAnswerError when it is none."""
    value = _value(answer)
    if not isinstance(value, dict):
        raise BadAnswerError(request=answer.request, reason="the answer is not a JSON object")
    return value


def read_list(answer: Answer) -> list[Json]:
    """The JSON array of a successful answer. Raises BadAnswerError when it is none."""
    value = _value(answer)
    if not isinstance(value, list):
        raise BadAnswerError(request=answer.request, reason="the answer is not a JSON array")
    return value


def read_page(answer: Answer) -> Page[Json]:
    """A page in the shape `{data, meta}`. Raises BadAnswerError when it is none."""
    members = read_object(answer)
    data, meta = members.get("data"), members.get("meta")
    if not isinstance(data, list) or not isinstance(meta, dict):
        raise BadAnswerError(request=answer.request, reason="the answer is not a page with `data` and `meta`")
    more = bool(meta.get("hasMore"))
    return Page(items=data, next_cursor=str(meta.get("nextCursor") or "") if more else "", total=int(meta["total"]))


def read_logs(answer: Answer, job: str) -> LogPage:
    """The lines of one job; no lines when the answer has no entry for it."""
    page = read_object(answer).get(job)
    if page is None:
        return LogPage(logs=[], totalCount=0)
    # the shape is the contract's (6.1); the members are checked where they are used
    return cast("LogPage", page)


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream at `\\n` only, dropping empty lines; a last line needs no end.

    str.splitlines would also cut at U+2028 and its like, which are ordinary characters inside a JSON string.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


def _value(answer: Answer) -> Json:
    try:
        return json.loads(answer.body)
    except ValueError as error:
        excerpt = _excerpt(answer.body)
        raise BadAnswerError(request=answer.request, reason=f"the answer is not JSON: {excerpt}") from error


def _members(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _excerpt(body: bytes) -> str:
    return " ".join(body[: 4 * _BODY_SHOWN].decode(errors="replace").split())[:_BODY_SHOWN]
