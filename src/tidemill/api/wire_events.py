"""Events as JSON, and as server-sent events (HTML Living Standard, section 9.2)."""

from typing import Final

from tidemill.api.wire import Json, render, timestamp
from tidemill.store.events import Change, Page

KEEP_ALIVE: Final = b":\n\n"
"""A comment: proxies see that the connection lives."""


def page_view(page: Page) -> dict[str, Json]:
    """``next`` is the ``after`` of the next request; ``more``: there is more to read at once."""
    return {
        "events": [event_view(change) for change in page.changes],
        "next": page.after,
        "more": page.after < page.newest,
    }


def event_view(change: Change) -> dict[str, Json]:
    """Members that say nothing are left out."""
    kind = "job" if not change.execution else "execution" if change.task is None else "task"
    told: dict[str, Json] = {
        "execution": change.execution,
        "task": None if change.task is None else f"task-{change.task}",
        "attempt": change.attempt,
        "reason": change.reason,
        "message": change.message,
        "exitCode": change.exit_code,
    }
    return {
        "seq": change.number,
        "type": kind,
        "at": timestamp(change.at),
        "job": change.job,
        "status": change.status,
        **{name: value for name, value in told.items() if value not in {None, ""}},
    }


def stream_text(page: Page) -> bytes:
    """The events of a page, and the number that a client that comes again is to say as Last-Event-ID."""
    told = [
        f"id: {change.number}\nevent: {view['type']}\ndata: ".encode() + render(view) + b"\n\n"
        for change in page.changes
        for view in (event_view(change),)
    ]
    # without data it is no event, but its id is kept
    return b"".join(told) + f"id: {page.after}\n\n".encode()


def stream_end(problem: bytes) -> bytes:
    """Why a stream ends before its time."""
    return b"event: error\ndata: " + problem + b"\n\n"
