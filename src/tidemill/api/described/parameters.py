"""Parameters of queries, as the document says them."""

from collections.abc import Sequence
from typing import Any, Final

from tidemill.api.described.answers import Schema

MAX_NUMBER: Final = 999_999_999
"""The most that an offset, or a number of lines, may be: nine digits."""


def comma_list(*words: str) -> Schema:
    """The schema of some of ``words`` with commas between, in any case; none of them is no filter."""
    return {"type": "array", "items": {"type": "string", "enum": list(words)}, "description": "In any case"}


def query(name: str, schema: Schema, required: Sequence[str]) -> dict[str, Any]:
    """A parameter of a query. A list is one text with commas between."""
    found: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
    if name in required:
        found["required"] = True
    if schema.get("type") == "array":
        found |= {"style": "form", "explode": False}
    return found
