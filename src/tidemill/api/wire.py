"""The words of the wire that all resources share: JSON bodies, and times."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from tidemill.api.faults import told
from tidemill.model.errors import Invalid

Json = Any
"""Any JSON value: where it enters and leaves, its type is not known."""

_MAX_DEPTH: Final = 64
_WHOLE_TIME: Final = len("2026-01-02T03:04:05.678901Z")
_ERRORS_SHOWN: Final = 5
_NAME_SHOWN: Final = 128


class Body(BaseModel):
    """A JSON object of a request. Unknown members are kept; a member that is absent is not in ``model_fields_set``."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="allow", strict=True, frozen=True, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        """64.0 is as whole as 64: JSON has one kind of number, and Python's clients print products as the first."""
        return [_as_whole(each) for each in value] if isinstance(value, list) else _as_whole(value)

    def has(self, name: str) -> bool:
        """Whether the request has this member, be it null."""
        return name in self.model_fields_set


def _as_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


B = TypeVar("B", bound=Body)


def _nothing(value: object) -> object:
    """Empty text is how Go's clients write "not set" (contract 5.8)."""
    return None if value == "" else value


Text = Annotated[str | None, BeforeValidator(_nothing)]


def parse_json(body: bytes) -> dict[str, Json]:
    """The JSON object that ``body`` spells. Raises Invalid when it is none, or nests more than 64 deep."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {json_fault(error)}") from None
    if not isinstance(value, dict):
        raise Invalid("the body is not a JSON object")
    _check_depth(value)
    return value


def validated(model: type[B], document: Mapping[str, Json], *, strict: bool) -> B:
    """``document`` as ``model``. Raises Invalid naming each wrong member, and with ``strict`` each unknown one."""
    try:
        body = model.model_validate(document)
    except ValidationError as error:
        raise Invalid(told(error, model)) from None
    if strict and (unknown := sorted(unknown_members(body, ""))):
        raise Invalid(f"unknown members: {', '.join(name[:_NAME_SHOWN] for name in unknown[:_ERRORS_SHOWN])}")
    return body


def unknown_members(body: Body, path: str) -> Iterable[str]:
    """Dotted names of the members that no model knows."""
    yield from (f"{path}{name}" for name in body.model_extra or {})
    for name, field in type(body).model_fields.items():
        value = getattr(body, name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Body):
                yield from unknown_members(each, f"{path}{field.alias or name}.")


def json_fault(error: Exception) -> str:
    """What is wrong with text that is no JSON; holds positions and never values."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")


def render(value: Json) -> bytes:
    """JSON text. Numbers that JSON cannot spell become null."""
    return to_json(value, inf_nan_mode="null")


def timestamp(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds; None for none."""
    if at is None:
        return None
    # an answer may hold four thousand of them, and this takes a tenth of the time of isoformat
    text: str = msgspec.to_builtins(at.astimezone(UTC))
    return text if len(text) == _WHOLE_TIME else f"{text[:-1]}.000000Z"


def present(members: Mapping[str, Json]) -> dict[str, Json]:
    """Without those that are None: clients of every age tolerate an absent member better than a null one."""
    return {name: value for name, value in members.items() if value is not None}


def _check_depth(value: Json) -> None:
    level, depth = [value], 0
    while level:
        if depth > _MAX_DEPTH:
            raise Invalid(f"the body nests more than {_MAX_DEPTH} deep")
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level, depth = [item for items in inner for item in items if isinstance(item, dict | list)], depth + 1
