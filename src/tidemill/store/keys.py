"""Many keys in one statement: a list of pairs, or of texts, as one parameter, is a table to join with."""

import json
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Integer, String, bindparam, column, func, select

PAIRS: Final = func.json_each(bindparam("pairs")).table_valued("value")
"""Goes first in the FROM, so that each pair is one look-up in an index: SQLite reads all of a table to find
``(a, b) IN (VALUES …)``."""
# typed, so that numbers are compared with numbers
FIRST: Final = func.json_extract(PAIRS.c.value, "$[0]", type_=Integer)
SECOND: Final = func.json_extract(PAIRS.c.value, "$[1]", type_=Integer)
THIRD: Final = func.json_extract(PAIRS.c.value, "$[2]", type_=Integer)

TEXTS: Final = select(func.json_each(bindparam("texts")).table_valued(column("value", String)).c.value)
"""The texts of the parameter ``texts``, a JSON list: what a column may be IN."""


def pairs(keys: Iterable[tuple[int, ...]]) -> str:
    """The value of the parameter ``pairs``; each may have a third number."""
    return json.dumps(list(keys))
