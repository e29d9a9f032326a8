"""the first tables"""

import sqlalchemy as sa
from alembic import op

from tidemill.store import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("expires_at", schema.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "attempt",
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("alone", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_at", schema.Instant(), nullable=False),
        sa.Column("started_at", schema.Instant(), nullable=True),
        sa.Column("ended_at", schema.Instant(), nullable=True),
        sa.Column("cancel_sent_at", schema.Instant(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cpu_s", sa.Float(), nullable=True),
        sa.Column("charged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("superseded", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", "idx", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "attempt_live",
        "attempt",
        ["owner", "node", "workspace", "memory_mb", "alone", "cancel_sent_at", "ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "build",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("source_digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_in_row", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", schema.Instant(), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("started_at", schema.Instant(), nullable=True),
        sa.Column("ended_at", schema.Instant(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'running', 'succeeded', 'failed')", name="build_state"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(
        "build_open",
        "build",
        ["not_before"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(op.f("ix_build_job"), "build", ["job"], unique=False)
    op.create_table(
        "execution",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("image_digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("input_set", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("env_names", sa.JSON(), nullable=False),
        sa.Column("env_sealed", sa.Text(), server_default="", nullable=False),
        sa.Column("extra", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("parallelism", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("memory_override_mb", sa.Integer(), nullable=True),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("force", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("waiting", sa.Integer(), server_default="0", nullable=False),
        sa.Column("running", sa.Integer(), server_default="0", nullable=False),
        sa.Column("succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retried", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("served_at", schema.Instant(), nullable=False),
        sa.Column("started_at", schema.Instant(), nullable=True),
        sa.Column("completed_at", schema.Instant(), nullable=True),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'pending', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name="execution_state",
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(
        "execution_completed",
        "execution",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NOT NULL"),
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
    op.create_index("execution_created", "execution", ["job", "created_at", "key"], unique=False)
    op.create_index("execution_id", "execution", ["job", "id"], unique=True)
    op.create_index(
        "execution_live",
        "execution",
        ["workspace", "state", "served_at"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NULL"),
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_index(
        "execution_queued",
        "execution",
        ["workspace", "job", "created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("execution_revision", "execution", ["job", "revision"], unique=False)
    op.create_index("execution_workspace_id", "execution", ["workspace", "id"], unique=False)
    op.create_index(op.f("ix_execution_input_set"), "execution", ["input_set"], unique=False)
    op.create_table(
        "execution_alias",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("alias", sa.String(length=256), nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", "alias"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_execution_alias_execution"), "execution_alias", ["execution"], unique=False)
    op.create_table(
        "image",
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=49), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "name", "tag"),
    )
    op.create_index(op.f("ix_image_digest"), "image", ["digest"], unique=False)
    op.create_table(
        "input_chunk",
        sa.Column("input_set", sa.BigInteger(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("input_set", "first_index"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "input_set",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_input_set_created_at"), "input_set", ["created_at"], unique=False)
    op.create_table(
        "job",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=49), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Integer(), server_default="1", nullable=False),
        sa.Column("extra", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("active_revision", sa.String(length=64), server_default="", nullable=False),
        sa.Column("staged_revision", sa.String(length=64), server_default="", nullable=False),
        sa.Column("building_until", schema.Instant(), nullable=True),
        sa.Column("executions_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revisions_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("events_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("terminated_at", schema.Instant(), nullable=True),
        sa.CheckConstraint(
            "state IN ('UPLOADING', 'BUILDING', 'DEPLOYING', 'DEPLOYED', 'FAILED', 'DEACTIVATING', 'DEACTIVATED', 'DELETING', 'TERMINATED')",
            name="job_state",
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("job_created", "job", ["workspace", "created_at", "key"], unique=False)
    op.create_index(
        "job_name",
        "job",
        ["workspace", "name"],
        unique=True,
        sqlite_where=sa.text("terminated_at IS NULL"),
        postgresql_where=sa.text("terminated_at IS NULL"),
    )
    op.create_table(
        "job_event",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("job", "number"),
    )
    op.create_table(
        "log_block",
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("block_id", sa.String(length=96), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("last_index", sa.Integer(), nullable=False),
        sa.Column("first_at", schema.Instant(), nullable=False),
        sa.Column("last_at", schema.Instant(), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("cut", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node", "block_id"),
    )
    op.create_index("log_block_job", "log_block", ["job", "last_at"], unique=False)
    op.create_index("log_block_owner", "log_block", ["owner", "first_at"], unique=False)
    op.create_table(
        "node",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("events_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("logs_incarnation", sa.String(length=64), server_default="", nullable=False),
        sa.Column("logs_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "result",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("execution", "idx"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "revision",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("image_digest", sa.String(length=64), server_default="", nullable=False),
        sa.Column("from_manifest", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", "id"),
    )
    op.create_table(
        "task",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("charged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_in_row", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", schema.Instant(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("has_result", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("started_at", schema.Instant(), nullable=True),
        sa.Column("ended_at", schema.Instant(), nullable=True),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name="task_state"),
        sa.PrimaryKeyConstraint("execution", "idx"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "task_waiting",
        "task",
        ["execution", "not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "term",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("taken_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "upload",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("expires_at", schema.Instant(), nullable=False),
        sa.Column("used_at", schema.Instant(), nullable=True),
        sa.Column("building_s", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index(op.f("ix_upload_job"), "upload", ["job"], unique=False)
    op.create_table(
        "workspace",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("max_parallel_executions", sa.Integer(), nullable=False),
        sa.Column("max_concurrent_tasks", sa.Integer(), nullable=True),
        sa.Column("jobs_total", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
