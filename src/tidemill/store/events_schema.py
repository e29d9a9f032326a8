"""The tables that events are read from: one number line for all, and a row for each event of a job or an execution."""

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from tidemill.store.columns import Instant, metadata

event_line = Table(
    "event_line",
    metadata,
    Column("name", String(32), primary_key=True),  # there is one
    Column("last", BigInteger, nullable=False),  # the newest number that was given
    Column("swept", BigInteger, nullable=False, server_default="0"),  # up to here rows may be gone
)
"""Numbers are taken in the unit that they are for: who writes after another sees and gets higher ones."""

event = Table(
    "event",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("key", BigInteger, nullable=False),  # of the execution, or of the job
    Column("workspace", String(64), nullable=False),
    Column("job", String(49), nullable=False),  # its name; both names stay when the things are gone
    Column("execution", String(64), nullable=False, server_default=""),  # its id; "" for an event of the job itself
    Column("status", String(16), nullable=False),
    Column("message", Text, nullable=False, server_default=""),
    Column("at", Instant, nullable=False),
    Index("event_workspace", "workspace", "number"),
)
"""Tasks have no rows here: attempt.change is the number of their last change."""
