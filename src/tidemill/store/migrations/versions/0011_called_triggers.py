"""triggers that are called by HTTP, and executions with a deadline"""

from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("path", sa.String(length=200), server_default="", nullable=False),
        sa.Column("public", sa.Integer(), server_default="0", nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=True),
    ):
        op.add_column("job_trigger", column)
    op.add_column("execution", sa.Column("deadline_at", sa.BigInteger(), nullable=True))
    op.add_column("execution", sa.Column("timed_out", sa.Integer(), server_default="0", nullable=False))
    live = sa.text("deadline_at IS NOT NULL AND completed_at IS NULL")
    op.create_index("execution_deadline", "execution", ["deadline_at"], sqlite_where=live, postgresql_where=live)
    _take_up()


def _take_up() -> None:
    """Triggers of these types were kept, and could not be called."""
    trigger = sa.table("job_trigger", *(sa.column(name) for name in ("job", "id", "type", *_VALUES)))
    job = sa.table("job", sa.column("key"), sa.column("extra", sa.JSON))
    connection = op.get_bind()
    rows = sa.select(trigger.c.job, trigger.c.id, job.c.extra).join(job, job.c.key == trigger.c.job)
    for key, name, extra in connection.execute(rows.where(trigger.c.type.in_(("http", "http-async")))).all():
        kept = {one["id"]: one for one in extra.get("spec", {}).get("triggers") or ()}
        connection.execute(
            sa.update(trigger).where(trigger.c.job == key, trigger.c.id == name).values(_values(kept.get(name, {})))
        )


_VALUES = ("path", "public", "timeout_s")


def _values(kept: dict[str, Any]) -> dict[str, object]:
    # as store/triggers.py has it at this revision. Of two with one path either is called, until the next PUT names both
    configuration = kept.get("configuration") or {}
    return {
        "path": unquote(configuration.get("path", "/")).rstrip("/") or "/",
        "public": int(configuration.get("authenticationType") == "public"),
        "timeout_s": configuration.get("timeout"),
    }
