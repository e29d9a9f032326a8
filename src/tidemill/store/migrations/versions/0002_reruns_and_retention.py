"""reruns, retry policies, retention, leases with a time to live, pages of tasks by state, canaries"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("execution") as execution:
        execution.add_column(sa.Column("retry_policy", sa.JSON(), server_default="{}", nullable=False))
        execution.add_column(sa.Column("region", sa.String(length=64), server_default="", nullable=False))
        execution.add_column(sa.Column("origin", sa.BigInteger(), nullable=True))
        execution.add_column(sa.Column("chain", sa.BigInteger(), nullable=True))
    op.execute("UPDATE execution SET chain = key")
    with op.batch_alter_table("execution") as execution:
        execution.alter_column("chain", existing_type=sa.BigInteger(), nullable=False)
        execution.create_index("execution_chain", ["chain", "key"])
    op.add_column("node", sa.Column("lease_ttl_s", sa.Float(), nullable=True))
    op.create_table(
        "task_range",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("execution", "first_position"),
        sqlite_with_rowid=False,
    )
    op.create_index("task_range_index", "task_range", ["execution", "first_index"], unique=True)
    op.create_index("log_block_age", "log_block", ["last_at"])
    op.create_index(
        "task_failed",
        "task",
        ["execution", "reason", "idx", "state"],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index("task_state", "task", ["execution", "state", "idx"])
    op.create_table(
        "forgotten",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("input_set", sa.BigInteger(), nullable=False),
        sa.Column("forgotten_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    for table, column in (("build", "ended_at"), ("job", "terminated_at")):
        there = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"{table}_{column[:-3]}", table, [column], sqlite_where=there, postgresql_where=there)
    op.create_index("ix_revision_image_digest", "revision", ["image_digest"])
    _canaries()


def _canaries() -> None:
    op.create_table(
        "sticky_choice",
        sa.Column("job", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("caller", sa.String(length=64), nullable=False),
        sa.Column("is_canary", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", "caller"),
        sqlite_with_rowid=False,
    )
    op.add_column("job_event", sa.Column("canary_revision", sa.String(length=64), server_default="", nullable=False))
    for name in ("previous_revision", "canary_revision"):
        op.add_column("job", sa.Column(name, sa.String(length=64), server_default="", nullable=False))
    for name, default in (("canary_percent", "0"), ("sticky_ttl_s", "0"), ("traffic", "100")):
        op.add_column("job", sa.Column(name, sa.Integer(), server_default=default, nullable=False))
    _move_rollouts()


def _move_rollouts() -> None:
    """``traffic`` and ``stickySessionTtl`` lay among the members that are only kept; paused jobs must stay paused."""
    job = sa.table(
        "job", *(sa.column(name) for name in ("key", "sticky_ttl_s", "traffic")), sa.column("extra", sa.JSON)
    )
    connection = op.get_bind()
    for key, extra in connection.execute(sa.select(job.c.key, job.c.extra)).all():
        revision = extra.get("spec", {}).get("revision")
        if revision:
            values = {"traffic": revision.pop("traffic", 100), "sticky_ttl_s": revision.pop("stickySessionTtl", 0)}
            connection.execute(sa.update(job).where(job.c.key == key).values(extra=extra, **values))
