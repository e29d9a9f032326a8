"""The tables of callbacks: whom each trigger tells of its executions' ends, and what is still to be told."""

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, Integer, String, Table, Text, text

from tidemill.model.states import DeliveryState
from tidemill.store.columns import Instant, metadata

_WORDS = ", ".join(f"'{state.value}'" for state in DeliveryState)

callback = Table(
    "callback",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("job", BigInteger, nullable=False),
    Column("trigger_id", String(64), nullable=False),
    # of the job's triggers as they are in force; empty: its trigger is staged and not in force yet
    Column("url", Text, nullable=False, server_default=""),
    Column("receiver", String(255), nullable=False, server_default=""),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("secret_sealed", Text, nullable=False),
    Column("older_sealed", Text, nullable=False, server_default=""),  # "" unless a rotation is under way
    Column("older_until", Instant),
    Column("created_at", Instant, nullable=False),
    Index("callback_trigger", "job", "trigger_id", unique=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("execution", BigInteger, primary_key=True, autoincrement=False),  # each ends once
    Column("execution_id", String(64), nullable=False),
    Column("workspace", String(64), nullable=False),
    Column("job", BigInteger, nullable=False),
    Column("trigger_id", String(64), nullable=False),
    Column("receiver", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", String(16), nullable=False),  # ExecutionState
    Column("code", Integer, nullable=False),
    Column("stats", JSON, nullable=False),  # members of model.execution.Stats
    Column("tries", Integer, nullable=False, server_default="0"),
    # who sends it: each claim has a number of its own, and no other one may settle it; due_at is when its lease ends
    Column("claims", Integer, nullable=False, server_default="0"),
    Column("claimed", Integer, nullable=False, server_default="0"),
    Column("due_at", Instant),
    Column("settled_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("answered", Integer),  # status of the last answer
    Column("message", Text, nullable=False, server_default=""),
    CheckConstraint(f"state IN ({_WORDS})", name="outbox_state"),
    CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="outbox_due_at"),
    CheckConstraint("(state = 'pending') = (settled_at IS NULL)", name="outbox_settled_at"),
    Index(
        "outbox_due",
        "workspace",
        "receiver",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index("outbox_job", "job", "execution"),
    Index("outbox_job_id", "job", "execution_id"),
    Index("outbox_job_state", "job", "state", "execution"),
    Index(
        "outbox_settled",
        "settled_at",
        sqlite_where=text("settled_at IS NOT NULL"),
        postgresql_where=text("settled_at IS NOT NULL"),
    ),
)
"""Written in the transaction in which its execution ends; its row is the only thing that says it must be told."""
