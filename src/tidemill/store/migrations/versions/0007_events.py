"""what changed, in order: events of jobs and executions, and the number of each task's last change"""

import sqlalchemy as sa
from alembic import op

from tidemill.store.columns import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    line = op.create_table(
        "event_line",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("swept", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.bulk_insert(line, [{"name": "events", "last": 0, "swept": 0}])
    op.create_table(
        "event",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("job", sa.String(length=49), nullable=False),
        sa.Column("execution", sa.String(length=64), server_default="", nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("event_workspace", "event", ["workspace", "number"])
    op.add_column("attempt", sa.Column("change", sa.BigInteger(), nullable=True))
    op.create_index(
        "attempt_change",
        "attempt",
        ["workspace", "change"],
        sqlite_where=sa.text("change IS NOT NULL"),
        postgresql_where=sa.text("change IS NOT NULL"),
    )
