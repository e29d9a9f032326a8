"""The tables. Alembic migrations (``migrations/``) make them; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from tidemill.model.states import BuildState, ExecutionState, JobState, TaskState
from tidemill.store.accounts_schema import account as account
from tidemill.store.accounts_schema import api_key as api_key
from tidemill.store.accounts_schema import membership as membership
from tidemill.store.accounts_schema import service_account as service_account
from tidemill.store.accounts_schema import workspace as workspace
from tidemill.store.audit_schema import audit as audit
from tidemill.store.audit_schema import audit_anchor as audit_anchor
from tidemill.store.audit_schema import audit_head as audit_head
from tidemill.store.callbacks_schema import callback as callback
from tidemill.store.callbacks_schema import outbox as outbox
from tidemill.store.columns import AnyRow as AnyRow
from tidemill.store.columns import Instant as Instant
from tidemill.store.columns import metadata as metadata
from tidemill.store.events_schema import event as event
from tidemill.store.events_schema import event_line as event_line
from tidemill.store.key_check_schema import key_check as key_check
from tidemill.store.tokens_schema import browser_session as browser_session
from tidemill.store.tokens_schema import device_code as device_code
from tidemill.store.tokens_schema import ended_token as ended_token
from tidemill.store.tokens_schema import guess as guess
from tidemill.store.tokens_schema import sign_in as sign_in
from tidemill.store.tokens_schema import signing_key as signing_key
from tidemill.store.triggers_schema import job_trigger as job_trigger
from tidemill.store.triggers_schema import tick as tick


def _state(states: type[TaskState | ExecutionState | JobState | BuildState], name: str) -> CheckConstraint:
    words = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"state IN ({words})", name=name)


job = Table(
    "job",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("workspace", String(64), nullable=False),
    Column("name", String(49), nullable=False),
    Column("state", String(16), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    # what every revision shares: the active one's wish, or what was changed since without a new revision
    Column("enabled", Integer, nullable=False, server_default="1"),
    Column(
        "extra", JSON, nullable=False, server_default="{}"
    ),  # members kept and returned: {"spec": .., "metadata": ..}
    Column("active_revision", String(64), nullable=False, server_default=""),
    Column("staged_revision", String(64), nullable=False, server_default=""),
    Column("previous_revision", String(64), nullable=False, server_default=""),  # active before the active one
    Column("canary_revision", String(64), nullable=False, server_default=""),
    Column("canary_percent", Integer, nullable=False, server_default="0"),
    Column("sticky_ttl_s", Integer, nullable=False, server_default="0"),
    Column("traffic", Integer, nullable=False, server_default="100"),
    Column("building_until", Instant),  # the state reads BUILDING until then, for clients that must see it
    Column("executions_total", Integer, nullable=False, server_default="0"),
    Column("revisions_total", Integer, nullable=False, server_default="0"),
    Column("events_total", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("terminated_at", Instant),
    _state(JobState, "job_state"),
    Index(
        "job_name",
        "workspace",
        "name",
        unique=True,
        sqlite_where=text("terminated_at IS NULL"),
        postgresql_where=text("terminated_at IS NULL"),
    ),
    Index("job_created", "workspace", "created_at", "key"),
    Index(
        "job_terminated",
        "terminated_at",
        sqlite_where=text("terminated_at IS NOT NULL"),
        postgresql_where=text("terminated_at IS NOT NULL"),
    ),
)

revision = Table(
    "revision",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("spec", JSON, nullable=False),  # service/specs.py writes it; secret values are sealed envelopes
    Column("image_digest", String(64), nullable=False, server_default="", index=True),
    Column("from_manifest", JSON, nullable=False, server_default="[]"),  # members its archive's blaxel.toml may set
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
)

job_event = Table(
    "job_event",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("type", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("revision", String(64), nullable=False),
    Column("canary_revision", String(64), nullable=False, server_default=""),
)

# what a caller runs until then, where spec.revision.stickySessionTtl is set; as many rows as a job has callers
sticky_choice = Table(
    "sticky_choice",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("caller", String(64), primary_key=True),
    Column("is_canary", Integer, nullable=False),
    Column("ends_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

image = Table(
    "image",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("name", String(49), primary_key=True),
    Column("tag", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)

upload = Table(
    "upload",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the capability in its URL
    Column("workspace", String(64), nullable=False),
    Column("job", BigInteger, nullable=False, index=True),
    Column("revision", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("building_s", Integer, nullable=False, server_default="0"),  # how long BUILDING must be seen
)

build = Table(
    "build",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("workspace", String(64), nullable=False),
    Column("job", BigInteger, nullable=False, index=True),
    Column("revision", String(64), nullable=False),
    Column("source_digest", String(64), nullable=False),  # empty for a pull
    Column("image", Text, nullable=False, server_default=""),  # of a registry, to be pulled instead of built
    Column("credentials_sealed", Text, nullable=False, server_default=""),  # for that registry, until it has ended
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("lost_in_row", Integer, nullable=False, server_default="0"),
    Column("not_before", Instant),
    Column("memory_mb", Integer, nullable=False),
    Column("timeout_s", Integer, nullable=False),
    Column("message", Text, nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    _state(BuildState, "build_state"),
    Index("build_open", "not_before", sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL")),
    Index(
        "build_ended",
        "ended_at",
        sqlite_where=text("ended_at IS NOT NULL"),
        postgresql_where=text("ended_at IS NOT NULL"),
    ),
)

input_set = Table(
    "input_set",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("workspace", String(64), nullable=False),
    Column("total", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False, index=True),
)

input_chunk = Table(
    "input_chunk",
    metadata,
    Column("input_set", BigInteger, primary_key=True),
    Column("first_index", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),  # zlib of a JSON array of the tasks' bytes as sent
    sqlite_with_rowid=False,
)

execution = Table(
    "execution",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("workspace", String(64), nullable=False),
    Column("job", BigInteger, nullable=False),
    Column("revision", String(64), nullable=False),
    Column("image_digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("input_set", BigInteger, nullable=False, index=True),
    Column("request_id", Text, nullable=False),
    Column("request_digest", String(64), nullable=False),
    Column("env_names", JSON, nullable=False),
    Column("env_sealed", Text, nullable=False, server_default=""),
    Column("extra", JSON, nullable=False, server_default="{}"),  # members of the request kept and returned
    Column("parallelism", Integer, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("memory_override_mb", Integer),
    Column("region", String(64), nullable=False, server_default=""),  # empty: any node
    Column("timeout_s", Integer, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("retry_policy", JSON, nullable=False, server_default="{}"),  # store/specs.py writes it; empty: the default
    Column("origin", BigInteger),  # of a rerun: the execution whose tasks it runs again
    Column("chain", BigInteger, nullable=False),  # the first execution that this one descends from, or itself
    Column("trigger_id", String(64), nullable=False, server_default=""),  # what started it; empty: a request
    Column("due_at", Instant),  # when that was due; null: fired by hand
    Column("force", Integer, nullable=False, server_default="0"),  # 1: running tasks are ended as well
    Column("deadline_at", Instant),  # it is ended then; null: never
    Column("timed_out", Integer, nullable=False, server_default="0"),  # 1: it was
    # counters, changed in the transaction that changes the rows they count (invariant I6)
    Column("total", Integer, nullable=False),
    Column("next_index", Integer, nullable=False, server_default="0"),  # tasks from here on have no row
    Column("waiting", Integer, nullable=False, server_default="0"),  # rows in state pending
    Column("running", Integer, nullable=False, server_default="0"),
    Column("succeeded", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("cancelled", Integer, nullable=False, server_default="0"),  # rows; the rest follows by arithmetic
    Column("retried", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("served_at", Instant, nullable=False),  # last claim; who waited longest comes first
    Column("started_at", Instant),
    Column("completed_at", Instant),
    Column("updated_at", Instant, nullable=False),
    _state(ExecutionState, "execution_state"),
    Index("execution_id", "job", "id", unique=True),
    Index("execution_workspace_id", "workspace", "id"),
    Index("execution_created", "job", "created_at", "key"),
    Index("execution_revision", "job", "revision"),
    Index("execution_chain", "chain", "key"),
    Index(
        "execution_of_trigger",
        "job",
        "trigger_id",
        sqlite_where=text("trigger_id <> '' AND completed_at IS NULL"),
        postgresql_where=text("trigger_id <> '' AND completed_at IS NULL"),
    ),
    Index(
        "execution_deadline",
        "deadline_at",
        sqlite_where=text("deadline_at IS NOT NULL AND completed_at IS NULL"),
        postgresql_where=text("deadline_at IS NOT NULL AND completed_at IS NULL"),
    ),
    Index(
        "execution_live",
        "workspace",
        "state",
        "served_at",
        sqlite_where=text("completed_at IS NULL"),
        postgresql_where=text("completed_at IS NULL"),
    ),
    Index(
        "execution_queued",
        "workspace",
        "job",
        "created_at",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "execution_completed",
        "completed_at",
        sqlite_where=text("completed_at IS NOT NULL"),
        postgresql_where=text("completed_at IS NOT NULL"),
    ),
)

# which tasks of its chain a rerun has: indices first_index .. first_index + count - 1 are those at the positions
# first_position .. of the rerun; what claims and pages count are positions. Written before the execution is made.
task_range = Table(
    "task_range",
    metadata,
    Column("execution", BigInteger, primary_key=True),
    Column("first_position", Integer, primary_key=True),
    Column("first_index", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Index("task_range_index", "execution", "first_index", unique=True),
    sqlite_with_rowid=False,
)

# executions that no read finds any more, and whose other rows are yet to go (store/forgotten.py)
forgotten = Table(
    "forgotten",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("input_set", BigInteger, nullable=False),
    Column("forgotten_at", Instant, nullable=False),
)

execution_alias = Table(
    "execution_alias",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("alias", String(256), primary_key=True),  # a request id or an Idempotency-Key
    Column("execution", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

task = Table(
    "task",
    metadata,
    Column("execution", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("charged", Integer, nullable=False, server_default="0"),  # attempts that count against maxRetries
    Column("lost_in_row", Integer, nullable=False, server_default="0"),
    Column("not_before", Instant),
    Column("reason", String(32)),
    Column("message", Text, nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("has_result", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("updated_at", Instant, nullable=False),
    _state(TaskState, "task_state"),
    Index("task_state", "execution", "state", "idx"),  # a page of those that failed, say
    # led by the execution: what a cancelled one leaves pending is never looked at again
    Index(
        "task_waiting",
        "execution",
        "not_before",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    # what failures are counted by, alone
    Index(
        "task_failed",
        "execution",
        "reason",
        "idx",
        "state",  # always 'failed' here, but without it SQLite reads the table too
        sqlite_where=text("state = 'failed'"),
        postgresql_where=text("state = 'failed'"),
    ),
    sqlite_with_rowid=False,
)

result = Table(
    "result",
    metadata,
    Column("execution", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),  # the JSON text as the task wrote it, UTF-8
    sqlite_with_rowid=False,
)

attempt = Table(
    "attempt",
    metadata,
    Column("kind", String(1), primary_key=True),  # OwnerKind
    Column("owner", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("workspace", String(64), nullable=False),
    Column("node", String(64), nullable=False),
    Column("term", Integer, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("alone", Integer, nullable=False, server_default="0"),  # 1: nothing else runs beside it on its node
    Column("claimed_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),  # NULL: live, occupies its node
    Column("cancel_sent_at", Instant),
    Column("outcome", String(16)),
    Column("message", Text, nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("peak_memory_bytes", BigInteger),
    Column("cpu_s", Float),
    Column("charged", Integer, nullable=False, server_default="0"),
    Column("superseded", Integer, nullable=False, server_default="0"),
    Column("protections", BigInteger),  # what it ran with: model/protections.py, Had; NULL: it did not, or nobody said
    Column("change", BigInteger),  # of a task: the number of its last change, see events_schema.py
    # covers all that occupancy is counted from
    Index(
        "attempt_live",
        "owner",
        "node",
        "workspace",
        "memory_mb",
        "alone",
        "cancel_sent_at",
        "ended_at",  # always NULL here, but without it SQLite reads the table too
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "attempt_change",
        "workspace",
        "change",
        sqlite_where=text("change IS NOT NULL"),
        postgresql_where=text("change IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

node = Table(
    "node",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("region", String(64), nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("lease_ttl_s", Float),  # NULL: its leases have no time to live
    Column("level", String(16), nullable=False, server_default=""),
    Column("protections", JSON, nullable=False, server_default="[]"),  # what it states of each, as model/protections.py
    Column("incarnation", String(64), nullable=False),
    Column("events_after", BigInteger, nullable=False, server_default="0"),
    Column("logs_incarnation", String(64), nullable=False, server_default=""),
    Column("logs_after", BigInteger, nullable=False, server_default="0"),
    Column("seen_at", Instant, nullable=False),
)

term = Table(
    "term",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_at", Instant, nullable=False),
)

log_block = Table(
    "log_block",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("block_id", String(96), primary_key=True),
    Column("job", BigInteger, nullable=False),
    Column("kind", String(1), nullable=False),
    Column("owner", BigInteger, nullable=False),
    Column("first_index", Integer, nullable=False),
    Column("last_index", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("lines", JSON, nullable=False),  # per severity
    Column("cut", Integer, nullable=False),
    Column("file", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("length", Integer, nullable=False),
    Index("log_block_job", "job", "last_at"),
    Index("log_block_owner", "owner", "first_at"),
    Index("log_block_age", "last_at"),
)
