"""The table of the one value by which a server knows its key ring again."""

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

from tidemill.store.columns import metadata

key_check = Table(
    "key_check",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", Text, nullable=False),  # an envelope whose content only the same key ring makes
    CheckConstraint("id = 1", name="key_check_one"),
)
