"""What a caller sent, as a message may repeat it."""

import json
from typing import Final

LONGEST: Final = 64


def quoted(value: object) -> str:
    """``value`` in the words of JSON, cut to 64 characters. Lists and objects are only named: they may hold secrets."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    # a long text is cut before it is spelled, and what spelling adds is cut once more
    text = json.dumps(value[: LONGEST + 1] if isinstance(value, str) else value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
