"""How long a credential is good for, as callers write it: ``24h``, ``30d``, ``1w`` (contract 2.6)."""

import re
from datetime import timedelta
from typing import Final

from tidemill.model.errors import Invalid
from tidemill.model.quoted import quoted

_FORM: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
LONGEST: Final = timedelta(days=3650)


def lifetime(text: str, path: str) -> timedelta | None:
    """The time that ``text`` says; None for ever when it is empty. Raises Invalid naming ``path``.

    Positive, a whole number with its unit (s, m, h, d or w), at most ten years.
    """
    if not text:
        return None
    found = _FORM.fullmatch(text)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= LONGEST.total_seconds():
        raise Invalid(
            f'{path} is {quoted(text)}; it must be a number with its unit such as "24h", "30d" or "1w", '
            "at most ten years, or absent for a key that does not expire"
        )
    return timedelta(seconds=seconds)
