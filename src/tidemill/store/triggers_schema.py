"""The tables of triggers: what each job has, and every time at which one was due."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, String, Table, Text, text

from tidemill.model.trigger import Outcome
from tidemill.store.columns import Instant, metadata

_OUTCOMES = ", ".join(f"'{outcome.value}'" for outcome in Outcome)

job_trigger = Table(
    "job_trigger",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), primary_key=True),
    Column("type", String(16), nullable=False),
    Column("enabled", Integer, nullable=False),
    # of a cron trigger; empty else
    Column("schedule", Text, nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("catch_up", String(8), nullable=False),
    Column("overlap", String(8), nullable=False),
    # where an http or http-async trigger is called, without a credential or with one; empty, 0 and null else
    Column("path", String(200), nullable=False, server_default=""),
    Column("public", Integer, nullable=False, server_default="0"),
    Column("timeout_s", Integer),
    Column("tasks_digest", String(64), nullable=False),  # of what configuration.tasks says
    Column("input_set", BigInteger),  # what its executions share; made soon after the trigger
    Column("planned_at", Instant),  # its due times count from then on; null: not planned yet
    Column("next_due_at", Instant),  # null: never
    Index(
        "job_trigger_due",
        "next_due_at",
        sqlite_where=text("next_due_at IS NOT NULL"),
        postgresql_where=text("next_due_at IS NOT NULL"),
    ),
    Index(
        "job_trigger_without_inputs",
        "job",
        "id",
        sqlite_where=text("input_set IS NULL"),
        postgresql_where=text("input_set IS NULL"),
    ),
    Index("job_trigger_inputs", "input_set"),
    sqlite_with_rowid=False,
)

# one row for each time at which a trigger was due; one for several in a row that were missed: since .. due_at
tick = Table(
    "tick",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("trigger_id", String(64), primary_key=True),
    Column("due_at", Instant, primary_key=True),
    Column("since", Instant, nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("reason", String(32), nullable=False, server_default=""),  # why it was skipped
    Column("execution", BigInteger),  # that it made
    Column("settled_at", Instant),  # when it was fired or skipped
    CheckConstraint(f"outcome IN ({_OUTCOMES})", name="tick_outcome"),
    CheckConstraint("(outcome = 'fired') = (execution IS NOT NULL)", name="tick_execution"),
    Index("tick_open", "due_at", sqlite_where=text("outcome = 'due'"), postgresql_where=text("outcome = 'due'")),
    Index("tick_age", "due_at"),
    sqlite_with_rowid=False,
)
