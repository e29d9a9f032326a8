"""Statements of hot paths: compiled once, and run on the driver's own connection."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Insert, Select, Update
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from tidemill.store.readers import driver_of

_Convert: TypeAlias = Callable[[Any], Any]

_DIALECT: Final = dialect(paramstyle="qmark")


class Prepared:
    """A statement of SQLAlchemy's, run without what SQLAlchemy does for each execution: several times as fast.

    Values are converted by the types of its parameters and columns, as ever, and whoever listens to
    ``before_cursor_execute`` hears of it. Errors are the driver's own, ``sqlite3.Error``. A list that changes from call
    to call is one JSON parameter (``store.keys``).
    """

    def __init__(self, statement: Select[Any] | Insert | Update, columns: Iterable[str] = ()) -> None:
        """``columns`` are those that an INSERT gives values to: its parameters. Rows are of a SELECT, or RETURNING."""
        self.statement: Final = statement
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(columns) or None)
        assert isinstance(compiled, SQLCompiler)
        asked = {name: None for name, bind in compiled.binds.items() if bind.required}
        # a list that the statement itself has is written out
        whole = compiled.construct_expanded_state(asked)
        converts = {name: _bound(bind.type) for name, bind in compiled.binds.items()}
        self._sql = whole.statement
        self._marks = [(name, converts.get(name)) for name in whole.positiontup or ()]
        self._own = {name: value for name, value in whole.parameters.items() if name not in asked}
        shown = list(statement.selected_columns if isinstance(statement, Select) else statement.exported_columns)
        self._names = SimpleResultMetaData([str(column.key) for column in shown])
        self._converts = [
            (place, convert) for place, column in enumerate(shown) if (convert := _shown(column.type)) is not None
        ]

    def run(self, connection: Connection, values: Mapping[str, object]) -> Result[Any]:
        """Run it once. Its rows have been read when this returns."""
        parameters = self._parameters(values)
        rows: Iterable[Sequence[Any]] = self._cursor(connection, parameters).execute(self._sql, parameters).fetchall()
        if self._converts:
            rows = [self._converted(row) for row in rows]
        return IteratorResult(self._names, iter(rows))

    def run_many(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> None:
        """Run it once for each of ``rows``, as one statement."""
        parameters = [self._parameters(values) for values in rows]
        self._cursor(connection, parameters).executemany(self._sql, parameters)

    def run_each(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> list[bool]:
        """Run it for each of ``rows``, heard of as one statement; which of them found a row of the table, in order."""
        parameters = [self._parameters(values) for values in rows]
        cursor = self._cursor(connection, parameters)
        return [cursor.execute(self._sql, each).rowcount > 0 for each in parameters]

    def _parameters(self, values: Mapping[str, object]) -> tuple[Any, ...]:
        given = {**self._own, **values} if self._own else values
        return tuple([given[name] if convert is None else convert(given[name]) for name, convert in self._marks])

    def _cursor(self, connection: Connection, parameters: Sequence[Any]) -> sqlite3.Cursor:
        cursor = driver_of(connection).cursor()
        for heard in connection.dispatch.before_cursor_execute:
            heard(connection, cursor, self._sql, parameters, None, False)
        return cursor

    def _converted(self, row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place, convert in self._converts:
            values[place] = convert(values[place])
        return tuple(values)


def _bound(type_: TypeEngine[Any]) -> _Convert | None:
    return type_.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _shown(type_: TypeEngine[Any]) -> _Convert | None:
    return type_.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
