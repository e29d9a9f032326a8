"""the audit: a chain of rows, and its head"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_kind", sa.String(length=16), nullable=False),
        sa.Column("credential", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("request", sa.String(length=32), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.CheckConstraint("outcome IN ('success', 'refused', 'failed')", name="audit_outcome"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("audit_workspace", "audit", ["workspace", "at", "number"])
    op.create_index("audit_actor", "audit", ["workspace", "actor", "at", "number"])
    op.create_index("audit_resource", "audit", ["workspace", "resource", "at", "number"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name="audit_head_one"),
        sa.PrimaryKeyConstraint("id"),
    )
    # the beginning of every chain: from now on a database without a head is one that somebody took it from
    op.bulk_insert(head, [{"id": 1, "number": 0, "mac": "", "seal": ""}])
