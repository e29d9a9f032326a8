"""The tables of the audit: rows that are only ever added, and the two ends of the chain that they make."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table, Text

from tidemill.store.columns import Instant, metadata

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3 and so on, without a gap
    Column("at", Instant, nullable=False),
    Column("workspace", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("actor_kind", String(16), nullable=False),
    Column("credential", String(32), nullable=False),
    Column("action", String(64), nullable=False),
    Column("resource", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("request", String(32), nullable=False),
    Column("mac", String(64), nullable=False),  # of this row and the mac of the one before it, hex
    CheckConstraint("outcome IN ('success', 'refused', 'failed')", name="audit_outcome"),
    Index("audit_workspace", "workspace", "at", "number"),
    Index("audit_actor", "workspace", "actor", "at", "number"),
    Index("audit_resource", "workspace", "resource", "at", "number"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),  # of the newest row; 0 before the first
    Column("mac", String(64), nullable=False),  # of the newest row
    Column("seal", String(64), nullable=False),  # over both, so that an older row does not pass for the newest
    CheckConstraint("id = 1", name="audit_head_one"),
)

audit_anchor = Table(
    "audit_anchor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),  # of the newest row that was cut
    Column("mac", String(64), nullable=False),  # of that row, which the first one that is kept was chained to
    Column("at", Instant, nullable=False),  # of that row
    Column("seal", String(64), nullable=False),  # over the three, so that nobody else can cut
    CheckConstraint("id = 1", name="audit_anchor_one"),
)
"""No row while nothing was cut."""
