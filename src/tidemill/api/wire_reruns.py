"""What a request for a rerun says (docs/wire.md, Ours besides)."""

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import Field

from tidemill.api.wire import Body, Json, Text, parse_json, unknown_members, validated
from tidemill.model.errors import Invalid
from tidemill.model.execution import Reason
from tidemill.model.rerun import FAILED, NOT_SUCCEEDED, SAME, RerunRequest, Selection, merged
from tidemill.model.states import TASK_FINAL, TaskState

_SPAN: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_STATES: Final = tuple(sorted(state.value for state in TASK_FINAL))
_NAMED: Final = {"failed": FAILED, "not_succeeded": NOT_SUCCEEDED}


class SelectBody(Body):
    """Members that are absent, null or empty lists are no wish; the others are combined by AND."""

    status: list[str] | str | None = None
    exit_code: list[int] | int | None = None
    reason: list[str] | str | None = None
    indices: list[Annotated[int, Field(ge=0, lt=1_000_000_000)] | str] | None = None


class RerunBody(Body):
    """All members are optional."""

    select: SelectBody | str | None = None
    revision: Text = None
    memory: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[int, Field(ge=0)] | None = None
    env: dict[str, str] | None = None
    execution_id: Text = None
    id: Text = None
    allow_queue: bool | None = None


def rerun_request(body: bytes, *, idempotency_key: str, strict: bool) -> RerunRequest:
    """What the body asks for; an empty one: what failed, as it was. Raises Invalid naming the member."""
    if not body.strip():
        return RerunRequest(idempotency_key=idempotency_key)
    parsed = validated(RerunBody, parse_json(body), strict=strict)
    return RerunRequest(
        select=_selection(parsed.select),
        revision=parsed.revision or SAME,
        env=parsed.env or {},
        memory_mb=parsed.memory or None,
        timeout_s=parsed.timeout or None,
        id=parsed.execution_id or "",
        request_id=parsed.id or "",
        idempotency_key=idempotency_key,
        allow_queue=parsed.allow_queue is not False,
        extra=parsed.model_extra or {},
    )


def _selection(select: SelectBody | str | None) -> Selection:
    if not select:
        return FAILED
    if isinstance(select, str):
        if select not in _NAMED:
            raise Invalid(f"select is {select[:64]!r}; it must be 'failed', 'not_succeeded' or an object")
        return _NAMED[select]
    # a filter that we do not know would be one that does not hold back
    if unknown := sorted(unknown_members(select, "select.")):
        raise Invalid(f"unknown members: {', '.join(unknown)}; select has status, exitCode, reason and indices")
    found = Selection(
        states=frozenset(TaskState(word) for word in _words("status", select.status, _STATES)),
        exit_codes=frozenset(_listed(select.exit_code)),
        reasons=frozenset(Reason(word) for word in _words("reason", select.reason, [one.value for one in Reason])),
        indices=merged([_span(one) for one in select.indices or []]),
    )
    if found == Selection():
        raise Invalid("select has no member that selects; give status, exitCode, reason or indices, or 'failed'")
    return found


def _words(name: str, value: list[str] | str | None, known: Iterable[str]) -> list[str]:
    """Each as it is spelled here, whatever its case."""
    spelled = {word.lower(): word for word in known}
    for word in _listed(value):
        if word.lower() not in spelled:
            raise Invalid(f"select.{name} has {word[:64]!r}; it must be of {', '.join(spelled.values())}")
    return [spelled[word.lower()] for word in _listed(value)]


def _listed(value: Json) -> list[Json]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _span(value: int | str) -> tuple[int, int]:
    """(first, last) of an index or of a text like ``3-7``."""
    if isinstance(value, int):
        return value, value
    found = _SPAN.fullmatch(value.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if last < first:
        raise Invalid(f"select.indices has {value[:64]!r}; it must be of indices like 5 and ranges like '3-7'")
    return first, last
