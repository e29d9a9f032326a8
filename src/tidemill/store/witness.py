"""Who sees the units of a request before they are committed, and may write beside them (docs/decisions/0099)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from sqlalchemy import Connection


class Witness(Protocol):
    """Sees each unit that changes something on behalf of one request."""

    def see(self, connection: Connection, value: object) -> None:
        """The unit has run and returned ``value``; what this writes is committed, or undone, with it."""

    def committed(self) -> None:
        """The unit that was seen last is on disk."""


_WITNESS: Final[ContextVar[Witness | None]] = ContextVar("tidemill_witness", default=None)


@contextmanager
def witnessed(witness: Witness) -> Iterator[None]:
    """``witness`` sees what is written inside, in this task and in the threads that it waits for."""
    token = _WITNESS.set(witness)
    try:
        yield
    finally:
        _WITNESS.reset(token)


def present() -> Witness | None:
    """The witness of what runs here, None outside of requests."""
    return _WITNESS.get()
