"""What an attempt ran with, in one line."""

from tidemill.sdk import Protections


def sentence(had: Protections) -> str:
    """``level process: capabilities, memory (cgroup v1); without cpu``: names as doctor has them."""
    by = had.get("by") or {}

    def told(name: str) -> str:
        return f"{name} ({by[name]})" if name in by else name

    held = ", ".join(told(name) for name in had.get("active") or []) or "nothing"
    lacks = ", ".join(told(name) for name in had.get("missing") or [])
    return f"level {had.get('level') or 'unknown'}: {held}{f'; without {lacks}' if lacks else ''}"
