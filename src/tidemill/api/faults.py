"""How a bad body is told of: the path of the member, its value, and what would be right."""

from collections.abc import Iterator, Sequence
from typing import Final, get_args

from pydantic import BaseModel, ValidationError

from tidemill.model.quoted import quoted

SECRET_MEMBERS: Final = frozenset(
    {"env", "envs", "client_secret", "refresh_token", "device_code", "token", "password", "current", "new"}
)
"""Nothing below these is ever repeated, whatever its shape: it may be a secret's value, or is one."""

_ERRORS_SHOWN: Final = 5
# how pydantic begins what a validator of ours says
_VALIDATORS_SAY: Final = "Value error, "
_PYDANTIC_SAYS: Final = "Input should be "
_RIGHT: Final = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""By kind of error what would be right, for members whose field does not say it itself."""


def told(error: ValidationError, model: type[BaseModel]) -> str:
    """The first five faults of a body that is no ``model``, in the words of the wire, and how many more there are."""
    faults = error.errors(include_url=False)
    wrong = [_fault(model, each["loc"], each["type"], each["msg"], each["input"]) for each in faults[:_ERRORS_SHOWN]]
    more = f"; and {len(faults) - _ERRORS_SHOWN} more" if len(faults) > _ERRORS_SHOWN else ""
    return "; ".join(wrong) + more


def _fault(model: type[BaseModel], where: Sequence[int | str], kind: str, message: str, value: object) -> str:
    path = path_of(where)
    said = message.removeprefix(_VALIDATORS_SAY).removeprefix(_PYDANTIC_SAYS)
    right = _said_by_field(model, where) or _RIGHT.get(kind) or said
    if kind == "missing":
        return f"{path} is missing; it must be {right}" if right != message else f"{path} is missing"
    if SECRET_MEMBERS.intersection(where):
        return f"{path} must be {right}; what was sent is not repeated here"
    return f"{path} is {quoted(value)}; it must be {right}"


def path_of(where: Sequence[int | str]) -> str:
    """``spec.runtime.envs[2].name`` of the steps to a member; long names of members are cut."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:64]}" for step in where)
    return text.removeprefix(".") or "the body"


def _said_by_field(model: type[BaseModel], where: Sequence[int | str]) -> str:
    """The description of the field that ``where`` leads to; empty when it leads past a field or has none."""
    inside: type[BaseModel] | None = model
    said = ""
    for step in where:
        if isinstance(step, int):
            said = ""
            continue
        fields = {} if inside is None else inside.model_fields
        field = next((field for name, field in fields.items() if step in {field.alias, name}), None)
        if field is None:
            return ""
        said = field.description or _RIGHT.get(_plain_kind(field.annotation), "")
        inside = next(_models(field.annotation), None)
    return said


def _plain_kind(annotation: object) -> str:
    """The kind of error of a member that is simply of another type."""
    kinds = {int: "int_type", float: "float_type", str: "string_type", bool: "bool_type"}
    inner = {each for each in (get_args(annotation) or (annotation,)) if each is not type(None)}
    return next((kind for of, kind in kinds.items() if inner == {of}), "")


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The bodies that an annotation holds: ``RuntimeBody`` of ``list[RuntimeBody] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
