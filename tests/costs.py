"""What some work costs the database: counted, never timed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, event

# a progress handler is called once in so many steps of SQLite's virtual machine
_STEP: Final = 10


@dataclass(slots=True)
class Cost:
    """Statements, but those that begin and end transactions, and steps of SQLite's virtual machine."""

    statements: int = 0
    steps: int = 0


def cost(work: Callable[[], object]) -> Cost:
    """What ``work`` costs all connections to all databases."""
    found, used = Cost(), set[Any]()

    def step() -> int:
        found.steps += _STEP
        return 0

    def before(_: object, cursor: Any, statement: str, *__: object) -> None:
        found.statements += not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE"))
        if cursor.connection not in used:
            used.add(cursor.connection)
            cursor.connection.set_progress_handler(step, _STEP)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        work()
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        for connection in used:
            connection.set_progress_handler(None, _STEP)
    return found
