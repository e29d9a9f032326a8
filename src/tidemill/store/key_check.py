"""The value by which a server knows its key ring again, as it is kept: sealed."""

from sqlalchemy import Connection, insert, inspect, select

from tidemill.store import schema

_CHECK = schema.key_check.c


def find(connection: Connection) -> str:
    """The envelope, "" when there is none, be it that the tables are older. Two statements."""
    if not inspect(connection).has_table(schema.key_check.name):
        return ""
    return connection.scalar(select(_CHECK.sealed)) or ""


def keep(connection: Connection, sealed: str) -> None:
    """Keep it unless there is one. Two statements."""
    if connection.scalar(select(_CHECK.id)) is None:
        connection.execute(insert(schema.key_check).values(id=1, sealed=sealed))
