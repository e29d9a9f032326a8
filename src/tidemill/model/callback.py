"""Callbacks: whom the end of an execution is told, and how far that has come."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from tidemill.model.execution import Stats
from tidemill.model.retry import RetryPolicy, backoff
from tidemill.model.states import DeliveryState, ExecutionState

DEFAULT_RETRIES: Final = 5
MESSAGE_MAX: Final = 500
_WAITS: Final = RetryPolicy(initial_s=1.0, factor=2.0, max_s=3_600.0)
_PORTS: Final = {"http": 80, "https": 443}
_CODES: Final[Mapping[ExecutionState, int]] = {
    ExecutionState.SUCCEEDED: 200,
    ExecutionState.FAILED: 500,
    ExecutionState.CANCELLED: 499,
}
_TIMED_OUT: Final = 504


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """What a trigger wants: where its executions' ends are told, and how many tries there are after the first."""

    trigger: str
    url: str
    retries: int = DEFAULT_RETRIES

    @property
    def receiver(self) -> str:
        """HOST:PORT: what all callbacks to one receiver have in common."""
        return receiver_of(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One callback as its user sees it. ``due_at`` is when it is tried next, None once it is delivered or parked.

    ``execution`` is the public id, ``status`` and ``stats`` are how that execution ended; ``code`` is what is told.
    ``answered`` is the last answer's status, None when there was none; ``message`` says what went wrong last.
    """

    execution: str
    trigger: str
    state: DeliveryState
    status: ExecutionState
    code: int
    stats: Stats
    tries: int
    due_at: datetime | None
    settled_at: datetime | None
    created_at: datetime
    answered: int | None
    message: str


def callbacks_of(triggers: object) -> Iterator[Callback]:
    """Those of ``spec.triggers`` as they are kept (a list of objects, or nothing)."""
    for trigger in triggers if isinstance(triggers, list) else ():
        configuration = trigger.get("configuration") or {}
        url = configuration.get("callbackUrl")
        if url:
            yield Callback(trigger=trigger["id"], url=url, retries=configuration.get("retry", DEFAULT_RETRIES))


def receiver_of(url: str) -> str:
    """HOST:PORT of a URL that was accepted; the beginning of any other text."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return url[:255]
    return f"{(parts.hostname or '')[:249]}:{port}"


def code_of(state: ExecutionState, *, timed_out: bool) -> int:
    """What a receiver is told of an execution that has ended, in the numbers of HTTP (docs/callbacks.md)."""
    return _TIMED_OUT if timed_out and state is ExecutionState.FAILED else _CODES[state]


def pause(tries: int, jitter: float) -> timedelta:
    """How long to wait after ``tries`` tries: half of 1 s, 2 s, 4 s … 1 h, and a part of the other half.

    ``jitter`` is from 0 to 1. Half is sure, so that a receiver has time; the rest spreads who comes back.
    """
    return backoff(tries, _WAITS) * (0.5 + jitter / 2)


def secret_about(key: int) -> str:
    """What the envelope of a callback's secret is bound to; ``key`` is its row's."""
    return f"callback/{key}"


def older_about(key: int) -> str:
    """The same of the secret before it, while a rotation is under way."""
    return f"callback/{key}/older"


def ids(callbacks: Iterable[Callback]) -> set[str]:
    """The triggers that have one."""
    return {callback.trigger for callback in callbacks}
