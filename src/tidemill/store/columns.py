"""What all tables are made with: their registry, times, and the row as queries yield it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Dialect, MetaData, Row, TypeDecorator

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row as a query of several columns yields it: members by name, of the columns' types."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def _from_microseconds(value: int | None) -> datetime | None:
    # timedelta(microseconds=…) takes twice as long
    return None if value is None else _EPOCH + value * _MICROSECOND


def _microseconds(value: datetime | None) -> int | None:
    if value is None:
        return None
    since = value - _EPOCH  # by hand: dividing by a timedelta takes four times as long
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class Instant(TypeDecorator[datetime]):
    """An aware UTC time, kept as microseconds since the epoch so that it sorts and compares the same everywhere.

    Its processors are given whole: those that TypeDecorator makes call through another function, thousands of times for
    an answer and ten for a task.
    """

    impl = BigInteger
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], int | None]:  # noqa: ARG002
        return _microseconds

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:  # noqa: ARG002
        return _from_microseconds


metadata = MetaData()
