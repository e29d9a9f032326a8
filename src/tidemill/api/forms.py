"""Bodies that are forms, as browsers and OAuth libraries send them."""

from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from tidemill.model.errors import Invalid

FORM_BYTES: Final = 64 << 10
"""Most bytes of such a body, and of a JSON body in its place."""

_MEDIA: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 64


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _MEDIA


def parse_form(raw: bytes) -> dict[str, str]:
    """Its fields that are not empty, each once. Raises Invalid."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise Invalid(f"the body is no form of at most {_MOST_FIELDS} fields") from None
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"{name[:64]} is there more than once")
    return dict(pairs)
