"""What a request for a rerun says (docs/wire.md, Ours besides)."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from tidemill.api.wire import Body, Json, Text, parse_json, unknown_members, validated
from tidemill.model.errors import Invalid
from tidemill.model.execution import Reason
from tidemill.model.quoted import quoted
from tidemill.model.rerun import FAILED, SAME, RerunRequest, Selection, merged
from tidemill.model.states import TASK_FINAL, TaskState

_EXIT_CODES: Final = range(256)
_SPAN: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_STATES: Final = tuple(sorted(state.value for state in TASK_FINAL))
_REASONS: Final = tuple(reason.value for reason in Reason)
_NAMED: Final = {"failed": ["failed"], "not_succeeded": ["failed", "cancelled"]}


def _listed(value: object) -> object:
    """A single value is a list of it."""
    return value if value is None or isinstance(value, list) else [value]


def _spelled_out(value: object) -> object:
    """The object that a word stands for."""
    if value == "":
        return None
    if not isinstance(value, str):
        return value
    if value not in _NAMED:
        raise Invalid(f"select is {quoted(value)}; it must be 'failed', 'not_succeeded' or an object")
    return {"status": _NAMED[value]}


def _exit_code(value: int) -> int:
    if value not in _EXIT_CODES:
        raise ValueError("an exit code, 0 to 255")
    return value


class SelectBody(Body):
    """Members that are absent, null or empty lists are no wish; the others are combined by AND."""

    status: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    exit_code: Annotated[list[Annotated[int, AfterValidator(_exit_code)]] | None, BeforeValidator(_listed)] = None
    reason: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    indices: Annotated[list[Json] | None, BeforeValidator(_listed)] = None


class RerunBody(Body):
    """All members are optional."""

    select: Annotated[SelectBody | None, BeforeValidator(_spelled_out)] = None
    revision: Text = None
    memory: Annotated[int | None, Field(ge=0, description="a whole number of MB from 0 on; 0 is no wish")] = None
    timeout: Annotated[int | None, Field(ge=0, description="a whole number of seconds from 0 on; 0 is no wish")] = None
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


def _selection(select: SelectBody | None) -> Selection:
    if select is None:
        return FAILED
    # a filter that we do not know would be one that does not hold back
    if unknown := sorted(unknown_members(select, "select.")):
        raise Invalid(f"unknown members: {', '.join(unknown)}; select has status, exitCode, reason and indices")
    found = Selection(
        states=frozenset(TaskState(word) for word in _words("status", select.status, _STATES)),
        exit_codes=frozenset(select.exit_code or ()),
        reasons=frozenset(Reason(word) for word in _words("reason", select.reason, _REASONS)),
        indices=merged([_span(one) for one in select.indices or ()]),
    )
    if found == Selection():
        raise Invalid("select has no member that selects; give status, exitCode, reason or indices, or 'failed'")
    return found


def _words(name: str, words: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Each as it is spelled in ``known``, whatever its case."""
    spelled = {word.lower(): word for word in known}
    for word in words or ():
        if word.lower() not in spelled:
            raise Invalid(f"select.{name} has {word[:64]!r}; it must be of {', '.join(known)}")
    return [spelled[word.lower()] for word in words or ()]


def _span(value: Json) -> tuple[int, int]:
    """(first, last) of an index or of a text like ``3-7``."""
    whole = isinstance(value, int | str) and not isinstance(value, bool)
    found = _SPAN.fullmatch(str(value).strip()) if whole else None
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if last < first:
        raise Invalid(f"select.indices has {str(value)[:64]!r}; it must be of indices like 5 and ranges like '3-7'")
    return first, last
