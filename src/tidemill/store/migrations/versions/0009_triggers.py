"""triggers that fire: what each job has, when it is due, and what became of each due time"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_trigger",
        sa.Column("job", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Integer(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("catch_up", sa.String(length=8), nullable=False),
        sa.Column("overlap", sa.String(length=8), nullable=False),
        sa.Column("tasks_digest", sa.String(length=64), nullable=False),
        sa.Column("input_set", sa.BigInteger(), nullable=True),
        sa.Column("planned_at", sa.BigInteger(), nullable=True),
        sa.Column("next_due_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("job_trigger_inputs", "job_trigger", ["input_set"])
    for name, columns, where in (
        ("job_trigger_due", ["next_due_at"], "next_due_at IS NOT NULL"),
        ("job_trigger_without_inputs", ["job", "id"], "input_set IS NULL"),
    ):
        op.create_index(name, "job_trigger", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_table(
        "tick",
        sa.Column("job", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("trigger_id", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=32), server_default="", nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("outcome IN ('due', 'fired', 'skipped')", name="tick_outcome"),
        sa.CheckConstraint("(outcome = 'fired') = (execution IS NOT NULL)", name="tick_execution"),
        sa.PrimaryKeyConstraint("job", "trigger_id", "due_at"),
        sqlite_with_rowid=False,
    )
    is_open = sa.text("outcome = 'due'")
    op.create_index("tick_open", "tick", ["due_at"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("tick_age", "tick", ["due_at"])
    op.add_column("execution", sa.Column("trigger_id", sa.String(length=64), server_default="", nullable=False))
    op.add_column("execution", sa.Column("due_at", sa.BigInteger(), nullable=True))
    live = sa.text("trigger_id <> '' AND completed_at IS NULL")
    op.create_index(
        "execution_of_trigger", "execution", ["job", "trigger_id"], sqlite_where=live, postgresql_where=live
    )
    _take_up()


def _take_up() -> None:
    """Triggers lay among the members that are only kept. The server plans them when it starts: from then on they fire."""
    job = sa.table("job", *(sa.column(name) for name in ("key", "state")), sa.column("extra", sa.JSON))
    connection = op.get_bind()
    rows = []
    for key, extra in connection.execute(sa.select(job.c.key, job.c.extra).where(job.c.state.not_in(_ENDED))).all():
        rows += [_row(key, kept) for kept in extra.get("spec", {}).get("triggers") or []]
    table = sa.table("job_trigger", *(sa.column(name) for name in _COLUMNS))
    if rows:
        connection.execute(sa.insert(table), rows)


_ENDED = ("DELETING", "TERMINATED")
_COLUMNS = ("job", "id", "type", "enabled", "schedule", "timezone", "catch_up", "overlap", "tasks_digest")


def _row(job: int, kept: dict[str, Any]) -> dict[str, object]:
    # as store/triggers.py has it at this revision: what differs would only be made anew by the next PUT
    configuration = kept.get("configuration") or {}
    tasks = json.dumps(configuration.get("tasks") or [{}], separators=(",", ":"), ensure_ascii=False)
    return {
        "job": job,
        "id": kept["id"],
        "type": kept["type"],
        "enabled": int(kept.get("enabled", True)),
        "schedule": configuration.get("schedule", "") if kept["type"] == "cron" else "",
        "timezone": configuration.get("timezone", "UTC"),
        "catch_up": configuration.get("catchUp", "last"),
        "overlap": configuration.get("overlap", "allow"),
        "tasks_digest": hashlib.sha256(tasks.encode()).hexdigest(),
    }
