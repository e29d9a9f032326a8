"""callbacks: whom each trigger tells, and what is still to be told"""

import sqlalchemy as sa
from alembic import op

from tidemill.store import schema

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "callback",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("trigger_id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.Column("receiver", sa.String(length=255), server_default="", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("secret_sealed", sa.Text(), nullable=False),
        sa.Column("older_sealed", sa.Text(), server_default="", nullable=False),
        sa.Column("older_until", schema.Instant(), nullable=True),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("callback_trigger", "callback", ["job", "trigger_id"], unique=True)
    _outbox()


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("execution", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("execution_id", sa.String(length=64), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("trigger_id", sa.String(length=64), nullable=False),
        sa.Column("receiver", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("stats", sa.JSON(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claims", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", schema.Instant(), nullable=True),
        sa.Column("settled_at", schema.Instant(), nullable=True),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'parked')", name="outbox_state"),
        sa.CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="outbox_due_at"),
        sa.CheckConstraint("(state = 'pending') = (settled_at IS NULL)", name="outbox_settled_at"),
        sa.PrimaryKeyConstraint("execution"),
    )
    op.create_index("outbox_job", "outbox", ["job", "execution"])
    op.create_index("outbox_job_id", "outbox", ["job", "execution_id"])
    op.create_index("outbox_job_state", "outbox", ["job", "state", "execution"])
    for name, columns, where in (
        ("outbox_due", ["workspace", "receiver", "due_at"], "due_at IS NOT NULL"),
        ("outbox_settled", ["settled_at"], "settled_at IS NOT NULL"),
    ):
        op.create_index(name, "outbox", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
